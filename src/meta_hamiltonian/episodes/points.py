"""Points and episodes, whatever they come from."""

import dataclasses
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Chosen = int | slice | Int[Tensor, " batch"]
"""Which tasks of a batch."""


@dataclasses.dataclass  # not frozen: Lightning converts the precision of dataclasses field by field
class Points:
    """Observed states and their time derivatives.

    - `x`, `dxdt`: `[tasks, K, 2n]`, or without the first dimension for one task.
    - `mask`: which points a task has, where tasks have different numbers of them; None is all. What stands at the
        other places does not matter, as long as it is finite. A task has at least one point.
    - `free`: columns that enter the rates with coefficients of each task's own, such as those of friction; None where
        there are none.
    """

    x: Float[Tensor, "*tasks points state"]
    dxdt: Float[Tensor, "*tasks points state"]
    mask: Bool[Tensor, "*tasks points"] | None = None
    free: Float[Tensor, "*tasks points state terms"] | None = None

    def to(self, *args: Any, **kwargs: Any) -> "Points":
        """The same on another device or with another dtype; the arguments are those of `Tensor.to`."""
        x = self.x.to(*args, **kwargs)
        mask = None if self.mask is None else self.mask.to(x.device)
        free = None if self.free is None else self.free.to(*args, **kwargs)
        return Points(x, self.dxdt.to(*args, **kwargs), mask, free)

    def __getitem__(self, tasks: Chosen) -> "Points":
        mask, free = (None if part is None else part[tasks] for part in (self.mask, self.free))
        return Points(self.x[tasks], self.dxdt[tasks], mask, free)

    def first(self, shots: int) -> "Points":
        """The first `shots` points of every task."""
        mask = None if self.mask is None else self.mask[..., :shots]
        free = None if self.free is None else self.free[..., :shots, :, :]
        return Points(self.x[..., :shots, :], self.dxdt[..., :shots, :], mask, free)

    @property
    def counts(self) -> Float[Tensor, "*tasks"]:
        """How many points each task has."""
        if self.mask is None:
            return self.x.new_full(self.x.shape[:-2], self.x.shape[-2])
        return self.mask.sum(-1).to(self.x.dtype)

    def mean(self, values: Float[Tensor, "*tasks points"]) -> Float[Tensor, "*tasks"]:
        """The mean of values of the points over those that each task has."""
        if self.mask is None:
            return values.mean(-1)
        return torch.where(self.mask, values, 0.0).sum(-1) / self.counts

    def rows(self, values: Float[Tensor, "*tasks points columns"]) -> Float[Tensor, "*tasks points columns"]:
        """The same values, 0 at the points that a task does not have."""
        return values if self.mask is None else torch.where(self.mask.unsqueeze(-1), values, 0.0)

    @staticmethod
    def of_tasks(tasks: "list[Points]") -> "Points":
        """A batch of tasks that may have different numbers of points, filled up with their first ones."""
        most = max(len(task.x) for task in tasks)
        filled = [torch.arange(most, device=task.x.device) for task in tasks]
        filled = [torch.where(i < len(task.x), i, 0) for i, task in zip(filled, tasks, strict=True)]
        mask = torch.stack([torch.arange(most, device=task.x.device) < len(task.x) for task in tasks])
        x = torch.stack([task.x[i] for task, i in zip(tasks, filled, strict=True)])
        dxdt = torch.stack([task.dxdt[i] for task, i in zip(tasks, filled, strict=True)])
        columns = [task.free[i] for task, i in zip(tasks, filled, strict=True) if task.free is not None]
        free = torch.stack(columns) if columns else None
        return Points(x, dxdt, None if bool(mask.all()) else mask, free)

    @staticmethod
    def joined(first: "Points", second: "Points") -> "Points":
        """The points of each task, and its others after them."""
        parts = (first, second)
        x, dxdt = (torch.cat([getattr(part, name) for part in parts], -2) for name in ("x", "dxdt"))
        mask = None
        if any(part.mask is not None for part in parts):
            everywhere = [part.x.new_ones(part.x.shape[:-1], dtype=torch.bool) for part in parts]
            mask = torch.cat([e if p.mask is None else p.mask for p, e in zip(parts, everywhere, strict=True)], -1)
        columns = [part.free for part in parts if part.free is not None]
        return Points(x, dxdt, mask, torch.cat(columns, -3) if columns else None)


@dataclasses.dataclass
class Episodes:
    """A meta-batch of tasks.

    - `support`, `query`: what a task is adapted on, and what it is judged on.
    - `parameters`: the true ones, for those who judge, not for those who learn; None where nobody knows them.
    - `variance`: the variances of the errors of each recorded member's rates, as far as they are known; None for rates
        that are exact in the query.
    - `index`: which tasks of the training set they are, for learners that remember each task; None for others.
    """

    support: Points
    query: Points
    parameters: Float[Tensor, "tasks parameters"] | None = None
    variance: Float[Tensor, "tasks state"] | None = None
    index: Int[Tensor, " tasks"] | None = None

    def __len__(self) -> int:
        return len(self.support.x)

    def __getitem__(self, tasks: slice | Int[Tensor, " batch"]) -> "Episodes":
        others = (None if part is None else part[tasks] for part in (self.parameters, self.variance, self.index))
        return Episodes(self.support[tasks], self.query[tasks], *others)

    def to(self, *args: Any, **kwargs: Any) -> "Episodes":
        """The same on another device or with another dtype; the arguments are those of `Tensor.to`."""
        support, query = self.support.to(*args, **kwargs), self.query.to(*args, **kwargs)
        parameters, variance = (
            None if part is None else part.to(*args, **kwargs) for part in (self.parameters, self.variance)
        )
        index = None if self.index is None else self.index.to(support.x.device)
        return Episodes(support, query, parameters, variance, index)

    @property
    def points(self) -> Points:
        """The points of support and query together."""
        return Points.joined(self.support, self.query)
