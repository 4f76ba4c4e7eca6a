"""The physics: families of true Hamiltonians, their parameters, fields and orbits."""

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Coordinate, Domain, Exclusion, Orbits, hamiltonian_field, integrate
from meta_hamiltonian.systems.base import Resistance, SimulatedSystem, System
from meta_hamiltonian.systems.damped import Damped
from meta_hamiltonian.systems.driven import Driven
from meta_hamiltonian.systems.duffing import Duffing
from meta_hamiltonian.systems.pendulum import Pendulum
from meta_hamiltonian.systems.spring import Spring

HamiltonianSystem = SimulatedSystem
"""The name that families were subclassed from before some had no known Hamiltonian."""

__all__ = [
    "Coordinate",
    "Damped",
    "Domain",
    "Driven",
    "Duffing",
    "Exclusion",
    "HamiltonianSystem",
    "Orbits",
    "Pendulum",
    "Resistance",
    "SimulatedSystem",
    "Spring",
    "System",
    "hamiltonian_field",
    "integrate",
    "register",
]
