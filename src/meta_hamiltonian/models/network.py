"""What learners need from a network, whatever it is made of."""

import abc
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.systems.symplectic import hamiltonian_field


class FieldNetwork(nn.Module, abc.ABC):
    """A network that predicts a vector field and is linear in its `head`.

    To add one, write `field` and `field_features`. `field_with` works for any network; override it where the
    field can be had with fewer operations, and where MAML's step is to be compiled.
    """

    head: nn.Linear
    state_box: Tensor
    """Half-widths by which the inputs are divided, shape `[2n]`."""

    def __init__(self, state_dim: int, input_scale: Sequence[float] | Float[Tensor, " state"] | None = None):
        """**Arguments:**

        - `state_dim`: 2n, the canonical coordinates (q, p).
        - `input_scale`: half-widths of the state box, `[2n]`; None is 1 for all.
        """
        super().__init__()
        half_widths = (
            torch.ones(state_dim) if input_scale is None else torch.as_tensor(input_scale, dtype=torch.float64)
        )
        if half_widths.shape != (state_dim,) or not (half_widths > 0).all():
            raise ValueError(f"input_scale must be {state_dim} numbers above 0, one a coordinate, got {input_scale!r}")
        self.state_dim = state_dim
        self._half_widths: list[float] = half_widths.tolist()
        # A checkpoint's settings hold the system, and the system its box.
        self.register_buffer("state_box", torch.tensor(self._half_widths), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FieldNetwork":
        # `double()` would keep the digits that float32 has of 2π.
        super()._apply(fn, recurse)
        self.state_box = torch.tensor(self._half_widths, dtype=self.state_box.dtype, device=self.state_box.device)
        return self

    @abc.abstractmethod
    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """The predicted dx/dt."""

    @abc.abstractmethod
    def field_features(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "..."]:
        """Features that the head turns into the field: `head(field_features(x)).reshape(x.shape)`."""

    def energy_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch"]:
        """The learned energies, where the network has one; arguments as for `field_with`."""
        raise TypeError(f"{type(self).__name__} predicts dx/dt directly and has no energy; use a HamiltonianNetwork")

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


class FieldOf(nn.Module):
    """A module whose call is the network's field, for `functional_call` and learn2learn, which call modules."""

    def __init__(self, net: FieldNetwork):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.field(x)


def autograd_field(
    energy: Callable[[Float[Tensor, "*batch state"]], Float[Tensor, "*batch"]], x: Float[Tensor, "*batch state"]
) -> Float[Tensor, "*batch state"]:
    """Equation (1) for any energy, by automatic differentiation: for networks whose gradient is not written out."""
    return hamiltonian_field(torch.func.grad(lambda x: energy(x).sum())(x))
