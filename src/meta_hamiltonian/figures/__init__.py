"""Every plot."""

from meta_hamiltonian.figures.run import streamlines, training, trajectories
from meta_hamiltonian.figures.shown import Prediction, Shown
from meta_hamiltonian.figures.style import new_figure, save
from meta_hamiltonian.figures.sweep import comparison, fields_side_by_side, orbits_side_by_side

__all__ = [
    "Prediction",
    "Shown",
    "comparison",
    "fields_side_by_side",
    "new_figure",
    "orbits_side_by_side",
    "save",
    "streamlines",
    "training",
    "trajectories",
]
