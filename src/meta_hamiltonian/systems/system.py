"""What every family of physical systems provides."""

import abc
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.random import uniform
from meta_hamiltonian.systems.orbits import integrate


class HamiltonianSystem(abc.ABC):
    """A family of Hamiltonian systems with n degrees of freedom; its members differ in their parameters.

    States are canonical coordinates x = (q₁ … qₙ, p₁ … pₙ). To add a family, write its
    Hamiltonian, its field, the ranges below and `sample_initial_states` in one new file.
    """

    parameter_names: ClassVar[tuple[str, ...]]
    """The physical parameters, in the order of the last dimension of every `parameters`."""

    @property
    @abc.abstractmethod
    def state_box(self) -> tuple[float, ...]:
        """Half-widths of the box around 0 in which states are observed, length 2n."""

    @property
    @abc.abstractmethod
    def parameter_ranges(self) -> tuple[tuple[float, float], ...]:
        """The prior: each parameter is uniform between these two values."""

    @property
    def state_dim(self) -> int:
        """2n."""
        return len(self.state_box)

    @abc.abstractmethod
    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """The energy H(x).

        **Arguments:**

        - `x`: states, shape `[..., 2n]`.
        - `parameters`: shape `[..., len(parameter_names)]`; the leading dimensions broadcast
            with those of `x`, so K states of each of T systems go with `parameters[:, None]`.
        """

    @abc.abstractmethod
    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """The vector field dx/dt = Ω ∇ₓH(x), equation (1), in closed form. Arguments as for `hamiltonian`."""

    @abc.abstractmethod
    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One initial state a system, whose true orbit stays inside the state box."""

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """The combinations of parameters that the Hamiltonian is linear in, by name, where there are such."""
        return {}

    def sample_parameters(
        self, tasks: int | range, seed: int, split: str = "train"
    ) -> Float[Tensor, "tasks parameters"]:
        """Draws systems from the prior.

        **Arguments:**

        - `tasks`: how many systems, or a range of task indices: system i of a split is a
            function of `(seed, split, i)` alone.
        - `seed`: at least 0.
        - `split`: any name; systems of different splits are independent.

        **Returns:**

        Parameters of shape `[tasks, len(parameter_names)]`, float64.
        """
        tasks = tasks if isinstance(tasks, range) else range(tasks)
        unit = uniform(seed, (split, "parameters"), tasks, (1, len(self.parameter_names)))
        low, high = torch.tensor(self.parameter_ranges, dtype=torch.float64).T
        return low + (high - low) * torch.from_numpy(unit[:, 0])

    def orbit(
        self,
        x0: Float[Tensor, "systems state"],
        parameters: Float[Tensor, "systems parameters"],
        t: Float[Tensor, " instants"],
    ) -> Float[Tensor, "instants systems state"]:
        """The true orbits, integrated in float64 at a relative tolerance of 1e-12.

        **Arguments:**

        - `x0`: initial states, one a system.
        - `parameters`: one row a system.
        - `t`: increasing times; `x0` is the state at `t[0]`.
        """
        x0, parameters = x0.double(), parameters.double()
        # A true orbit is never stopped: it is the reference.
        unbounded = torch.full((self.state_dim,), torch.inf, dtype=torch.float64, device=x0.device)
        return integrate(lambda x: self.field(x, parameters), x0, t, unbounded, tolerance=1e-12).states
