"""Orbits of many systems at once, each as accurate as if it were alone."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# After so many steps that one orbit alone made necessary, its pace is looked at ...
_WINDOW = 700
# ... and it is stopped if the rest of the time would take it more than so many.
_MOST_STEPS = 1e5
# Steps shorter than this part of the time asked for are at the end of what float64 resolves.
_RESOLVED = 1e-13
# An orbit made a step necessary if its error was at least this part of the largest.
_DECISIVE = 0.1
# A frozen state changes by no more than this part of its size, by the rounding of interpolation.
_AT_REST = 1e-9


Outside = Callable[[Float[Tensor, "systems state"]], Bool[Tensor, " systems"]]


class Orbits(NamedTuple):
    """The orbits of S systems.

    - `states`: at the instants asked for; from where an orbit was stopped on, its last state.
    - `diverged`: which orbits were stopped.
    - `until`: the time up to which each orbit is known; the last instant where it was not stopped.
    - `reasons`: why each orbit was stopped, in words, empty where it was not.
    """

    states: Float[Tensor, "instants systems state"]
    diverged: Bool[Tensor, " systems"]
    until: Float[Tensor, " systems"]
    reasons: Sequence[str]

    def of(self, systems: slice) -> "Orbits":
        """The orbits of some of the systems."""
        return Orbits(self.states[:, systems], self.diverged[systems], self.until[systems], self.reasons[systems])


def integrate(
    field: Callable[[Float[Tensor, "systems state"]], Float[Tensor, "systems state"]],
    x0: Float[Tensor, "systems state"],
    t: Float[Tensor, " instants"],
    bounds: Float[Tensor, " state"] | Outside,
    tolerance: float,
    sizes: Sequence[float] | None = None,
) -> Orbits:
    """Solves dx/dt = field(x) for a batch of systems with torchdiffeq's `dopri5`.

    torchdiffeq controls the error of the whole batch. Its default norm, a mean over the batch, would let
    one orbit be less accurate in large company, and one diverging system would end the solve. Here
    the norm is the largest over the systems, and an orbit that cannot go on is frozen.

    **Arguments:**

    - `field`: the vector fields, row by row: system i's state is row i.
    - `x0`: the states at `t[0]`.
    - `t`: increasing times. Between steps, states are interpolated to the order of the method.
    - `bounds`: half-widths around 0, or a function that tells which states lie outside, such as
        [`Domain.outside`][]. A state is frozen where it leaves the bounds, where the field is not finite, and where
        the rest of the time would take more than 100,000 steps.
    - `tolerance`: error of a step, relative to the state, and to `sizes` where a coordinate is near 0.
    - `sizes`: the sizes of the coordinates, such as [`Domain.sizes`][]; None is 1 for all.

    **Returns:**

    The [`Orbits`][], always finite.
    """
    from torchdiffeq import odeint  # here: it imports all of SciPy's integrators, which few commands need

    if isinstance(bounds, Tensor):
        half_widths = bounds.to(x0)
        outside = lambda x: (x.abs() > half_widths).any(-1)  # noqa: E731
    else:
        outside = bounds
    system = _StoppedField(field, x0, t, outside)
    with torch.no_grad():
        states = odeint(
            system,
            x0,
            t.to(x0),
            rtol=tolerance,
            atol=tolerance if sizes is None else tolerance * x0.new_tensor(sizes),  # pyright: ignore[reportArgumentType]
            # Not dopri8: its dense output is of fourth order, much less accurate than its steps.
            method="dopri5",
            options={"norm": system.norm},
        )
    assert isinstance(states, Tensor)
    diverged = system.at_rest(states[-1], field(states[-1]))
    return Orbits(states, diverged, _until(states, diverged, t), system.words(diverged, states[-1]))


def _until(
    states: Float[Tensor, "instants systems state"], diverged: Bool[Tensor, " systems"], t: Float[Tensor, " instants"]
) -> Float[Tensor, " systems"]:
    """The last instant at which each orbit still moved, of those that were stopped."""
    last = states[-1]
    moved = ((states - last).abs() > _AT_REST * states.abs().amax(0)).any(-1)
    count = moved.sum(0).clamp(min=1)
    return torch.where(diverged, t.to(states)[count - 1], t[-1].to(states))


def reason(stopped: bool, left: bool, slow: bool) -> str:
    """In words, why an orbit was stopped; empty if it was not."""
    if not stopped:
        return ""
    if left:
        return "it leaves the region that orbits are followed in"
    return "its steps became too short to follow it" if slow else "its field is not a finite number there"


class _StoppedField:
    """The field, zero for systems that have stopped, and the error norm that ignores them."""

    def __init__(
        self,
        field: Callable[[Tensor], Tensor],
        x0: Tensor,
        t: Tensor,
        outside: Outside,
    ):
        self.field = field
        self.shape = x0.shape
        self.outside = outside
        self.begin, self.end = t[0].item(), t[-1].item()
        self.stopped = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        self.error = torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)
        # How many steps each orbit made necessary since its pace was last looked at, and when that was.
        self.steps = torch.zeros(len(x0), dtype=torch.long, device=x0.device)
        self.since = torch.full_like(self.error, self.begin)

    def at_rest(self, x: Tensor, dxdt: Tensor) -> Tensor:
        return self.stopped | self.outside(x) | ~dxdt.isfinite().all(-1)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        dxdt = self.field(x)
        at_rest = self.at_rest(x, dxdt).unsqueeze(-1)
        # Keeps the stages of a step finite where the field is not; far above any speed that is resolved.
        fastest = torch.finfo(dxdt.dtype).max ** 0.25
        return dxdt.clamp(-fastest, fastest).masked_fill(at_rest, 0.0)

    def norm(self, ratio: Tensor) -> Tensor:
        error = ratio.reshape(self.shape).square().mean(-1).sqrt()
        self.error = error.nan_to_num(nan=1e6, posinf=1e6).masked_fill(self.stopped, 0.0)
        return self.error.max()

    def callback_accept_step(self, t0: Tensor, x: Tensor, dt: Tensor) -> None:
        self._look_at_pace(t0)

    def callback_reject_step(self, t0: Tensor, x: Tensor, dt: Tensor) -> None:
        if dt < _RESOLVED * max(self.end - self.begin, abs(t0.item())):
            self.stopped = self.stopped | (self.error > 1)
        self._look_at_pace(t0)

    def _look_at_pace(self, t0: Tensor) -> None:
        self.steps += (self.error >= _DECISIVE * self.error.max()) & ~self.stopped
        due = self.steps >= _WINDOW
        if due.any():
            pace = (t0 - self.since) / _WINDOW
            self.stopped = self.stopped | (due & (self.end - t0 > _MOST_STEPS * pace))
            self.steps = self.steps.masked_fill(due, 0)
            self.since = torch.where(due, t0.to(self.since), self.since)

    def words(self, diverged: Tensor, last: Tensor) -> list[str]:
        """Why each orbit was stopped."""
        if not diverged.any():
            return [""] * len(diverged)
        outside = self.outside(last)
        return [reason(*flags) for flags in zip(*(f.tolist() for f in (diverged, outside, self.stopped)), strict=True)]
