"""How well the rest of a recording is predicted from its beginning: a test that needs no truth."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes.recordings import RecordedMember
from meta_hamiltonian.evaluation.coverage import LEVELS, Coverage
from meta_hamiltonian.inference.bands import interval
from meta_hamiltonian.inference.fit import Fit, fit
from meta_hamiltonian.learners import Learner, Scratch
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.models.adapted import REACH
from meta_hamiltonian.observations import Derivatives, ObservationError, Trajectory, canonical, well_known_points
from meta_hamiltonian.observations.canonical import observed_states
from meta_hamiltonian.observations.splines import continued

LEARNED = "learned"
"""The name of the learner that is tested, among the baselines."""

# Fewer instants are no beginning to fit, or no rest to compare with.
_FEWEST = 4
# Errors of a step of the forecasts, and steps that an orbit of a sample may take for each instant.
_TOLERANCE, _STEPS = 1e-7, 20.0
# Width, depth, steps and rate of the Hamiltonian network that is fitted to one member alone.
_WIDTH, _DEPTH, _ITERATIONS, _RATE = 64, 3, 500, 0.01


class Halves(NamedTuple):
    """A member whose recordings are cut in two.

    - `beginnings`: what is observed.
    - `t`: from the last observed instant of the last recording on, those of its rest.
    - `rest`: the states there, the first instant left out; not a number where nothing was observed.
    - `size`: standard deviation of each coordinate along the whole recording.
    """

    beginnings: Sequence[Trajectory]
    t: Float[Tensor, " instants"]
    rest: Float[Tensor, "later state"]
    size: Float[Tensor, " state"]


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The prediction of one member's rest by one method.

    - `method`: [`LEARNED`][] or the name of a baseline.
    - `states`: predicted at the instants of the rest.
    - `bands`: for each of the levels of [`LEVELS`][], the ends of the credible intervals; empty without a posterior.
    - `error`: RMS over instants and observed coordinates of the error, each in standard deviations of its motion.
    - `covered`: the part of the observations that lie in the bands, for each level.
    - `lost`: whether the orbit could not be followed to the end.
    - `seconds`: what adapting took.
    - `friction`: the kinds that were found.
    """

    member: str
    method: str
    halves: Halves
    states: Float[Tensor, "later state"]
    bands: Sequence[tuple[Float[Tensor, "later state"], Float[Tensor, "later state"]]]
    error: float
    covered: Sequence[float]
    lost: bool
    seconds: float
    friction: Sequence[str] = ()


def cut(member: RecordedMember, part: float, inertia: Sequence[float]) -> Halves:
    """Cuts every recording of a member after this part of its time.

    **Raises:** [`ObservationError`][], where nothing is left on one of the sides.
    """
    if isinstance(member.observations, Derivatives):
        raise ObservationError("states without times have no later ones to be predicted")
    beginnings = []
    for one in member.observations:
        count = int(np.searchsorted(one.t, one.t[0] + part * (one.t[-1] - one.t[0]), side="right"))
        beginnings.append(_first(one, count))
    last, count = member.observations[-1], len(beginnings[-1].t)
    if min(len(one.t) for one in beginnings) < _FEWEST or len(last.t) - count < 1:
        raise ObservationError(f"too few instants are left on a side of {part:.0%} of its time")
    states = torch.from_numpy(observed_states(last, inertia))
    seen = states.isfinite()
    middle = torch.where(seen, states, 0.0).sum(0) / seen.sum(0).clamp(min=1)
    size = (torch.where(seen, states - middle, 0.0).square().sum(0) / seen.sum(0).clamp(min=1)).sqrt()
    return Halves(beginnings, torch.from_numpy(last.t[count - 1 :]), states[count:], size)


def _first(one: Trajectory, count: int) -> Trajectory:
    parts = {name: None if (value := getattr(one, name)) is None else value[:count] for name in ("t", "q", "p", "v")}
    return dataclasses.replace(one, **parts)


def forecast(
    learner: Learner,
    member: RecordedMember,
    part: float,
    inertia: Sequence[float],
    validation_loss: float | None = None,
) -> Forecast:
    """Adapts to the first part of a member's recordings as `adapt` does, and predicts the rest of the last one.

    **Arguments:**

    - `learner`: trained, or none that needs to be.
    - `part`: of the time of each recording that is observed.
    - `inertia`: where momenta were not observed.
    - `validation_loss`: see [`fit`][].

    **Raises:** [`ObservationError`][] for a member that cannot be cut or fitted.
    """
    halves = cut(member, part, inertia)
    began = time.perf_counter()
    found = fit(
        learner,
        halves.beginnings,
        inertia=inertia,
        validation_loss=validation_loss,
        same_momenta=member.without_momenta,
    )
    seconds = time.perf_counter() - began
    orbit = found.adapted.orbits(found.start[None], halves.t, _TOLERANCE)
    states = orbit.states[1:, 0]
    bands = _bands(found, halves.t)
    friction = list(found.friction)
    return Forecast(
        member.name,
        LEARNED,
        halves,
        states,
        bands,
        _error(states, halves),
        [_inside(band, halves.rest) for band in bands],
        bool(orbit.diverged[0]),
        seconds,
        friction,
    )


