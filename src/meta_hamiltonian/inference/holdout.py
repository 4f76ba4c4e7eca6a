"""The errors of a fit at observations that it was not given."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Inertia, Signal, Terms
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.friction import Kinds
from meta_hamiltonian.inference.solution import WAYS, of_trajectories
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.observations import Trajectory, canonical
from meta_hamiltonian.observations.canonical_states import observed_states

# The part of a trajectory, its end, that is held out.
_HELD_OUT = 0.25
# The orbit is compared with observations, which have errors of their own.
_TOLERANCE = 1e-7
# Samples that tell what error is expected, and steps that their orbits may take for each instant.
_SAMPLES, _STEPS = 50, 20.0
# Parts into which points are divided, each of which is left out once.
_FOLDS = 5
ENOUGH = 8
"""The fewest instants of a trajectory whose end is held out."""


class HeldOut(NamedTuple):
    """How well the ends of trajectories are predicted from their beginnings, by the way to fit.

    - `errors`: RMS distance from what was observed, in units of the state box; infinite where an orbit cannot be
        followed.
    - `relative`: the same in units of the standard deviation of each coordinate.
    - `surprise`: the same in units of the error that samples of the posterior, and noise, predict; for the ways that
        have samples.
    - `duration`: that of the end that was held out.
    """

    errors: Mapping[str, float]
    relative: Mapping[str, float]
    surprise: Mapping[str, float]
    duration: float


def errors_at_the_end(
    learner: Learner,
    observations: Sequence[Trajectory],
    ways: Sequence[str],
    inertia: Inertia,
    steps: int | None,
    kinds: Kinds = (),
    signals: tuple[Signal, ...] = (),
) -> HeldOut:
    """Fits the beginnings alone in each way, and follows the orbit to the end of the last trajectory."""
    counts = [round((1 - _HELD_OUT) * len(trajectory.t)) for trajectory in observations]
    beginnings = [canonical(_first(one, count), inertia) for one, count in zip(observations, counts, strict=True)]
    defined = None if observations[-1].p is not None else inertia
    device = learner.device
    task = of_trajectories(beginnings, signals, defined, device)
    last, count = observations[-1], counts[-1]
    states = torch.from_numpy(observed_states(last, inertia)).to(device)
    observed = states[count:]
    t = torch.from_numpy(last.t)[count - 1 :].to(device)
    size = torch.stack([_deviation(column) for column in states.unbind(-1)])
    errors, relative, surprise = {}, {}, {}
    for how in ways:
        solution = WAYS[how](learner, task, kinds, steps)
        orbit = solution.adapted.orbits(solution.end[None], t, _TOLERANCE)
        away = orbit.states[1:, 0] - observed
        errors[how] = torch.inf if orbit.diverged[0] else _rms(away / learner.net.state_box.double())
        relative[how] = torch.inf if orbit.diverged[0] else _rms(away / size)
        if solution.samples is not None and solution.end_samples is not None and not orbit.diverged[0]:
            samples = solution.samples.first(_SAMPLES)
            starts = solution.end_samples[:: max(1, len(solution.end_samples) // _SAMPLES)]
            sampled = samples.rollout(starts, t, _TOLERANCE, _STEPS * len(t))
            expected = (sampled.states[1:] - orbit.states[1:]).square().mean(1) + solution.noise.square()
            surprise[how] = _rms(away / expected.sqrt())
    return HeldOut(errors, relative, surprise, (t[-1] - t[0]).item())


def error_at_left_out(learner: Learner, points: Points, terms: Terms, steps: int | None) -> float | None:
    """The relative error of the rates at some points when the learner is adapted to the others.

    Every point is left out once. The noise of what was observed there is taken out. One point alone tells nothing.
    """
    count = len(points.x)
    if count < 2:
        return None

    scales = points.dxdt.new_tensor(learner.net.domain.error_scales)

    def missed(kept: Tensor, at: Tensor) -> Tensor:
        own = terms._replace(u=None if terms.u is None else terms.u[kept])
        adapted = learner.adapt_forced(Points(points.x[kept], points.dxdt[kept]), own, None, steps).adapted
        return (adapted.field(points.x[None, at])[0] - points.dxdt[at]) / scales

    fold = torch.arange(count, device=points.x.device) % min(_FOLDS, count)
    size = (points.dxdt / scales).square().mean()
    left = torch.cat([missed(fold != out, fold == out) for out in fold.unique()]).square().mean() / size
    everything = torch.ones_like(fold, dtype=torch.bool)
    # Noise makes residuals smaller at points that were seen by as much as it makes them larger at the others.
    fitted = ((left - missed(everything, everything).square().mean() / size) / 2).clamp_min(0.0)
    noise = learner.noise_of(Points(points.x[None], points.dxdt[None]))
    if not learner.net.has_head:  # a law without misfit
        left = fitted
    elif noise is not None:
        left = (left - noise**2).maximum(fitted)
    return left.sqrt().nan_to_num(nan=torch.inf).item()


def _deviation(values: Float[Tensor, " instants"]) -> Float[Tensor, ""]:
    seen = values[values.isfinite()]
    return seen.std() if len(seen) > 1 else values.new_tensor(torch.inf)  # of one that is not compared


def _rms(error: Float[Tensor, "instants state"]) -> float:
    return error[error.isfinite()].square().mean().sqrt().item()


def _first(trajectory: Trajectory, count: int) -> Trajectory:
    parts = {name: getattr(trajectory, name) for name in ("t", "q", "p", "v")}
    return dataclasses.replace(trajectory, **{name: v if v is None else v[:count] for name, v in parts.items()})
