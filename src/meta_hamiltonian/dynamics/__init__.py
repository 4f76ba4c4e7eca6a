"""What a system is made of: its structure, the domain of its states, its orbits."""

from typing import TYPE_CHECKING

from meta_hamiltonian.basics.lazy import lazily

if TYPE_CHECKING:
    from meta_hamiltonian.dynamics.domain import Coordinate, Domain, Exclusion, Singularity
    from meta_hamiltonian.dynamics.dop853 import Field
    from meta_hamiltonian.dynamics.forces import Forces, Signal, Terms, inputs_at
    from meta_hamiltonian.dynamics.friction import FRICTION
    from meta_hamiltonian.dynamics.inertia import Inertia, KineticEnergies
    from meta_hamiltonian.dynamics.orbits import Orbits, integrate
    from meta_hamiltonian.dynamics.reference import reference_orbits
    from meta_hamiltonian.dynamics.solver import solve
    from meta_hamiltonian.dynamics.structure import autograd_field, hamiltonian_field

__all__ = [
    "FRICTION",
    "Coordinate",
    "Domain",
    "Exclusion",
    "Field",
    "Forces",
    "Inertia",
    "KineticEnergies",
    "Orbits",
    "Signal",
    "Singularity",
    "Terms",
    "autograd_field",
    "hamiltonian_field",
    "inputs_at",
    "integrate",
    "reference_orbits",
    "solve",
]

__getattr__ = lazily(
    __name__,
    {
        "domain": (
            "Coordinate",
            "Domain",
            "Exclusion",
            "Singularity",
        ),
        "dop853": ("Field",),
        "forces": (
            "Forces",
            "Signal",
            "Terms",
            "inputs_at",
        ),
        "friction": ("FRICTION",),
        "inertia": ("Inertia", "KineticEnergies"),
        "orbits": (
            "Orbits",
            "integrate",
        ),
        "reference": ("reference_orbits",),
        "solver": ("solve",),
        "structure": (
            "autograd_field",
            "hamiltonian_field",
        ),
    },
)
