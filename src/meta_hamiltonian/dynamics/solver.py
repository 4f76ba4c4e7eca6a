"""Orbits of many systems at once, each with steps of its own."""

import copy
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meta_hamiltonian.dynamics.dop853 import DOP853, Field, between, first_steps
from meta_hamiltonian.dynamics.orbits import Orbits, Outside, reason

_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0
_EXPONENT = -1 / 8
# After so many steps the pace of an orbit is looked at.
_WINDOW = 400
# Steps shorter than this part of the time asked for are at the end of what float64 resolves.
_RESOLVED = 1e-13
# A batch is not made smaller than this: fewer orbits take hardly less time.
_FEW = 16


def solve(
    field: Callable[[Float[Tensor, "systems state"]], Float[Tensor, "systems state"]],
    x0: Float[Tensor, "systems state"],
    t: Float[Tensor, " instants"],
    outside: Outside,
    tolerance: float,
    most_steps: float = 1e5,
    sizes: Sequence[float] | None = None,
    corners: Float[Tensor, " corners"] | None = None,
    some: Callable[[Int[Tensor, " systems"]], Field] | None = None,
) -> Orbits:
    """Solves dx/dt = field(x) for a batch of systems, one step of every system at a time.

    Each orbit chooses its steps by its own error, so that it is as accurate as alone, and none waits for another: a
    batch takes as many evaluations of the field as its slowest orbit. Bands need this, since their orbits all turn the
    same corner at different times.

    **Arguments:**

    - `field`: the vector fields, row by row: system i's state is row i.
    - `x0`: the states at `t[0]`, in float64.
    - `t`: increasing times. Between steps, states are interpolated to seventh order.
    - `outside`: which states lie outside the region; an orbit ends there. It ends as well where the field is not
        finite, and where the rest of the time would take it more than `most_steps`.
    - `tolerance`: error of a step, relative to the state, and to `sizes` where a coordinate is near 0.
    - `sizes`: the sizes of the coordinates, such as [`Domain.sizes`][]; None is 1 for all.
    - `corners`: increasing times at which the field is not smooth, such as those of a measured input; steps end there.
    - `some`: gives the fields of some of the systems, by their rows; orbits that have ended then take no more time.

    **Returns:**

    The [`Orbits`][], always finite.
    """
    with torch.no_grad():
        orbits = _Orbits(field, x0, t.to(x0).contiguous(), outside, tolerance, most_steps, sizes, corners)
        _follow(orbits, some, torch.arange(len(x0), device=x0.device))
        return orbits.result()


def _follow(orbits: "_Orbits", some: Callable[[Tensor], Field] | None, rows: Int[Tensor, " systems"]) -> None:
    """Follows orbits to their ends: when half of them are there, the others go on alone."""
    while (count := int(orbits.active.sum())) > 0:
        if some is not None and 2 * count <= len(rows) > 2 * _FEW:
            left = orbits.active.nonzero()[:, 0]
            others = orbits.of(left, some(rows[left]))
            _follow(others, some, rows[left])
            orbits.take(others, left)
            return
        orbits.step()


# What each orbit has, beside its states.
_OF_ORBITS = ("x", "rate", "time", "dt", "error", "next", "steps", "since", "left", "broken", "slow")


