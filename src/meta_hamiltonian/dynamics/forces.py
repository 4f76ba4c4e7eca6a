"""What acts on a system besides its Hamiltonian: friction, and inputs that were measured."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.dynamics.friction import FRICTION


@dataclasses.dataclass(frozen=True)
class Signal:
    """Measured inputs u(t): linear between their instants, and 0 before the first and after the last.

    - `t`: increasing times.
    - `u`: the inputs at these.
    """

    t: Float[Tensor, " instants"]
    u: Float[Tensor, "instants inputs"]

    def to(self, device: torch.device | str) -> "Signal":
        """The same on another device."""
        return Signal(self.t.to(device), self.u.to(device))

    def __call__(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch inputs"]:
        """The inputs at any times."""
        after = torch.searchsorted(self.t, t.contiguous()).clamp(1, len(self.t) - 1)
        before = after - 1
        part = ((t - self.t[before]) / (self.t[after] - self.t[before])).unsqueeze(-1)
        inside = ((t >= self.t[0]) & (t <= self.t[-1])).unsqueeze(-1)
        return torch.where(inside, self.u[before] + part * (self.u[after] - self.u[before]), 0.0)


def inputs_at(
    signals: Sequence[Signal], t: Float[Tensor, "*points"], which: Int[Tensor, "*points"]
) -> Float[Tensor, "*points inputs"]:
    """The inputs at times of several recordings.

    **Arguments:** `which`: to which of the signals each time belongs.
    """
    if len(signals) == 1:
        return signals[0](t)
    u = t.new_zeros(*t.shape, signals[0].u.shape[1])
    for i, signal in enumerate(signals):
        own = which == i
        u[own] = signal(t[own]).to(u)
    return u


@dataclasses.dataclass(frozen=True)
class Forces:
    """Equation (11): dp/dt = −∂H/∂q − Σ d_j ∂R_j/∂v + Σ g_k u_k(t), with velocities v = dq/dt.

    - `kinds`: the kinds of friction, names in [`FRICTION`][].
    - `coefficients`: d_j ≥ 0 of each system.
    - `width`: the speed below which dry friction is smoothed.
    - `gains`: g of each system: how much of each input each momentum receives.
    - `signal`: the inputs; None where there are none.
    """

    kinds: tuple[str, ...]
    coefficients: Float[Tensor, "tasks kinds"]
    width: float
    gains: Float[Tensor, "tasks n inputs"]
    signal: Signal | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.kinds) - set(FRICTION):
            raise ValueError(f"friction {', '.join(sorted(unknown))} is not known; choose from {', '.join(FRICTION)}")
        if (self.coefficients < 0).any():
            raise ValueError("coefficients of friction must be at least 0: friction takes energy out")

    def __getitem__(self, tasks: int | slice | Int[Tensor, " some"]) -> "Forces":
        own = slice(tasks, tasks + 1) if isinstance(tasks, int) else tasks
        return dataclasses.replace(self, coefficients=self.coefficients[own], gains=self.gains[own])

    def to(self, device: torch.device | str) -> "Forces":
        """The same on another device."""
        signal = None if self.signal is None else self.signal.to(device)
        own, gains = self.coefficients.to(device), self.gains.to(device)
        return dataclasses.replace(self, coefficients=own, gains=gains, signal=signal)

    @staticmethod
    def joined(parts: "Sequence[Forces]") -> "Forces":
        """The forces of all systems, from those of parts of them, whose kinds of friction may differ."""
        first = parts[0]
        kinds = tuple(dict.fromkeys(kind for part in parts for kind in part.kinds))
        d = first.coefficients.new_zeros(sum(len(part.coefficients) for part in parts), len(kinds))
        row = 0
        for part in parts:
            for j, kind in enumerate(part.kinds):
                d[row : row + len(part.coefficients), kinds.index(kind)] = part.coefficients[:, j]
            row += len(part.coefficients)
        return Forces(kinds, d, first.width, torch.cat([part.gains for part in parts]), first.signal)

    def each(self, v: Float[Tensor, "tasks *points n"]) -> Sequence[Float[Tensor, "tasks *points n"]]:
        """−d_j ∂R_j/∂v of each kind at the velocities v."""
        ones = (1,) * (v.dim() - 1)
        return [
            -self.coefficients[:, j].reshape(-1, *ones) * FRICTION[kind].force(v, self.width)
            for j, kind in enumerate(self.kinds)
        ]

    def __call__(
        self, v: Float[Tensor, "tasks *points n"], t: Float[Tensor, "tasks *points"] | None = None
    ) -> Float[Tensor, "tasks *points n"]:
        """What is added to dp/dt at the velocities v and the times t: without times, friction alone."""
        total = sum(self.each(v), torch.zeros_like(v))
        if t is None or self.signal is None:
            return total
        return total + torch.einsum("tnk,t...k->t...n", self.gains, self.signal(t.expand(v.shape[:-1])))


class Terms(NamedTuple):
    """Which forces may act on one system, in the form in which their coefficients are solved for.

    - `kinds`, `width`: those of friction, see [`Forces`][].
    - `u`: the inputs at each of the observed points; None where there are none.
    """

    kinds: tuple[str, ...]
    width: float
    u: Float[Tensor, "points inputs"] | None = None

    def columns(self, v: Float[Tensor, "points n"]) -> Float[Tensor, "points n terms"]:
        """What each coefficient adds to dp/dt at the velocities v: first those of friction, then the gains."""
        n = v.shape[-1]
        friction = [-FRICTION[kind].force(v, self.width) for kind in self.kinds]
        columns = torch.stack(friction, dim=-1) if friction else v.new_zeros(*v.shape, 0)
        if self.u is None:
            return columns
        gains = torch.einsum("pk,nm->pnmk", self.u.to(v), torch.eye(n).to(v)).flatten(-2)
        return torch.cat([columns, gains], dim=-1)

    def forces(self, coefficients: Float[Tensor, "tasks terms"], n: int, signal: Signal | None) -> Forces:
        """The forces with these coefficients."""
        d, g = coefficients.split([len(self.kinds), coefficients.shape[1] - len(self.kinds)], dim=-1)
        return Forces(self.kinds, d, self.width, g.unflatten(-1, (n, g.shape[1] // n)), signal)

    def count(self, n: int) -> int:
        """How many coefficients there are, for n degrees of freedom."""
        return len(self.kinds) + (0 if self.u is None else n * self.u.shape[1])

    def without(self, kind: str) -> "Terms":
        """The same without one kind of friction."""
        return self._replace(kinds=tuple(other for other in self.kinds if other != kind))
