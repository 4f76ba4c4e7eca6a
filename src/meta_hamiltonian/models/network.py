"""The interface of every network to the learners, whatever the network is made of."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meta_hamiltonian.config import ConfigError
from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.models.activations import Activation
from meta_hamiltonian.systems import Resistance


class FieldNetwork(nn.Module, abc.ABC):
    """A network that predicts a vector field and is linear in its `head`.

    To add one, write `field` and `field_features`. `field_with` works for any network; override it where the
    field can be had with fewer operations, and where MAML's step is to be compiled.
    """

    has_energy: ClassVar[bool] = False
    """Whether its field is that of a learned energy, `energy_with`."""
    has_layers: bool = False
    """Whether `layers` and `activation` tell all of its energy, so that gradients can be written out."""
    has_head: ClassVar[bool] = True
    """Whether its field is linear in a `head`, with `field_features`."""
    takes_latents: ClassVar[bool] = False
    """Whether features may depend on numbers of each member beside the state, see `set_latents`."""
    takes_kinetic_energies: bool = False
    """Whether the kinetic energies that its domain may have become features."""

    head: nn.Linear
    activation: Activation
    state_box: Tensor
    """Half-widths by which the inputs are divided, shape `[2n]`."""
    centre: Tensor
    """What is subtracted from the inputs before they are divided, shape `[2n]`."""

    def __init__(
        self,
        state_dim: int,
        input_scale: Sequence[float] | Float[Tensor, " state"] | None = None,
        domain: Domain | None = None,
    ):
        """**Arguments:**

        - `state_dim`: 2n, the canonical coordinates (q, p).
        - `input_scale`: half-widths of a state box around 0, `[2n]`; None is 1 for all. A short way to give a domain.
        - `domain`: where the states live, instead of both.
        """
        super().__init__()
        if domain is None:
            half_widths = (
                torch.ones(state_dim) if input_scale is None else torch.as_tensor(input_scale, dtype=torch.float64)
            )
            if half_widths.shape != (state_dim,) or not (half_widths > 0).all():
                raise ValueError(
                    f"input_scale must be {state_dim} numbers above 0, one a coordinate, got {input_scale!r}"
                )
            domain = Domain.box(half_widths.tolist())
        self.state_dim = domain.state_dim
        self.domain = domain
        # A checkpoint's settings hold the domain.
        self.register_buffer("state_box", torch.tensor(domain.half_widths), persistent=False)
        self.register_buffer("centre", torch.tensor(domain.centre), persistent=False)

    @classmethod
    def settings_for_friction(cls, settings: Mapping[str, Any], resistance: Resistance | None) -> dict[str, Any]:
        """The settings of a network for a family that loses energy, in the place of those of this class: the same.

        **Arguments:**

        - `settings`: `_target_` and the arguments.
        - `resistance`: the family's, where its kind is known.
        """
        return dict(settings)

    @classmethod
    def settings_for_solved_head(cls, settings: Mapping[str, Any], degree: int) -> dict[str, Any]:
        """The settings of a network whose head will be solved for, in the place of those of this class: the same.

        **Arguments:** `degree`: what [`System.degree`][meta_hamiltonian.systems.System.degree] says of the family.
        """
        return dict(settings)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FieldNetwork":
        # `double()` would keep the digits that float32 has of 2π.
        super()._apply(fn, recurse)
        self.state_box = self.state_box.new_tensor(self.domain.half_widths)
        self.centre = self.centre.new_tensor(self.domain.centre)
        return self

    @property
    def plain_features(self) -> Bool[Tensor, " features"] | None:
        """Which of the head's features have no hidden units, such as coordinates and their products; None where none
        have."""
        return None

    @property
    def separable_features(self) -> Bool[Tensor, " features"] | None:
        """Which of the head's features are functions of positions or of momenta alone once the body is separated, see
        [`separate`][]; None for a body that cannot be separated."""
        return None

    @property
    def beside_units(self) -> Bool[Tensor, " features"] | None:
        """Which features heads may have that use hidden units, in training on recordings; None is all."""
        return None

    @property
    def has_kinetic_energies(self) -> bool:
        """Whether kinetic energies of mass matrices that depend on the positions are among the features."""
        return False

    @property
    def separated(self) -> bool:
        """Whether no hidden unit sees positions and momenta together."""
        return False

    def separate(self) -> None:
        """Lets each hidden unit see either positions or momenta.

        **Raises:** `TypeError` for a body that cannot be separated.
        """
        raise TypeError(f"the body of a {type(self).__name__} cannot be separated")

    @property
    def latents(self) -> int:
        """How many latents z, numbers of each member's own, the features depend on beside the state.

        Where there are any, `field_features` and `body_jacobian` are given states beside which z stands, `(x, z)`, and
        parameters of many tasks may have `latents`, `[tasks, latents]`; without them z is 0.
        """
        return 0

    def set_latents(self, count: int) -> None:
        """Gives the features `count` latents. The weights of new latents are random; those of old ones stay.

        **Raises:** [`ConfigError`][] for a network whose features depend on the state alone.
        """
        if count:
            raise ConfigError(
                f"latents={count} is not allowed with {type(self).__name__}: it needs an energy without dissipation, "
                "such as model=hnn"
            )

    def rescale_latents(self, mean: Float[Tensor, " latents"], scale: Float[Tensor, " latents"]) -> None:
        """Puts mean + scale z in the place of z, in the weights: the same law with latents of another size."""

    def domain_of(self, z: Float[Tensor, " latents"]) -> Domain:
        """The domain of a member with these latents, where they tell what is to be left out of it."""
        return self.domain

    def beside(
        self, x: Float[Tensor, "*batch state"], parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, "*batch inputs"]:
        """(x, z), with the latents of each task, which are 0 where it has none."""
        if not self.latents:
            return x
        z = parameters.get("latents")
        if z is None:
            return torch.cat([x, x.new_zeros(*x.shape[:-1], self.latents)], dim=-1)
        z = z if z.dim() == 1 else z.unflatten(0, (len(z), *(1,) * (x.dim() - 2)))
        return torch.cat([x, z.expand(*x.shape[:-1], self.latents)], dim=-1)

    def latent_slopes(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state latents"]:
        """∂f/∂z of many tasks; arguments as for `field_with`."""
        others = {name: value for name, value in parameters.items() if name != "latents"}
        z = parameters["latents"]
        field: Callable[[Tensor], Tensor] = lambda z: self.linear_field_with(others | {"latents": z}, x)  # noqa: E731
        columns = []
        for direction in torch.eye(self.latents, dtype=z.dtype, device=z.device):
            columns.append(torch.func.jvp(field, (z,), (direction.expand_as(z).contiguous(),))[1])
        return torch.stack(columns, dim=-1)

    def normalized(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """The states in units of the box, from −1 to 1 inside it: the input of the body, unless it has another."""
        return (x - self.centre) / self.state_box

    @property
    def hidden_layers(self) -> dict[str, nn.Linear]:
        """The linear layers before the head, by name, for learners that give each member layers of its own.

        **Raises:** `TypeError` for a network some of whose terms no hidden layer decides.
        """
        return {name: part for name, part in self.named_modules() if isinstance(part, nn.Linear) and name != "head"}

    @property
    def input_layers(self) -> dict[str, nn.Linear]:
        """The hidden layers that are given the state."""
        return {name: layer for name, layer in self.hidden_layers.items() if name in ("body.0", "friction_body")}

    @abc.abstractmethod
    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """The predicted dx/dt."""

    @abc.abstractmethod
    def field_features(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "..."]:
        """Features that the head turns into the field: `head(field_features(x)).reshape(x.shape)`."""

    def features_and_jacobian(
        self,
        x: Float[Tensor, "points state"],
        head: Float[Tensor, "features outputs"],
        z: Float[Tensor, " latents"] | None = None,
    ) -> tuple[Float[Tensor, "points ..."], Float[Tensor, "points state state"]]:
        """`field_features`, and ∂f/∂x of the field with this head and these latents.

        A network that finds both at once with fewer operations overrides this method.
        """
        with torch.no_grad():
            features = self.field_features(self.beside(x, {} if z is None else {"latents": z}))
        own = {"head.weight": head[: self.head.in_features].mT[None]}  # a bias does not matter
        return features, self.jacobian_with(own if z is None else own | {"latents": z[None]}, x[None])[0]

    def jacobian_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state state"]:
        """∂f/∂x of the linear field of many tasks; arguments as for `field_with`.

        Computed by automatic differentiation; a network that has a formula overrides this method.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            field = self.linear_field_with(parameters, x)
            rows = [torch.autograd.grad(rate.sum(), x, retain_graph=True)[0] for rate in field.unbind(-1)]
        return torch.stack(rows, dim=-2)

    def body_jacobian(
        self, x: Float[Tensor, "points inputs"], columns: Float[Tensor, "points features outputs"]
    ) -> Float[Tensor, "points state weights"]:
        """∂f/∂θ of the field for all shared weights θ but the head, in the order of `named_parameters`.

        Every point has its own head. Computed by automatic differentiation, point by point; a network that has a
        formula overrides this method.
        """
        own = {name: value for name, value in self.named_parameters() if not name.startswith("head.")}
        field = FieldOf(self)

        def at_point(own: dict[str, Tensor], x: Tensor, columns: Tensor) -> Tensor:
            head = {"net.head.weight": columns[: self.head.in_features].mT}
            if self.head.bias is not None:
                head["net.head.bias"] = columns[self.head.in_features]
            return torch.func.functional_call(field, {f"net.{n}": value for n, value in own.items()} | head, (x,))

        parts = torch.vmap(torch.func.jacrev(at_point), in_dims=(None, 0, 0))(own, x, columns)
        return torch.cat([parts[name].flatten(2) for name in own], dim=-1)

    def energy_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch"]:
        """The learned energies, where `has_energy`; arguments as for `field_with`.

        **Raises:** `TypeError` where the network has none.
        """
        raise TypeError(f"{type(self).__name__} predicts dx/dt directly and has no energy; use a HamiltonianNetwork")

    def layers(self, parameters: Mapping[str, Tensor]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """(weight, bias) of each hidden layer, and the head as a row, where `has_layers`.

        **Raises:** `TypeError` where the network is made of something else.
        """
        raise TypeError(f"{type(self).__name__} is not made of layers whose gradients are written out")

    def field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state"]:
        """The fields of many tasks, each with its own weights.

        **Arguments:**

        - `parameters`: tensors by the names of `named_parameters()`, each with a leading task
            dimension; those left out are the network's own, shared by all tasks.
        - `x`: states of each task.
        """
        one_task = FieldOf(self)

        def field(own: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(one_task, {f"net.{k}": v for k, v in own.items()}, (x,))

        return torch.vmap(field)(dict(parameters), x)

    def linear_field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """The field as training sees it: `head(field_features(x))`, where that of a prediction is constrained."""
        return self.field(x)

    def linear_field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state"]:
        """The field of many tasks as training sees it; arguments as for `field_with`."""
        return self.field_with(parameters, x)


class FieldOf(nn.Module):
    """A module whose call is the field as training sees it: `functional_call` and learn2learn call modules."""

    def __init__(self, net: FieldNetwork):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """The predicted dx/dt."""
        return self.net.linear_field(x)