def alone(member: RecordedMember, learner: Learner, part: float, inertia: Sequence[float]) -> list[Forecast]:
    """What the member's own beginning tells without any family: a Hamiltonian network fitted to it from random
    weights, and its smoothing spline continued."""
    domain, halves = learner.net.domain, cut(member, part, inertia)
    began = time.perf_counter()
    x, dxdt, *_ = well_known_points([canonical(one, inertia) for one in halves.beginnings])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = HamiltonianNetwork(domain.state_dim, _WIDTH, _DEPTH, domain=domain)
    adapted = Scratch(net, "adam", _RATE, _ITERATIONS, "task").adapt(x, dxdt)
    seconds = time.perf_counter() - began
    orbit = adapted.orbits(canonical(halves.beginnings[-1], inertia).x[-1:], halves.t, _TOLERANCE)
    line, lost = orbit.states[1:, 0], bool(orbit.diverged[0])
    found = [Forecast(member.name, "scratch", halves, line, [], _error(line, halves), [], lost, seconds)]
    began = time.perf_counter()
    half, centre = np.array(domain.half_widths), np.array(domain.centre)
    last = halves.beginnings[-1]
    n = domain.degrees_of_freedom
    seen = observed_states(dataclasses.replace(last, integrated=False), inertia)
    columns = np.isfinite(seen).all(0)
    bounds = np.stack([centre - REACH * half, centre + REACH * half])
    states = np.full((len(halves.t) - 1, 2 * n), np.nan)
    states[:, columns] = continued(last.t, seen[:, columns], halves.t[1:].numpy(), bounds[:, columns])
    seconds = time.perf_counter() - began
    line = torch.from_numpy(states)
    return [*found, Forecast(member.name, "spline", halves, line, [], _error(line, halves), [], False, seconds)]


def forecasts(
    learner: Learner,
    members: Sequence[RecordedMember],
    part: float,
    inertia: Sequence[float],
    validation_loss: float | None = None,
    baselines: bool = True,
    said: Callable[[str], None] = lambda _: None,
) -> list[Forecast]:
    """Those of all members, with the baselines; a member that cannot be cut or fitted is said and left out."""
    found = []
    for member in members:
        try:
            found.append(forecast(learner, member, part, inertia, validation_loss))
            if baselines:
                found += alone(member, learner, part, inertia)
        except ObservationError as error:
            said(f"{member.name} is not predicted: {error}")
    return found


def coverage_of(found: Sequence[Forecast]) -> list[Coverage]:
    """The part of what was observed later that lies in the bands, for each level."""
    covered = torch.tensor([one.covered for one in found if one.covered], dtype=torch.float64)
    if not len(covered):
        return []
    means = covered.mean(0).tolist()
    return [
        Coverage(0, math.nan, "orbit", level, mean, len(covered)) for level, mean in zip(LEVELS, means, strict=True)
    ]


def figures(found: Sequence[Forecast]) -> dict[str, float | int]:
    """The columns of `results.csv` for the forecasts of one method."""
    errors = torch.tensor([one.error for one in found], dtype=torch.float64)
    covered = [one.covered[LEVELS.index(0.95)] for one in found if one.covered]
    row: dict[str, float | int] = {
        "n_systems": len(found),
        "n_diverged": sum(one.lost for one in found),
        "adapt_seconds": round(sum(one.seconds for one in found), 4),
        "orbit_rel_median": errors.quantile(0.5).item(),
    }
    return row | ({"coverage_95": sum(covered) / len(covered)} if covered else {})


def _error(states: Float[Tensor, "later state"], halves: Halves) -> float:
    away = (states - halves.rest) / halves.size.clamp_min(torch.finfo(torch.float64).tiny)
    return away[away.isfinite()].square().mean().sqrt().item()


def _bands(found: Fit, t: Float[Tensor, " instants"]) -> list[tuple[Tensor, Tensor]]:
    """Credible intervals of what will be observed, which has errors too."""
    if found.samples is None or found.start_samples is None:
        return []
    orbits = found.samples.rollout(found.start_samples, t, _TOLERANCE, _STEPS * len(t)).states[1:].transpose(0, 1)
    unit = torch.randn(orbits.shape, dtype=orbits.dtype, generator=torch.Generator().manual_seed(2))
    return [interval(orbits + found.noise * unit, level) for level in LEVELS]


def _inside(band: tuple[Tensor, Tensor], rest: Float[Tensor, "later state"]) -> float:
    seen = rest.isfinite()
    return ((band[0] <= rest) & (rest <= band[1]))[seen].double().mean().item()
