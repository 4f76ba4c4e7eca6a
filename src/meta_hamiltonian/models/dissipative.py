"""A Hamiltonian network with a dissipation beside its energy."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import ConfigError, check_arguments
from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.dynamics.friction import FRICTION
from meta_hamiltonian.models.hamiltonian import HamiltonianNetwork
from meta_hamiltonian.systems import Resistance

# How far apart, as factors, the widths are at which dry friction is smoothed in momenta, and the widest of them, in
# units of the box.
_WIDEST, _NARROWER, _WIDTHS = 0.5, 0.5, 10
# How steeply a learned force may set in at first, in units of the box.
_STEEPEST = 8.0


@register
class DissipativeNetwork(HamiltonianNetwork):
    """H_θ(x) = w · φ(x) and a Rayleigh function D_θ(p) = c · ψ(p): the field is Ω ∇H − (0, ∇ₚ D).

    One head holds (w, c), in which the field is linear. In ψ momenta are in units of the box. They take the place of
    velocities, which is exact where v is p over a constant mass. For a known kind of friction, ψ has

    - viscous: pᵢ²/2,
    - quadratic: |pᵢ|³/3,
    - dry: s log cosh(pᵢ/s) for ten widths s, since a speed below which it is smoothed is another momentum for
        every mass,

    one function for each momentum. For an unknown kind, ψ is a second network. It has the form of D-HNN, but D is a
    function of momenta alone: a sum of multiples of softplus(u · p + b) + softplus(−u · p + b), which are even and
    convex. With positive c these sums are all the dissipations whose force grows with the momentum; other dissipations
    need some negative c.

    Training is free to choose c. A prediction never gains energy, since `field_with` removes from the force F the part
    with a positive power v · F, where v = ∂H/∂p: the force becomes F − max(0, v · F) v / |v|².

    ??? cite "Reference"

        Greydanus, Sosanya: Dissipative Hamiltonian neural networks: learning dissipative and conservative dynamics
        separately. 2022. arXiv:2201.10085.
    """

    takes_latents = False

    def __init__(
        self,
        state_dim: int = 2,
        width: int = 64,
        depth: int = 3,
        activation: str = "tanh",
        input_scale: Sequence[float] | Float[Tensor, " state"] | None = None,
        domain: Domain | None = None,
        friction: str | None = None,
        friction_width: int = 16,
        damped: int | None = None,
        inputs: str | None = None,
    ):
        """**Arguments** beside those of [`HamiltonianNetwork`][]:

        - `friction`: its kind, viscous, quadratic or dry; None is any, to be learned.
        - `friction_width`: how many functions ψ has where the kind is None.
        - `damped`: the number of degrees of freedom that friction acts on, the first ones; None is all.
        """
        super().__init__(state_dim, width, depth, activation, input_scale, domain, inputs)
        self.has_layers = False
        check_arguments(type(self), friction=friction, friction_width=friction_width, damped=damped)
        n = self.domain.degrees_of_freedom
        self.damped = n if damped is None else damped
        if self.damped > n:
            raise ValueError(f"damped={damped} is not allowed: there are {n} degrees of freedom, and None is all")
        self.friction = friction
        self.widths = [_WIDEST * _NARROWER**i for i in range(_WIDTHS)] if friction == "dry" else [1.0]
        if friction is None:
            self.friction_body = nn.Linear(self.damped, friction_width)
            # Thresholds all over the box, where a force sets in.
            nn.init.uniform_(self.friction_body.weight, -_STEEPEST, _STEEPEST)
            nn.init.uniform_(self.friction_body.bias, -_STEEPEST, 0.0)
        self.energy_width = width
        columns = friction_width if friction is None else self.damped * len(self.widths)
        self.head = nn.Linear(width + columns, 1, bias=False)

    @classmethod
    def settings_for_friction(cls, settings: Mapping[str, Any], resistance: Resistance | None) -> dict[str, Any]:
        """The settings for the degrees of freedom that the family's friction acts on."""
        damped = settings.get("damped") or (resistance.damped if resistance else None)
        return {**settings, "damped": damped}

    @property
    def hidden_layers(self) -> dict[str, nn.Linear]:
        """The layers of both networks. A known kind of friction has a coefficient and no layers."""
        if self.friction is not None:
            raise ConfigError(
                f"model.friction={self.friction} is not allowed with this learner: the coefficient is a weight of the "
                "head, which all members share; leave model.friction out, and a network learns the friction"
            )
        return super().hidden_layers

    def layers(self, parameters: Mapping[str, Tensor]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """(weight, bias) of each hidden layer of φ, and w."""
        layers, head = super().layers(parameters)
        return layers, head[..., : self.energy_width]

    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """Ω ∇H − (0, ∇ₚ D), without the part of the force that would bring energy in."""
        return self.field_with(dict(self.named_parameters()), x)

    def field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch state"]:
        """The field of many tasks, less what would bring energy in."""
        conservative = super().field_with(parameters, x)
        force = self.force_with(parameters, x)
        v = conservative[..., : self.damped]
        power = (v * force).sum(-1, keepdim=True)
        speed = v.square().sum(-1, keepdim=True)
        gains = power > 0  # nowhere where v is 0
        force = force - torch.where(gains, power / torch.where(gains, speed, 1.0), 0.0) * v
        return self._with_force(conservative, force)

    def linear_field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch state"]:
        """Ω ∇H − (0, ∇ₚ D) with any c."""
        return self._with_force(super().field_with(parameters, x), self.force_with(parameters, x))

    def linear_field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """Ω ∇H − (0, ∇ₚ D) with any c, with the network's own weights."""
        return self.linear_field_with(dict(self.named_parameters()), x)

    def field_features(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state width"]:
        """Ω (∂φ/∂x)ᵀ, and −∂ψ/∂p beside it."""
        conservative = super().field_features(x)
        forces = self._forces(dict(self.named_parameters()), x)
        above = forces.new_zeros(*forces.shape[:-2], self.state_dim // 2, forces.shape[-1])
        below = above[..., self.damped :, :]
        return torch.cat([conservative, torch.cat([above, forces, below], dim=-2)], dim=-1)

    def force_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch damped"]:
        """The force −∇ₚ D of many tasks on the degrees of freedom that it acts on, without any constraint."""
        head = parameters.get("head.weight", self.head.weight)
        c = head[..., 0, self.energy_width :]
        if head.dim() > 2:  # a row a task, before the dimension of its points
            c = c[:, None]
        return (self._forces(parameters, x) * c.unsqueeze(-2)).sum(-1)

    def _forces(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch damped columns"]:
        """−∂ψ/∂p of every function."""
        n = self.state_dim // 2
        p = x[..., n : n + self.damped] / self.state_box[n : n + self.damped]
        if self.friction is None:
            return self._learned_forces(parameters, p)
        force = FRICTION[self.friction].force
        each = torch.stack([-force(p, width) for width in self.widths], dim=-1)  # [..., damped, widths]
        own = torch.eye(self.damped, dtype=p.dtype, device=p.device)[..., None]
        return (each.unsqueeze(-2) * own).flatten(-2)

    def _learned_forces(self, parameters: Mapping[str, Tensor], p: Tensor) -> Tensor:
        weight = parameters.get("friction_body.weight", self.friction_body.weight)
        bias = parameters.get("friction_body.bias", self.friction_body.bias)
        a = p @ weight.mT
        bias = bias if bias.dim() == 1 else bias[:, None]
        weight = weight if weight.dim() == 2 else weight[:, None]
        slopes = torch.sigmoid(bias - a) - torch.sigmoid(bias + a)
        # Together as large as the one function of a known kind: gradient steps have one rate for the whole head.
        return slopes.unsqueeze(-2) * weight.mT / (_STEEPEST * slopes.shape[-1] ** 0.5)

    def _with_force(self, field: Tensor, force: Tensor) -> Tensor:
        n = self.state_dim // 2
        return torch.cat(
            [field[..., :n], field[..., n : n + self.damped] + force, field[..., n + self.damped :]], dim=-1
        )
