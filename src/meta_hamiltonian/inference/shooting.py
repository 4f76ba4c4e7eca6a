"""Orbits that meet observed trajectories: Gauss-Newton by multiple shooting."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meta_hamiltonian.inference.sensitivity import Law, follow, rates
from meta_hamiltonian.learners.numerics.least_squares import least_squares
from meta_hamiltonian.observations import CanonicalTrajectory

# Instants of a window, at least and at most. Windows are followed side by side, so that short ones are quick; the
# square root of so many instants balances that against the number of windows.
_SHORTEST, _LONGEST, _BALANCE = 3, 12, 100
# An error of a step may be this part of the noise.
_NEGLIGIBLE = 0.01
_MOST_STEPS = 64
# Steps are at most so many times of relaxation; the method is stable up to 3.3.
_STABLE = 2.5
# Gauss-Newton ends after so many rounds, or steps that were tried, or where the cost falls by less than this part.
_ROUNDS, _TRIALS, _SETTLED = 25, 50, 1e-4
_DAMPINGS = (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Gaps between windows cost so many times what residuals of their size do: orbits are to have none, whatever they fit.
_CONTINUITY = 1e4
# Residuals beyond so many standard deviations count less (Huber).
_OUTLYING = 3.0


@dataclasses.dataclass(frozen=True)
class Windows:
    """Trajectories cut into windows of as many instants, the last of each the first of the next.

    - `t`: the instants.
    - `observed`: what is compared with the orbit, not a number elsewhere: every observation is in one window only.
    - `nodes`: the states at the first instants, from the smoothed trajectories.
    - `trajectory`: the trajectory to which each window belongs.
    - `continues`: whether the orbit of the window before goes on in it.
    - `row`: which of its trajectory's instants each instant is.
    """

    t: Float[Tensor, "windows instants"]
    observed: Float[Tensor, "windows instants state"]
    nodes: Float[Tensor, "windows state"]
    trajectory: Int[Tensor, " windows"]
    continues: Bool[Tensor, " windows"]
    row: Int[Tensor, "windows instants"]

    @classmethod
    def of(cls, trajectories: Sequence[CanonicalTrajectory], length: int | None = None) -> "Windows":
        """Cuts trajectories into windows of `length` intervals; None balances their length and their number."""
        longest = max(len(one.t) for one in trajectories)
        length = length or int(min(max((longest / _BALANCE) ** 0.5, _SHORTEST), _LONGEST))
        parts = [_cut(one, i, length) for i, one in enumerate(trajectories)]
        return cls(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _cut(one: CanonicalTrajectory, which: int, length: int) -> tuple[Tensor, ...]:
    count = max(1, -(-(len(one.t) - 1) // length))
    at = torch.arange(max(count, length + 1), device=one.t.device)
    row = at[:count, None] * length + at[: length + 1]
    beyond = row > len(one.t) - 1
    row = row.clamp(max=len(one.t) - 1)
    observed = one.observed[row].masked_fill(beyond.unsqueeze(-1), torch.nan)
    observed[:-1, -1] = torch.nan  # it is the first of the next window
    return one.t[row], observed, one.x[row[:, 0]], torch.full_like(at[:count], which), at[:count] > 0, row


class Shot(NamedTuple):
    """Orbits near to the observations, and the problem linearised at them.

    - `theta`: the unknowns of the law.
    - `nodes`, `ends`: states at the first and at the last instant of each window.
    - `residual`: observed less fitted, at every instant of every window; not a number where nothing was observed.
    - `design`, `misfit`: a row for each observation in units of its noise; the columns are the start of each orbit and
        then θ.
    - `target`: what a change of the columns is to remove: the misfit, once gaps between windows are closed.
    - `instants`: the window of each row, its place there, and the coordinate.
    - `prior`, `lacking`: the rows of the prior, and their residuals.
    - `to_nodes`, `to_ends`: how nodes and ends change with the columns.
    - `open`: by how much each node misses the end of the orbit before it.
    - `cost`: half the sum of squares.
    - `settled`: whether the cost fell no more.
    """

    theta: Float[Tensor, " unknowns"]
    nodes: Float[Tensor, "windows state"]
    ends: Float[Tensor, "windows state"]
    residual: Float[Tensor, "windows instants state"]
    design: Float[Tensor, "observations columns"]
    misfit: Float[Tensor, " observations"]
    target: Float[Tensor, " observations"]
    instants: Int[Tensor, "observations 3"]
    prior: Float[Tensor, "rows columns"]
    lacking: Float[Tensor, " rows"]
    to_nodes: Float[Tensor, "windows state columns"]
    to_ends: Float[Tensor, "windows state columns"]
    open: Float[Tensor, "windows state"]
    cost: float
    settled: bool = False


class Known(NamedTuple):
    """The prior of θ: rows A θ = b, each with an error of size 1."""

    rows: Float[Tensor, "rows unknowns"]
    values: Float[Tensor, " rows"]


def shoot(
    law: Law,
    windows: Windows,
    theta: Float[Tensor, " unknowns"],
    nodes: Float[Tensor, "windows state"],
    noise: Float[Tensor, " state"],
    known: Known,
    steps: Sequence[int],
    robust: bool = False,
) -> Shot:
    """Finds θ and the initial states whose orbits meet the observations best.

    Every window starts from a state of its own at first, near to what was observed there, so that no orbit can lose
    the phase; the linearised condition that the windows continue each other, equation (12), then removes all these
    states but the first of each orbit. Two or three rounds suffice as a rule, and at the end the windows are one orbit.

    **Arguments:**

    - `law`: what is fitted.
    - `windows`: what the law is fitted to.
    - `theta`, `nodes`: initial values.
    - `noise`: standard deviation of the observations of each coordinate.
    - `known`: the prior.
    - `steps`: how many steps the solver takes in each interval between instants, see [`enough_steps`][].
    - `robust`: whether observations beyond three times the noise count less (Huber's loss): only once the noise is
        known.

    ??? cite "Reference"

        Bock: Recent advances in parameter identification techniques for ODE. In: Numerical treatment of inverse
        problems in differential and integral equations, 1983.
    """
    shot = _linearised(law, windows, theta, nodes, noise, known, steps, robust)
    settled, trials = False, 0
    for rounds in range(_ROUNDS):
        better = None
        if trials >= _TRIALS:  # no orbit of this law meets the observations
            break
        for damping in _DAMPINGS:
            trials += 1
            change = _solution(shot, damping)
            moved = shot.theta + change[-len(theta) :]
            at = shot.nodes + shot.to_nodes @ change + shot.open
            tried = _linearised(law, windows, moved, at, noise, known, steps, robust)
            # The first round closes the gaps, whatever that costs.
            if tried.cost < shot.cost or (rounds == 0 and tried.cost < torch.inf):
                better = tried
                break
        if better is None:
            settled = rounds > 0  # to rounding; in the first round the gaps are still open
            break
        settled = abs(shot.cost - better.cost) <= _SETTLED * better.cost
        shot = better
        if settled:
            break
    return shot._replace(settled=settled)


def _linearised(
    law: Law,
    windows: Windows,
    theta: Tensor,
    nodes: Tensor,
    noise: Tensor,
    known: Known,
    steps: Sequence[int],
    robust: bool,
) -> Shot:
    passed = follow(law, theta, nodes, windows.t, windows.trajectory, steps)
    x, by_start, by_theta = (part.transpose(0, 1) for part in (passed.x, passed.by_start, passed.by_unknowns))
    to_nodes, opened, gaps = _condensed(windows, nodes, x[:, -1], by_start[:, -1], by_theta[:, -1])
    size = to_nodes.shape[-1] - len(theta)
    there = windows.observed.isfinite()
    residual = torch.where(there, windows.observed - x, torch.nan)
    design = by_start @ to_nodes[:, None]
    design[..., size:] += by_theta
    to_ends = design[:, -1].clone()
    target = residual - (by_start @ opened[:, None, :, None])[..., 0]
    instants = there.nonzero()
    sigma = noise[instants[:, 2]]
    misfit = residual[there] / sigma
    limit = _OUTLYING if robust else torch.inf
    weight = (limit / misfit.abs().clamp_min(limit)).sqrt() if robust else torch.ones_like(misfit)
    prior = torch.cat([known.rows.new_zeros(len(known.rows), size), known.rows], dim=1)
    lacking = known.values - known.rows @ theta
    squares = misfit.square()
    if robust:
        squares = torch.where(misfit.abs() <= limit, squares, 2 * limit * misfit.abs() - limit**2)
    cost = (squares.sum() + _CONTINUITY * (gaps / noise).square().sum() + lacking.square().sum()).item() / 2
    return Shot(
        theta,
        nodes,
        x[:, -1],
        residual,
        design[there] * (weight / sigma)[:, None],
        misfit * weight,
        target[there] * weight / sigma,
        instants,
        prior,
        lacking,
        to_nodes,
        to_ends,
        opened,
        cost if cost == cost else float("inf"),
    )


def _condensed(
    windows: Windows, nodes: Tensor, ends: Tensor, by_start: Tensor, by_theta: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """How the nodes change with the starts of the orbits and θ, what they lack, and the gaps between windows."""
    count, dim = nodes.shape
    continues = windows.continues.tolist()
    orbits = continues.count(False)
    to_nodes = nodes.new_zeros(count, dim, orbits * dim + by_theta.shape[-1])
    opened, gaps = torch.zeros_like(nodes), torch.zeros_like(nodes)
    orbit = -1
    for k in range(count):
        if not continues[k]:
            orbit += 1
            to_nodes[k, :, orbit * dim : (orbit + 1) * dim] = torch.eye(dim).to(nodes)
            continue
        gaps[k] = ends[k - 1] - nodes[k]
        to_nodes[k] = by_start[k - 1] @ to_nodes[k - 1]
        to_nodes[k, :, orbits * dim :] += by_theta[k - 1]
        opened[k] = by_start[k - 1] @ opened[k - 1] + gaps[k]
    return to_nodes, opened, gaps


def _solution(shot: Shot, damping: float) -> Float[Tensor, " columns"]:
    """The Gauss-Newton step, with the damping relative to each column."""
    rows = torch.cat([shot.design, shot.prior])
    values = torch.cat([shot.target, shot.lacking])
    size = column_sizes(rows)
    rows = rows / size
    if damping:
        rows = torch.cat([rows, damping**0.5 * torch.eye(len(size)).to(rows)])
        values = torch.cat([values, values.new_zeros(len(size))])
    if not (rows.isfinite().all() and values.isfinite().all()):
        return torch.zeros_like(size)
    return least_squares(rows, values[:, None], 1e-13)[:, 0] / size


def column_sizes(rows: Float[Tensor, "rows columns"]) -> Float[Tensor, " columns"]:
    """The lengths of the columns, 1 for one of zeros.

    No column is small in comparison with another: starts of orbits and unknowns of a law have units of their own.
    """
    size = rows.norm(dim=0)
    return torch.where(size > 0, size, 1.0)


def enough_steps(
    law: Law,
    windows: Windows,
    theta: Float[Tensor, " unknowns"],
    nodes: Float[Tensor, "windows state"],
    noise: Float[Tensor, " state"],
) -> list[int]:
    """The number of steps for each interval between instants, so large that their errors do not matter."""
    stable = stable_steps(law, windows, theta, nodes)
    passed = follow(law, theta, nodes, windows.t, windows.trajectory, stable)
    error = (passed.error / (_NEGLIGIBLE * noise)).amax((1, 2))
    count = error.nan_to_num(nan=float("inf")).clamp(1.0, float(_MOST_STEPS) ** 5) ** 0.2
    return [min(a * b, _MOST_STEPS) for a, b in zip(count.ceil().int().tolist(), stable, strict=True)]


def stable_steps(
    law: Law, windows: Windows, theta: Float[Tensor, " unknowns"], nodes: Float[Tensor, "windows state"]
) -> list[int]:
    """The steps for each interval with which dry friction, steep around v = 0, is followed without oscillation.

    Its rate of relaxation there is d/width ∂v/∂p; the method is stable up to 3.3 of these times the step.
    """
    spans = (windows.t[:, 1:] - windows.t[:, :-1]).amax(0)
    if "dry" not in law.kinds:
        return [1] * len(spans)
    n = nodes.shape[1] // 2
    mobility = rates(law, theta, nodes, windows.t[:, 0], windows.trajectory).by_state[:, :n, n:].abs().amax()
    d = law.split(theta)[1][law.kinds.index("dry")].abs()
    return (spans * d * mobility / (law.width * _STABLE)).clamp(1, _MOST_STEPS).ceil().int().tolist()
