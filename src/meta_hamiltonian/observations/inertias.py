"""Which momenta belong to observed velocities, for each member of a family."""

import dataclasses
from collections.abc import Sequence

from meta_hamiltonian.dynamics.inertia import Inertia, KineticEnergies
from meta_hamiltonian.observations.forms import Derivatives, Trajectory
from meta_hamiltonian.observations.lagrange import inertia_of


@dataclasses.dataclass(frozen=True)
class Inertias:
    """The mass matrices of a family's members.

    - `numbers`: the inertia of each coordinate, the same for all members, where `energies` is None.
    - `energies`: what is known of the mass matrices of the family, where each member has one of its own.
    """

    numbers: tuple[float, ...]
    energies: KineticEnergies | None = None

    def of(self, observations: Derivatives | Sequence[Trajectory]) -> Inertia:
        """That with which momenta of the member with these observations are found, where they were not recorded."""
        given = isinstance(observations, Derivatives) or observations[0].p is not None
        if given or self.energies is None or self.energies.recorded:
            return Inertia.of(self.numbers, len(self.numbers))
        return inertia_of(self.energies, observations)
