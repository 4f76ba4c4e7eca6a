"""The Hamiltonian neural network."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.models.activations import ACTIVATIONS
from meta_hamiltonian.models.body import hidden_layers
from meta_hamiltonian.models.inputs import Inputs, widen
from meta_hamiltonian.models.network import FieldNetwork
from meta_hamiltonian.systems import Resistance


@register
class HamiltonianNetwork(FieldNetwork):
    """H_θ(x) = w · φ(u(x)): hidden layers φ (the body) and a linear head w.

    The input u of the body is (x − centre) / state_box, or what [`Inputs`][] makes of the kinds of coordinates; on a
    lattice φ is a sum over windows. The head has no bias, since a constant in H moves nothing and gets no gradient from
    the loss. The field is computed as explicit matrix products, forward and transposed, so that training needs one
    order of automatic differentiation less than with the gradient of `forward`.

    ??? cite "Reference"

        Greydanus, Dzamba, Yosinski: Hamiltonian neural networks. NeurIPS 2019. arXiv:1906.01563.
    """

    has_energy = True
    takes_latents = True

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
        """**Arguments:**

        - `state_dim`: 2n, the canonical coordinates (q, p).
        - `width`, `depth`: size and number of the hidden layers.
        - `activation`: tanh, softplus, sin or silu.
        - `input_scale`: half-widths of the state box, `[2n]`, by which the inputs are divided; None is 1 for all.
        - `domain`: where the states live, instead of `state_dim` and `input_scale`.
        - `inputs`: raw or natural, see [`Inputs`][]; None is raw.
        """
        super().__init__(state_dim, input_scale, domain)
        check_arguments(type(self), width=width, depth=depth, activation=activation)
        self.activation = ACTIVATIONS[activation]
        self.inputs = Inputs(self.domain, inputs)
        self.has_layers = self.inputs.scaled
        self.body = hidden_layers(self.inputs.size, width, depth, activation)
        self.head = nn.Linear(width, 1, bias=False)

    @classmethod
    def settings_for_friction(cls, settings: Mapping[str, Any], resistance: Resistance | None) -> dict[str, Any]:
        """The settings of a [`DissipativeNetwork`][], since an energy by itself is conserved."""
        if cls is not HamiltonianNetwork:
            return dict(settings)
        known = {} if resistance is None else {"friction": resistance.kind, "damped": resistance.damped}
        return {**settings, "_target_": "meta_hamiltonian.models.DissipativeNetwork", **known}

    @classmethod
    def settings_for_solved_head(cls, settings: Mapping[str, Any], degree: int) -> dict[str, Any]:
        """The settings of a [`NaturalNetwork`][], where inputs are natural and one hidden layer was asked for."""
        if cls is not HamiltonianNetwork or settings.get("inputs") != "natural" or settings["depth"] > 1:
            return dict(settings)
        target = "meta_hamiltonian.models.NaturalNetwork"
        return {"_target_": target, "width": settings["width"], "inputs": "natural", "degree": degree}

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
        x = self.beside(x, parameters)
        hidden, _ = self._forward(layers, self._rows(x))
        energy = (hidden * head).sum(-1)
        return energy.reshape(*x.shape[:-1], self.inputs.windows).sum(-1)

    def field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) for many tasks, with ∇ₓH_θ carried back through the transposed layers."""
        layers, head = self.layers(parameters)
        inputs = self.beside(x, parameters)
        _, slopes = self._forward(layers, self._rows(inputs))
        gradient = head * slopes[-1]  # ∂H/∂a of the last hidden layer, carried back through the transposed layers
        for (weight, _), slope in zip(layers[:0:-1], slopes[-2::-1], strict=True):
            gradient = (gradient @ weight) * slope
        gradient = gradient @ layers[0][0]
        if self.inputs.scaled:
            return hamiltonian_field(gradient.reshape(x.shape) / self.state_box)
        rows = self.inputs.slopes(inputs) @ gradient.reshape(*x.shape[:-1], self.inputs.windows, -1, 1)
        return hamiltonian_field(self.inputs.gathered(rows)[..., 0])

    @property
    def latents(self) -> int:
        """How many latents the features depend on, beside the state."""
        return self.inputs.latents

    def rescale_latents(self, mean: Float[Tensor, " latents"], scale: Float[Tensor, " latents"]) -> None:
        """Puts mean + scale z in the place of z, in the weights of the first layer."""
        self.inputs.rescale_latents(cast(nn.Linear, self.body[0]), mean, scale)

    def domain_of(self, z: Float[Tensor, " latents"]) -> Domain:
        """The domain without the surroundings of the singularities of a member with these latents."""
        return self.inputs.domain_of(z)

    def set_latents(self, count: int) -> None:
        """Gives the first layer `count` latents."""
        if not self.takes_latents:
            return super().set_latents(count)
        kept, before = self.inputs.size - self.inputs.added, self.inputs.added
        self.inputs.set_latents(count)
        self.has_layers = self.inputs.scaled
        widen(cast(nn.Linear, self.body[0]), kept, before, self.inputs.added)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        if self.takes_latents:
            self.set_latents(self.inputs.latents_of(state_dict.get(f"{prefix}body.0.weight")))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def field_features(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch state width"]:
        """A(x) = Ω (∂φ/∂x)ᵀ, so that the field is A(x) w: linear in the head."""
        layers, _ = self.layers(dict(self.named_parameters()))
        _, slopes = self._forward(layers, self.inputs(x))
        first = layers[0][0]
        tangents = (first / self.state_box).mT if self.inputs.scaled else self.inputs.slopes(x) @ first.mT
        tangents = tangents * slopes[0].unsqueeze(-2)
        for (weight, _), slope in zip(layers[1:], slopes[1:], strict=True):
            tangents = (tangents @ weight.mT) * slope.unsqueeze(-2)
        return hamiltonian_field(self.inputs.gathered(tangents).mT).mT

    def latent_slopes(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state latents"]:
        """∂f/∂z of many tasks: the rates along z of ∂H/∂u, carried forward and back through the layers."""
        layers, head = self.layers(parameters)
        x = self.beside(x, parameters)
        u = self.inputs(x)
        head = head if head.dim() == 1 else head[:, None]
        hidden, firsts, seconds = u, [], []
        for weight, bias in layers:
            value, first, second, _ = self.activation.derivatives(F.linear(hidden, weight, bias))
            hidden = value
            firsts.append(first)
            seconds.append(second)

        def back(last: Tensor) -> list[Tensor]:
            """∂H/∂h of every layer."""
            each = [last]
            for (weight, _), first in zip(layers[:0:-1], firsts[:0:-1], strict=True):
                each.append((each[-1] * first) @ weight)
            return each[::-1]

        of_hidden = back(head.expand_as(hidden))
        gradient = (of_hidden[0] * firsts[0]) @ layers[0][0]
        moved, mixed = self.inputs.by_latents(x, gradient)
        columns = []
        for along in moved.unbind(-1):
            rates = []  # of a at every layer
            for (weight, _), first in zip(layers, firsts, strict=True):
                rates.append(along @ weight.mT)
                along = first * rates[-1]
            of_rate = torch.zeros_like(hidden)
            for i in range(len(layers) - 1, -1, -1):
                of_rate = (of_rate * firsts[i] + of_hidden[i] * seconds[i] * rates[i]) @ layers[i][0]
            columns.append(of_rate)
        rows = self.inputs.slopes(x) @ torch.stack(columns, dim=-1) + mixed
        return hamiltonian_field(self.inputs.gathered(rows).mT).mT

    def features_and_jacobian(
        self,
        x: Float[Tensor, "points state"],
        head: Float[Tensor, "features outputs"],
        z: Float[Tensor, " latents"] | None = None,
    ) -> tuple[Float[Tensor, "points state width"], Float[Tensor, "points state state"]]:
        """A(x), and Ω ∇²H(x), written out where there is one hidden layer and one window."""
        if len(self.body) > 1 or len(head) != self.body[-1].out_features or self.inputs.windows > 1:
            return super().features_and_jacobian(x, head, z)
        with torch.no_grad():
            x = self.beside(x, {} if z is None else {"latents": z})
            ((weight, bias),), _ = self.layers(dict(self.named_parameters()))
            _, first, second, _ = self.activation.derivatives(F.linear(self.inputs(x)[..., 0, :], weight, bias))
            inner = self.inputs.slopes(x)[..., 0, :, :] @ weight.mT
            features = hamiltonian_field((first.unsqueeze(-2) * inner).mT).mT
            hessian = (inner * (second * head[:, 0]).unsqueeze(-2)) @ inner.mT
            if not self.inputs.scaled:
                hessian = (
                    hessian + self.inputs.curvature(x, ((first * head[:, 0]) @ weight).unsqueeze(-2))[..., 0, :, :]
                )
            return features, hamiltonian_field(hessian.mT).mT

    def body_jacobian(
        self, x: Float[Tensor, "points inputs"], columns: Float[Tensor, "points features outputs"]
    ) -> Float[Tensor, "points state weights"]:
        """∂f/∂θ of the body, written out layer by layer.

        With δ = ∂H/∂a at a layer's inputs a = W h + b, and a dot for the rate along a coordinate, ∂H/∂W = δ hᵀ gives

        - ∂(∂H/∂x)/∂W = δ̇ hᵀ + δ ḣᵀ, and δ̇ for b,

        where ḣ is carried forward through the layers, and δ and δ̇ back.
        """
        if columns.shape[-2] != self.body[-1].out_features:
            return super().body_jacobian(x, columns)
        with torch.no_grad():
            layers, _ = self.layers(dict(self.named_parameters()))
            u, slopes = self.inputs(x), self.inputs.slopes(x)
            alone = self.inputs.windows == 1
            if alone:  # all is linear in these rates, so that Ω is applied to the few of them
                slopes = hamiltonian_field(slopes.mT).mT
            inputs, rates, bends = [u], [slopes], []
            for weight, bias in layers:
                value, first, second, _ = self.activation.derivatives(F.linear(inputs[-1], weight, bias))
                along = rates[-1] @ weight.mT  # ȧ, [points, windows, local, width]
                inputs.append(value)
                rates.append(along * first.unsqueeze(-2))
                bends.append((first, second.unsqueeze(-2) * along))
            sizes = [part.numel() for layer in layers for part in layer]
            rows = x.new_empty(*slopes.shape[:-1], sum(sizes))
            parts = rows.split(sizes, dim=-1)
            of_value, of_rate = columns[:, None, :, 0], None  # ∂H/∂h, and its rates; those of the head are 0
            for i in range(len(layers) - 1, -1, -1):
                weight, (first, bent) = layers[i][0], bends[i]
                own = of_value * first
                rate = of_value.unsqueeze(-2) * bent
                if of_rate is not None:
                    rate.addcmul_(of_rate, first.unsqueeze(-2))
                products = parts[2 * i].unflatten(-1, weight.shape)
                torch.mul(rate.unsqueeze(-1), inputs[i][..., None, None, :], out=products)
                products.addcmul_(own[..., None, :, None], rates[i].unsqueeze(-2))
                parts[2 * i + 1].copy_(rate)
                if i:
                    of_value, of_rate = own @ weight, rate @ weight
            rows = self.inputs.gathered(rows)
            return rows if alone else hamiltonian_field(rows.mT).mT

    def layers(self, parameters: Mapping[str, Tensor]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """(weight, bias) of each hidden layer, and the head as a row; `parameters` before the network's own."""
        layers = []
        for i, layer in enumerate(self.body):
            weight = parameters.get(f"body.{i}.weight", layer.weight)
            bias = parameters.get(f"body.{i}.bias", layer.bias)
            layers.append((weight, bias))
        head = parameters.get("head.weight", self.head.weight)
        return layers, head[0] if head.dim() == 2 else head

    def _rows(self, x: Tensor) -> Tensor:
        """What the body is given, the windows of each point below each other."""
        u = self.inputs(x)
        return u.flatten(-3, -2) if u.dim() > 2 else u

    def _forward(self, layers: list[tuple[Tensor, Tensor]], u: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The last hidden layer, and σ′ at every one of them."""
        hidden, slopes = u, []
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
