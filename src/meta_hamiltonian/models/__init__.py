"""Networks, Hamiltonian or without physics, and what becomes of one that is adapted to a system."""

from meta_hamiltonian.dynamics import autograd_field
from meta_hamiltonian.models.activations import ACTIVATIONS
from meta_hamiltonian.models.adapted import Adapted, AdaptedSystems, StoppedOrbitWarning
from meta_hamiltonian.models.dissipative import DissipativeNetwork
from meta_hamiltonian.models.hamiltonian import HamiltonianNetwork
from meta_hamiltonian.models.natural import NaturalNetwork
from meta_hamiltonian.models.network import FieldNetwork, FieldOf
from meta_hamiltonian.models.parametric import ParametricHamiltonian
from meta_hamiltonian.models.vector_field import VectorFieldNetwork

__all__ = [
    "ACTIVATIONS",
    "Adapted",
    "AdaptedSystems",
    "DissipativeNetwork",
    "FieldNetwork",
    "FieldOf",
    "HamiltonianNetwork",
    "NaturalNetwork",
    "ParametricHamiltonian",
    "StoppedOrbitWarning",
    "VectorFieldNetwork",
    "autograd_field",
]
