"""The true law of a family, its physical parameters unknown: what the oracle fits."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.models.network import FieldNetwork
from meta_hamiltonian.systems import SimulatedSystem


@register
class ParametricHamiltonian(FieldNetwork):
    """The true H of a family as a function of its parameters, not a network. Before a fit they are the prior's mean."""

    has_energy = True
    has_head = False

    def __init__(self, system: SimulatedSystem, domain: Domain | None = None):
        """**Arguments:**

        - `system`: the family.
        - `domain`: where the states live; None is the family's own.
        """
        domain = system.domain if domain is None else domain
        super().__init__(domain.state_dim, domain=domain)
        self.system = system
        self.physical = nn.Parameter(torch.tensor(system.parameter_ranges).mean(-1))

    def forward(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch"]:
        """H(x) at the parameters before any fit."""
        return self.system.hamiltonian(x, self.physical)

    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """Equation (1) for the family's H, at the parameters before any fit."""
        return self.system.field(x, self.physical)

    def field_features(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "..."]:
        """**Raises:** `TypeError`, always: the true law is not linear in its parameters."""
        raise TypeError("the true law is not linear in its parameters: it has no features; use algo=oracle")

    def energy_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points"]:
        """The energies of many tasks, each at its own physical parameters."""
        return self.system.hamiltonian(x, parameters["physical"][:, None])

    def field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state"]:
        """Equation (1) for many tasks, each at its own physical parameters."""
        return self.system.field(x, parameters["physical"][:, None])
