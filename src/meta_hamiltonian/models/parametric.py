"""The true law of a family, its physical parameters unknown: what the oracle fits."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.models.network import FieldNetwork
from meta_hamiltonian.systems.system import HamiltonianSystem


class ParametricHamiltonian(FieldNetwork):
    """No network: H of the family itself, as a function of its parameters. Before any fit they are the prior's mean."""

    def __init__(
        self,
        system: HamiltonianSystem,
        state_dim: int = 2,
        input_scale: Sequence[float] | Float[Tensor, " state"] | None = None,
    ):
        """**Arguments:**

        - `system`: the family.
        - `state_dim`, `input_scale`: 2n and the half-widths of the state box, `[2n]`.
        """
        super().__init__(state_dim, input_scale)
        self.system = system
        self.physical = nn.Parameter(torch.tensor(system.parameter_ranges).mean(-1))

    def forward(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch"]:
        return self.system.hamiltonian(x, self.physical)

    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        return self.system.field(x, self.physical)

    def field_features(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "..."]:
        raise TypeError("the true law is not linear in its parameters: it has no features; use algo=oracle")

    def energy_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points"]:
        return self.system.hamiltonian(x, parameters["physical"][:, None])

    def field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state"]:
        return self.system.field(x, parameters["physical"][:, None])
