"""What a user observed: files, smooth curves through them, and states in canonical coordinates."""

from typing import TYPE_CHECKING

from meta_hamiltonian.basics.lazy import lazily
from meta_hamiltonian.observations.forms import Derivatives, Inputs, ObservationError, Trajectory
from meta_hamiltonian.observations.motion import without_rest
from meta_hamiltonian.observations.read import Reading, read, read_observations

if TYPE_CHECKING:
    from meta_hamiltonian.observations.canonical_states import (
        CanonicalTrajectory,
        Trend,
        canonical,
        in_between,
        well_known_points,
    )
    from meta_hamiltonian.observations.signals import signals_of

__all__ = [
    "CanonicalTrajectory",
    "Derivatives",
    "Inputs",
    "ObservationError",
    "Reading",
    "Trajectory",
    "Trend",
    "canonical",
    "in_between",
    "read",
    "read_observations",
    "signals_of",
    "well_known_points",
    "without_rest",
]

# These need PyTorch; to read a file needs none.
_OF_STATES = ("CanonicalTrajectory", "Trend", "canonical", "in_between", "well_known_points")
__getattr__ = lazily(__name__, {"canonical_states": _OF_STATES, "signals": ("signals_of",)})
