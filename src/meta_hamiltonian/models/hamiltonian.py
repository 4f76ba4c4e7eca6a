"""The Hamiltonian neural network."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.models.activations import ACTIVATIONS
from meta_hamiltonian.models.body import hidden_layers
from meta_hamiltonian.models.network import FieldNetwork
from meta_hamiltonian.systems import Resistance


@register
class HamiltonianNetwork(FieldNetwork):
    """H_θ(x) = w · φ((x − centre) / state_box): hidden layers φ (the body) and a linear head w.

    The head has no bias, since a constant in H moves nothing and gets no gradient from the loss. The field is
    computed as explicit matrix products, forward and transposed, so that training pays for one
    order of automatic differentiation less than with the gradient of `forward`.

    ??? cite "Reference"

        Greydanus, Dzamba, Yosinski: Hamiltonian neural networks. NeurIPS 2019. arXiv:1906.01563.
    """

    has_energy = True
    has_layers = True

    def __init__(
        self,
        state_dim: int = 2,
        width: int = 64,
        depth: int = 3,
        activation: str = "tanh",
        input_scale: Sequence[float] | Float[Tensor, " state"] | None = None,
        domain: Domain | None = None,
    ):
        """**Arguments:**

        - `state_dim`: 2n, the canonical coordinates (q, p).
        - `width`, `depth`: size and number of the hidden layers.
        - `activation`: tanh, softplus, sin or silu.
        - `input_scale`: half-widths of the state box, `[2n]`, by which the inputs are divided; None is 1 for all.
        - `domain`: where the states live, instead of `state_dim` and `input_scale`.
        """
        super().__init__(state_dim, input_scale, domain)
        check_arguments(type(self), width=width, depth=depth, activation=activation)
        self.activation = ACTIVATIONS[activation]
        self.body = hidden_layers(self.state_dim, width, depth, activation)
        self.head = nn.Linear(width, 1, bias=False)

    @classmethod
    def settings_for_friction(cls, settings: Mapping[str, Any], resistance: Resistance | None) -> dict[str, Any]:
        """Those of a [`DissipativeNetwork`][], since an energy by itself is conserved."""
        if cls is not HamiltonianNetwork:
            return dict(settings)
        known = {} if resistance is None else {"friction": resistance.kind, "damped": resistance.damped}
        return {**settings, "_target_": "meta_hamiltonian.models.DissipativeNetwork", **known}

    def forward(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch"]:
        """The learned energy H_θ(x), known up to a constant."""
        return self.energy_with(dict(self.named_parameters()), x)

    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """Equation (1), dx/dt = Ω ∇ₓH_θ(x)."""
        return self.field_with(dict(self.named_parameters()), x)

    def energy_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch"]:
        """The learned energies of many tasks; arguments as for `field_with`."""
        layers, head = self.layers(parameters)
        hidden, _ = self._forward(layers, x)
        return (hidden * head).sum(-1)

    def field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) for many tasks, with ∇ₓH_θ carried back through the transposed layers."""
        layers, head = self.layers(parameters)
        _, slopes = self._forward(layers, x)
        gradient = head * slopes[-1]  # ∂H/∂a of the last hidden layer, carried back through the transposed layers
        for (weight, _), slope in zip(layers[:0:-1], slopes[-2::-1], strict=True):
            gradient = (gradient @ weight) * slope
        return hamiltonian_field(gradient @ layers[0][0] / self.state_box)

    def field_features(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state width"]:
        """A(x) = Ω (∂φ/∂x)ᵀ, so that the field is A(x) w: linear in the head."""
        layers, _ = self.layers(dict(self.named_parameters()))
        _, slopes = self._forward(layers, x)
        tangents = (layers[0][0] / self.state_box).mT * slopes[0].unsqueeze(-2)
        for (weight, _), slope in zip(layers[1:], slopes[1:], strict=True):
            tangents = (tangents @ weight.mT) * slope.unsqueeze(-2)
        return hamiltonian_field(tangents.mT).mT

    def features_and_jacobian(
        self, x: Float[Tensor, "points state"], head: Float[Tensor, "features outputs"]
    ) -> tuple[Float[Tensor, "points state width"], Float[Tensor, "points state state"]]:
        """A(x), and Ω ∇²H(x), written out where there is one hidden layer."""
        if len(self.body) > 1 or len(head) > self.head.in_features or not self.has_layers:
            return super().features_and_jacobian(x, head)
        with torch.no_grad():
            ((weight, bias),), _ = self.layers(dict(self.named_parameters()))
            _, first, second, _ = self.activation.derivatives(F.linear(self.normalized(x), weight, bias))
            inner = weight / self.state_box
            features = hamiltonian_field(first.unsqueeze(-1) * inner).mT
            hessian = torch.einsum("pw,wi,wj->pij", second * head[:, 0], inner, inner)
            return features, hamiltonian_field(hessian.mT).mT

    def layers(self, parameters: Mapping[str, Tensor]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """(weight, bias) of each hidden layer, and the head as a row; `parameters` before the network's own."""
        layers = []
        for i, layer in enumerate(self.body):
            weight = parameters.get(f"body.{i}.weight", layer.weight)
            bias = parameters.get(f"body.{i}.bias", layer.bias)
            layers.append((weight, bias))
        head = parameters.get("head.weight", self.head.weight)
        return layers, head[0] if head.dim() == 2 else head

    def _forward(self, layers: list[tuple[Tensor, Tensor]], x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The last hidden layer, and σ′ at every one of them."""
        hidden, slopes = self.normalized(x), []
        for weight, bias in layers:
            if weight.dim() == bias.dim() + 1 == 2:  # shared by all tasks: one matrix product
                a = F.linear(hidden, weight, bias)
            elif weight.dim() == bias.dim() + 1:
                a = torch.baddbmm(bias.unsqueeze(1), hidden, weight.mT)
            else:  # one of the two is shared
                a = hidden @ weight.mT + bias.unsqueeze(-2)
            hidden = self.activation.value(a)
            slopes.append(self.activation.derivative(a, hidden))
        return hidden, slopes