class _Orbits:
    """The state of a solve: where each orbit is, and what it will try next."""

    def __init__(
        self,
        field: Callable[[Tensor], Tensor],
        x0: Tensor,
        t: Tensor,
        outside: Outside,
        tolerance: float,
        most_steps: float,
        sizes: Sequence[float] | None,
        corners: Tensor | None,
    ):
        self.corners = None if corners is None else torch.cat([corners, corners.new_tensor([torch.inf])])
        self.sizes = 1.0 if sizes is None else x0.new_tensor(sizes)
        self.most_steps = most_steps
        self.method = DOP853(field, x0)
        self.outside, self.tolerance = outside, tolerance
        self.instants, self.end = t, t[-1]
        self.x, self.time = x0.clone(), t[0].expand(len(x0)).clone()
        self.rate = field(x0)
        self.states = x0.expand(len(t), *x0.shape).clone()
        self.next = torch.ones(len(x0), dtype=torch.long, device=x0.device)  # the next instant to be filled in
        self.left = outside(x0)
        self.broken = ~self.rate.isfinite().all(-1)
        self.slow = torch.zeros_like(self.left)
        scale = tolerance * (self.sizes + self.x.abs())
        self.dt = first_steps(self.x, self.rate, scale).minimum(self.end - self.time)
        self.steps = torch.zeros_like(self.next)
        self.since = self.time.clone()
        self.error = torch.zeros_like(self.time)

    def of(self, rows: Int[Tensor, " systems"], field: Field) -> "_Orbits":
        """Some of the orbits, with the fields of their systems."""
        others = copy.copy(self)
        others.method = DOP853(field, self.x)
        others.states = self.states[:, rows]
        for name in _OF_ORBITS:
            setattr(others, name, getattr(self, name)[rows])
        return others

    def take(self, others: "_Orbits", rows: Int[Tensor, " systems"]) -> None:
        """Takes back what [`of`][] gave away."""
        self.states[:, rows] = others.states
        for name in _OF_ORBITS:
            getattr(self, name)[rows] = getattr(others, name)

    @property
    def active(self) -> Bool[Tensor, " systems"]:
        """Which orbits go on."""
        return (self.time < self.end) & ~self.left & ~self.broken & ~self.slow

    def step(self) -> None:
        """Tries one step of every orbit."""
        active = self.active
        dt = torch.where(active, self.dt.minimum(self.end - self.time), 0.0)
        short = torch.zeros_like(active)
        if self.corners is not None:
            # A corner that is nearer than rounding is passed.
            following = torch.searchsorted(self.corners, self.time + _RESOLVED * self.time.abs(), right=True)
            left = self.corners[following] - self.time
            short = active & (left < dt)
            dt = torch.where(short, left, dt)
        x, k = self.method.step(self.x, self.rate, dt)
        scale = self.tolerance * (self.sizes + torch.maximum(self.x.abs(), x.abs()))
        self.error = self.method.error(k, scale, dt)
        good = active & (self.error <= 1)  # not so where it is not a number
        self._fill_in(good, dt, x, k)
        self.time = torch.where(good, self.time + dt, self.time)
        self.x = torch.where(good[:, None], x, self.x)
        self.rate = torch.where(good[:, None], k[-1], self.rate)
        factor = (_SAFETY * self.error.clamp_min(1e-16) ** _EXPONENT).clamp(_SHRINK, _GROW).nan_to_num(nan=_SHRINK)
        following = self.dt.minimum(dt) * torch.where(good, factor, factor.clamp(max=1.0))
        # A step that was cut at a corner says nothing against longer ones.
        following = torch.where(good & short, following.maximum(self.dt), following)
        self.dt = torch.where(active, following, self.dt)
        self._stop(active)

    def _fill_in(self, good: Tensor, dt: Tensor, x: Tensor, k: Tensor) -> None:
        """The states at all instants that a good step passes, until it leaves the region."""
        last = len(self.instants)
        ends = torch.where(good, self.time + dt, -torch.inf)
        reached = torch.searchsorted(self.instants, ends, right=True)
        counts = (reached - self.next).clamp_min(0)
        gone = good & self.outside(x)
        if counts.any():
            rows = torch.repeat_interleave(counts)
            place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
            which = self.next[rows] + place
            part = (self.instants[which] - self.time[rows]) / dt[rows].clamp_min(1e-300)
            states = between(self.x[rows], self.method.interpolant(self.x, x, k, dt)[:, rows], part)
            # An orbit that leaves is known at the instants before it does.
            beyond = torch.where(gone[rows] & self.outside(states), place, last)
            first = torch.full_like(counts, last).scatter_reduce(0, rows, beyond, "amin")
            kept = place < first[rows]
            self.states[which[kept], rows[kept]] = states[kept]
            self.next += torch.minimum(counts, first)
        self.left = self.left | gone

    def _stop(self, active: Tensor) -> None:
        short = active & (self.dt < _RESOLVED * (self.end - self.instants[0]))
        self.broken = self.broken | (short & ~self.error.isfinite())
        self.slow = self.slow | (short & self.error.isfinite())
        self.steps += active
        due = self.steps >= _WINDOW
        if due.any():
            pace = (self.time - self.since) / _WINDOW
            self.slow = self.slow | (due & (self.end - self.time > self.most_steps * pace))
            self.steps = self.steps.masked_fill(due, 0)
            self.since = torch.where(due, self.time, self.since)

    def result(self) -> Orbits:
        """From the last instant that an orbit reached on, its state stays as it was."""
        diverged = self.left | self.broken | self.slow
        last = torch.where(diverged, self.next, len(self.instants)) - 1
        kept = torch.arange(len(self.instants), device=last.device)[:, None].minimum(last)
        states = self.states.gather(0, kept[..., None].expand_as(self.states))
        return Orbits(
            states,
            diverged,
            self.instants[last],
            [reason(*flags) for flags in zip(*(f.tolist() for f in (diverged, self.left, self.slow)), strict=True)],
        )
