"""The baseline without physics."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.models.activations import ACTIVATIONS
from meta_hamiltonian.models.body import hidden_layers
from meta_hamiltonian.models.inputs import Inputs
from meta_hamiltonian.models.network import FieldNetwork


@register
class VectorFieldNetwork(FieldNetwork):
    """A plain network that predicts dx/dt itself; nothing makes its flow conserve an energy.

    Arguments as for [`HamiltonianNetwork`][]. The head maps to the 2n derivatives and has a bias.
    """

    def __init__(
        self,
        state_dim: int = 2,
        width: int = 64,
        depth: int = 3,
        activation: str = "tanh",
        input_scale: Sequence[float] | Float[Tensor, " state"] | None = None,
        domain: Domain | None = None,
        inputs: str | None = None,
    ):
        super().__init__(state_dim, input_scale, domain)
        check_arguments(type(self), width=width, depth=depth, activation=activation)
        self.activation = ACTIVATIONS[activation]
        # A sum over the windows of a lattice is an energy's; the rates of one site are not those of another.
        self.inputs = Inputs(dataclasses.replace(self.domain, lattice=""), inputs)
        self.body = hidden_layers(self.inputs.size, width, depth, activation)
        self.head = nn.Linear(width, self.state_dim)

    def forward(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """The predicted dx/dt, as `field` gives it."""
        return self.field(x)

    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """The predicted dx/dt, straight from the head; no energy lies behind it."""
        return self.head(self.field_features(x))

    def field_features(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch width"]:
        """The last hidden layer, which the head maps linearly to dx/dt."""
        hidden = self.inputs(x)[..., 0, :]
        for layer in self.body:
            hidden = self.activation.value(layer(hidden))
        return hidden

    def field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state"]:
        """The fields of many tasks, each with its own weights, as batched matrix products."""
        parameters = dict(self.named_parameters()) | dict(parameters)
        hidden = self.inputs(x)[..., 0, :]
        for i in range(len(self.body)):
            a = hidden @ parameters[f"body.{i}.weight"].mT + parameters[f"body.{i}.bias"].unsqueeze(-2)
            hidden = self.activation.value(a)
        return hidden @ parameters["head.weight"].mT + parameters["head.bias"].unsqueeze(-2)
