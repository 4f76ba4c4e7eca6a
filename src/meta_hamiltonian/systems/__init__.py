"""The physics: families of true Hamiltonians, their parameters, fields and orbits."""

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Coordinate, Domain, Exclusion, Orbits, hamiltonian_field, integrate
from meta_hamiltonian.systems.base import SimulatedSystem, System
from meta_hamiltonian.systems.pendulum import Pendulum

HamiltonianSystem = SimulatedSystem
"""The name that families were subclassed from before some had no known Hamiltonian."""

__all__ = [
    "Coordinate",
    "Domain",
    "Exclusion",
    "HamiltonianSystem",
    "Orbits",
    "Pendulum",
    "SimulatedSystem",
    "System",
    "hamiltonian_field",
    "integrate",
    "register",
]
