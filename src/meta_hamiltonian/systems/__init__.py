"""The physics: families of true Hamiltonians, their parameters, fields and orbits."""

from meta_hamiltonian.systems.orbits import Orbits, integrate
from meta_hamiltonian.systems.pendulum import Pendulum
from meta_hamiltonian.systems.symplectic import hamiltonian_field
from meta_hamiltonian.systems.system import HamiltonianSystem

__all__ = ["HamiltonianSystem", "Orbits", "Pendulum", "hamiltonian_field", "integrate"]
