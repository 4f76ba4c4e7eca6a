"""The width of the bands of a family, checked on its own recordings."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes.recordings import RecordedMember
from meta_hamiltonian.evaluation.coverage import LEVELS
from meta_hamiltonian.evaluation.forecasts import forecast
from meta_hamiltonian.evaluation.halves import Forecast
from meta_hamiltonian.inference.widened import MOST
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.observations import Derivatives, ObservationError
from meta_hamiltonian.observations.inertias import Inertias

# Recordings that are predicted, at most: each takes some seconds.
_MEMBERS = 6
# The level at which bands are made to hold, the normal quantile of its two ends, and the parts that are observed.
_LEVEL, _QUANTILE, _OBSERVED = 0.95, 1.96, (0.5, 0.25)
# The smallest factor that is not said as 1, and so the smallest that is used.
_WIDER = 1.005


def band_factor(
    learner: Learner,
    held_out: Sequence[RecordedMember],
    trained: Sequence[RecordedMember],
    inertias: Inertias,
    validation_loss: float | None,
) -> float:
    """The factor by which bands have to be widened to hold 95 % of what followed the beginnings of recordings.

    It lies between 1 and [`MOST`][], and is 1 where no recording can be predicted with bands. Halves and quarters of
    recordings are tried as beginnings, and the larger factor counts: the errors of a law weigh more in forecasts from
    little. Every recording counts alike, however long it is.

    **Arguments** beside those of [`forecast`][]: members that the learner has not been trained on, which tell most, and
    those that it has, of which some are taken where the others are few.
    """
    first = _some(held_out, _MEMBERS)
    members = [*first, *_some(trained, _MEMBERS - len(first))]
    factors = []
    for observed in _OBSERVED:
        away = []
        for member in members:
            try:
                found = forecast(learner, member, observed, inertias, validation_loss)
            except ObservationError:
                continue  # it is too short, or no orbit meets it; the test says so of its members
            if found.bands and found.halves.rest.isfinite().any():
                away.append(_away(found))
        factors.append(_quantile(away) / _QUANTILE if away else 1.0)
    factor = min(max(factors), MOST)
    return factor if factor >= _WIDER else 1.0


def _away(found: Forecast) -> Float[Tensor, " seen"]:
    """How far what was seen later lies from the middle of the bands, in standard deviations that these tell."""
    low, high = found.bands[LEVELS.index(_LEVEL)]
    away = ((found.halves.rest - (low + high) / 2) * 2 * _QUANTILE / (high - low)).abs()
    return away[found.halves.rest.isfinite()].nan_to_num(nan=torch.inf)


def _quantile(parts: Sequence[Float[Tensor, "_"]]) -> float:
    """That of `_LEVEL`, where all parts count alike."""
    ordered, order = torch.cat(list(parts)).sort()
    weights = torch.cat([torch.full_like(part, 1 / len(part) / len(parts)) for part in parts])
    last = int((weights[order].cumsum(0) < _LEVEL).sum())
    return ordered[min(last, len(ordered) - 1)].item()  # the sum of the weights is 1 up to rounding


def _some(members: Sequence[RecordedMember], most: int) -> Sequence[RecordedMember]:
    """Members that have trajectories, evenly chosen."""
    recorded = [one for one in members if not isinstance(one.observations, Derivatives)]
    return [recorded[i * len(recorded) // most] for i in range(most)] if len(recorded) > most else recorded
