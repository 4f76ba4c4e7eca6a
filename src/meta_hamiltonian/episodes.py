"""Tasks: a support set to adapt on and a query set to be judged on, for each of many systems."""

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.random import uniform
from meta_hamiltonian.systems import HamiltonianSystem

# The size of a noise does not depend on how many points are observed.
_TYPICAL = 64


@dataclasses.dataclass  # not frozen: Lightning converts the precision of dataclasses field by field
class Points:
    """Observed states and their time derivatives."""

    x: Float[Tensor, "*tasks points state"]
    dxdt: Float[Tensor, "*tasks points state"]

    def to(self, *args: Any, **kwargs: Any) -> "Points":
        return Points(self.x.to(*args, **kwargs), self.dxdt.to(*args, **kwargs))

    def __getitem__(self, tasks: int | slice | Int[Tensor, " batch"]) -> "Points":
        return Points(self.x[tasks], self.dxdt[tasks])

    def first(self, shots: int) -> "Points":
        """The first `shots` points of every task."""
        return Points(self.x[..., :shots, :], self.dxdt[..., :shots, :])


@dataclasses.dataclass
class Episodes:
    """A meta-batch of tasks. `parameters` are the true ones, for those who judge, not for those who learn."""

    support: Points
    query: Points
    parameters: Float[Tensor, "tasks parameters"]

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, tasks: slice | Int[Tensor, " batch"]) -> "Episodes":
        return Episodes(self.support[tasks], self.query[tasks], self.parameters[tasks])

    def to(self, *args: Any, **kwargs: Any) -> "Episodes":
        """The same on another device or with another dtype; the arguments are those of `Tensor.to`."""
        return Episodes(
            self.support.to(*args, **kwargs), self.query.to(*args, **kwargs), self.parameters.to(*args, **kwargs)
        )


def sample_episodes(
    system: HamiltonianSystem,
    tasks: int | range,
    support: int,
    query: int,
    seed: int,
    split: str = "train",
    dtype: torch.dtype = torch.float32,
    noise: float = 0.0,
) -> Episodes:
    """Draws systems and, for each, random states in the state box with their derivatives.

    All tasks are drawn together. Task i, its points included, is a function of `(seed, split, i)`
    alone, and a smaller `support` or `query` gives a prefix of a larger one.

    **Arguments:**

    - `system`: the family.
    - `tasks`: how many, or the range of task indices wanted.
    - `support`, `query`: points in each support and each query set.
    - `seed`: at least 0.
    - `split`: any name (the framework uses train, val and test); splits are independent.
    - `dtype`: of the result. Everything is computed in float64.
    - `noise`: standard deviation of Gaussian noise that is added to the support's states and derivatives, relative to
        the RMS of each coordinate of the task over its first 64 support points. The query set is exact.

    **Returns:**

    [`Episodes`][] of `len(tasks)` tasks.
    """
    tasks = tasks if isinstance(tasks, range) else range(tasks)
    parameters = system.sample_parameters(tasks, seed, split)
    box = torch.tensor(system.state_box, dtype=torch.float64)

    def points(name: str, count: int) -> Points:
        unit = torch.from_numpy(uniform(seed, (split, name), tasks, (count, system.state_dim)))
        x = box * (2 * unit - 1)
        return Points(x, system.field(x, parameters[:, None]))

    observed = points("support", support)
    if noise > 0:
        typical = points("support", _TYPICAL)
        unit = torch.from_numpy(uniform(seed, (split, "noise"), tasks, (support, 2 * system.state_dim)))
        errors = noise * torch.special.ndtri(unit.clamp_min(torch.finfo(unit.dtype).tiny))
        x_error, dxdt_error = errors.chunk(2, dim=-1)
        observed = Points(
            observed.x + x_error * _rms(typical.x),
            observed.dxdt + dxdt_error * _rms(typical.dxdt),
        )
    return Episodes(observed, points("query", query), parameters).to(dtype)


def _rms(values: Float[Tensor, "tasks points state"]) -> Float[Tensor, "tasks 1 state"]:
    return values.square().mean(-2, keepdim=True).sqrt()
