"""What a user observed: files, smooth curves through them, and states in canonical coordinates."""

from meta_hamiltonian.observations.canonical import CanonicalTrajectory, canonical, well_known_points
from meta_hamiltonian.observations.forms import Derivatives, ObservationError, Trajectory
from meta_hamiltonian.observations.read import read_observations

__all__ = [
    "CanonicalTrajectory",
    "Derivatives",
    "ObservationError",
    "Trajectory",
    "canonical",
    "read_observations",
    "well_known_points",
]
