"""The physics: families of true Hamiltonians, their parameters, fields and orbits."""

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Coordinate, Domain, Exclusion, Orbits, Singularity, hamiltonian_field, integrate
from meta_hamiltonian.systems.base import Resistance, SimulatedSystem, System
from meta_hamiltonian.systems.chain import Chain
from meta_hamiltonian.systems.damped import Damped
from meta_hamiltonian.systems.double_pendulum import DoublePendulum
from meta_hamiltonian.systems.driven import Driven
from meta_hamiltonian.systems.duffing import Duffing
from meta_hamiltonian.systems.henon_heiles import HenonHeiles
from meta_hamiltonian.systems.kepler import Kepler
from meta_hamiltonian.systems.lotka_volterra import LotkaVolterra
from meta_hamiltonian.systems.mixture import Mixture
from meta_hamiltonian.systems.pendulum import Pendulum
from meta_hamiltonian.systems.recorded import Recorded
from meta_hamiltonian.systems.spring import Spring
from meta_hamiltonian.systems.spring_pendulum import SpringPendulum
from meta_hamiltonian.systems.two_body import TwoBody

HamiltonianSystem = SimulatedSystem
"""The name that families were subclassed from before some had no known Hamiltonian."""

__all__ = [
    "Chain",
    "Coordinate",
    "Damped",
    "Domain",
    "DoublePendulum",
    "Driven",
    "Duffing",
    "Exclusion",
    "HamiltonianSystem",
    "HenonHeiles",
    "Kepler",
    "LotkaVolterra",
    "Mixture",
    "Orbits",
    "Pendulum",
    "Recorded",
    "Resistance",
    "SimulatedSystem",
    "Singularity",
    "Spring",
    "SpringPendulum",
    "System",
    "TwoBody",
    "hamiltonian_field",
    "integrate",
    "register",
]
