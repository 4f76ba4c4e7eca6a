"""Orbits of many systems at once, each as accurate as if it were alone."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchdiffeq import odeint

# A field that asks for smaller steps than this (time units) is no physical system's: its orbit stops.
_SMALLEST_STEP = 1e-4
# Keeps the stages of a step finite where a field is not; far above any speed that is resolved.
_FASTEST = 1e9


class Orbits(NamedTuple):
    """`states` at the instants asked for, and which orbits were stopped (`diverged`)."""

    states: Float[Tensor, "instants systems state"]
    diverged: Bool[Tensor, " systems"]


def integrate(
    field: Callable[[Float[Tensor, "systems state"]], Float[Tensor, "systems state"]],
    x0: Float[Tensor, "systems state"],
    t: Float[Tensor, " instants"],
    bounds: Float[Tensor, " state"],
    tolerance: float,
) -> Orbits:
    """Solves dx/dt = field(x) for a batch of systems with torchdiffeq's `dopri5`.

    torchdiffeq controls the error of the whole batch. Its default norm, a mean over the batch, would let
    one orbit be less accurate in large company, and one diverging system would end the solve. Here
    the norm is the largest over the systems, and an orbit that leaves the bounds is frozen there.

    **Arguments:**

    - `field`: the vector fields, row by row: system i's state is row i.
    - `x0`: the states at `t[0]`.
    - `t`: increasing times. Between steps, states are interpolated to the order of the method.
    - `bounds`: half-widths; a state is frozen where it leaves `|x| <= bounds`, and so is one
        where the field is not finite, or needs steps below 1e-4.
    - `tolerance`: relative and absolute error of a step.

    **Returns:**

    The [`Orbits`][], always finite.
    """
    system = _StoppedField(field, x0, bounds)
    with torch.no_grad():
        states = odeint(
            system,
            x0,
            t.to(x0),
            rtol=tolerance,
            atol=tolerance,
            # Not dopri8: its dense output is of fourth order, much less accurate than its steps.
            method="dopri5",
            options={"norm": system.norm},
        )
    assert isinstance(states, Tensor)
    return Orbits(states, system.at_rest(states[-1], field(states[-1])))


class _StoppedField:
    """The field, zero for systems that have stopped, and the error norm that ignores them."""

    def __init__(self, field: Callable[[Tensor], Tensor], x0: Tensor, bounds: Tensor):
        self.field = field
        self.shape = x0.shape
        self.bounds = bounds.to(x0)
        self.stopped = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        self.error = torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)

    def at_rest(self, x: Tensor, dxdt: Tensor) -> Tensor:
        return self.stopped | (x.abs() > self.bounds).any(-1) | ~dxdt.isfinite().all(-1)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        dxdt = self.field(x)
        at_rest = self.at_rest(x, dxdt).unsqueeze(-1)
        return dxdt.clamp(-_FASTEST, _FASTEST).masked_fill(at_rest, 0.0)

    def norm(self, ratio: Tensor) -> Tensor:
        error = ratio.reshape(self.shape).square().mean(-1).sqrt()
        self.error = error.nan_to_num(nan=1e6, posinf=1e6).masked_fill(self.stopped, 0.0)
        return self.error.max()

    def callback_reject_step(self, t0: Tensor, x: Tensor, dt: Tensor) -> None:
        if dt < _SMALLEST_STEP:
            self.stopped = self.stopped | (self.error > 1)
