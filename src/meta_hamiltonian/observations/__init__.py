"""What a user observed: files, smooth curves through them, and states in canonical coordinates."""

from meta_hamiltonian.observations.canonical import CanonicalTrajectory, Trend, canonical, in_between, well_known_points
from meta_hamiltonian.observations.forms import Derivatives, Inputs, ObservationError, Trajectory
from meta_hamiltonian.observations.motion import without_rest
from meta_hamiltonian.observations.read import Reading, read, read_observations

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
    "well_known_points",
    "without_rest",
]
