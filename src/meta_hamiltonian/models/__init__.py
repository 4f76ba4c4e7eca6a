"""Networks: a Hamiltonian one and the baseline without physics."""

from meta_hamiltonian.models.activations import ACTIVATIONS
from meta_hamiltonian.models.hamiltonian import HamiltonianNetwork
from meta_hamiltonian.models.network import FieldNetwork, FieldOf, autograd_field
from meta_hamiltonian.models.parametric import ParametricHamiltonian
from meta_hamiltonian.models.vector_field import VectorFieldNetwork

__all__ = [
    "ACTIVATIONS",
    "FieldNetwork",
    "FieldOf",
    "HamiltonianNetwork",
    "ParametricHamiltonian",
    "VectorFieldNetwork",
    "autograd_field",
]
