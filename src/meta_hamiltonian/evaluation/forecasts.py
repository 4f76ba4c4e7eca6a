"""How well the rest of a recording is predicted from its beginning: a test that needs no truth."""

import math
import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes.recordings import RecordedMember
from meta_hamiltonian.evaluation.baselines import Baselines
from meta_hamiltonian.evaluation.coverage import LEVELS, Coverage
from meta_hamiltonian.evaluation.halves import LEARNED, Forecast, cut, error_of
from meta_hamiltonian.inference.bands import interval
from meta_hamiltonian.inference.fit import Fit, fit
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.observations import ObservationError
from meta_hamiltonian.observations.inertias import Inertias

# Errors of a step of the forecasts, and steps that an orbit of a sample may take for each instant.
_TOLERANCE, _STEPS = 1e-7, 20.0


def forecast(
    learner: Learner,
    member: RecordedMember,
    part: float,
    inertias: Inertias,
    validation_loss: float | None = None,
) -> Forecast:
    """Adapts to the first part of a member's recordings as `adapt` does, and predicts the rest of the last one.

    **Arguments:**

    - `learner`: a trained learner, or one that needs no training.
    - `part`: the part of the time of each recording that is observed.
    - `inertias`: where momenta were not observed, the mass matrices M of p = M dq/dt.
    - `validation_loss`: see [`fit`][].

    **Raises:** [`ObservationError`][] for a member that cannot be cut or fitted.
    """
    halves = cut(member, part, inertias)
    began = time.perf_counter()
    found = fit(
        learner,
        halves.beginnings,
        inertia=inertias.numbers,
        validation_loss=validation_loss,
        same_momenta=member.without_momenta,
    )
    seconds = time.perf_counter() - began
    t = halves.t.to(learner.device)
    orbit = found.adapted.orbits(found.start[None], t, _TOLERANCE)
    states = orbit.states[1:, 0].cpu()
    bands = [(low.cpu(), high.cpu()) for low, high in _bands(found, t)]
    friction = list(found.friction)
    return Forecast(
        member.name,
        LEARNED,
        halves,
        states,
        bands,
        error_of(states, halves),
        [_inside(band, halves.rest) for band in bands],
        bool(orbit.diverged[0]),
        seconds,
        friction,
    )


def forecasts(
    learner: Learner,
    members: Sequence[RecordedMember],
    part: float,
    inertias: Inertias,
    validation_loss: float | None = None,
    baselines: Baselines | None = None,
    warned: Callable[[str], None] = lambda _: None,
    said: Callable[[str, float], None] = lambda _what, _done: None,
) -> list[Forecast]:
    """The forecasts of all members, each with those of the baselines.

    **Arguments** beside those of [`forecast`][]:

    - `members`: whose recordings are predicted; one that cannot be cut or fitted is left out.
    - `baselines`: None is the learner alone.
    - `warned`: is given a line about each member that is left out.
    - `said`: is told which member is predicted, and which part of the work is done, such as by a progress bar.
    """
    found = []
    for i, member in enumerate(members):
        said(f"predicting {member.name}", i / len(members))
        try:
            found.append(forecast(learner, member, part, inertias, validation_loss))
            if baselines is not None:
                found += baselines.forecasts(member, found[-1].halves)
        except ObservationError as error:
            warned(f"{member.name} is not predicted: {error}")
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


def _bands(found: Fit, t: Float[Tensor, " instants"]) -> list[tuple[Tensor, Tensor]]:
    """Credible intervals of what will be observed, errors of observation included."""
    if found.samples is None or found.start_samples is None:
        return []
    orbits = found.samples.rollout(found.start_samples, t, _TOLERANCE, _STEPS * len(t)).states[1:].transpose(0, 1)
    unit = torch.randn(orbits.shape, dtype=orbits.dtype, generator=torch.Generator().manual_seed(2))
    return [interval(orbits + found.noise * unit.to(orbits.device), level) for level in LEVELS]


def _inside(band: tuple[Tensor, Tensor], rest: Float[Tensor, "later state"]) -> float:
    seen = rest.isfinite()
    return ((band[0] <= rest) & (rest <= band[1]))[seen].double().mean().item()
