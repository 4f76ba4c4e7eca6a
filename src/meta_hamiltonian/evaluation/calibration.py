"""The width of the bands of a family, checked on its own recordings."""

from collections.abc import Sequence

import torch

from meta_hamiltonian.episodes.recordings import RecordedMember
from meta_hamiltonian.evaluation.coverage import LEVELS
from meta_hamiltonian.evaluation.forecasts import forecast
from meta_hamiltonian.inference.widened import MOST
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.observations import Derivatives, ObservationError

# Recordings that are predicted, at most: each takes some seconds.
_MEMBERS = 6
# The level at which bands are made to hold, the normal quantile of its two ends, and the part that is observed.
_LEVEL, _QUANTILE, _OBSERVED = 0.95, 1.96, 0.5
# The smallest factor that is not said as 1, and so the smallest that is used.
_WIDER = 1.005


def band_factor(
    learner: Learner,
    held_out: Sequence[RecordedMember],
    trained: Sequence[RecordedMember],
    inertia: Sequence[float],
    validation_loss: float | None,
) -> float:
    """The factor by which bands have to be widened to hold 95 % of what followed the first halves of recordings.

    It lies between 1 and [`MOST`][], and is 1 where no recording can be predicted with bands. Every recording counts
    alike, however long it is.

    **Arguments** beside those of [`forecast`][]: members that the learner has not been trained on, which tell most, and
    those that it has, of which some are taken where the others are few.
    """
    errors, weights = [], []
    first = _some(held_out, _MEMBERS)
    for member in [*first, *_some(trained, _MEMBERS - len(first))]:
        try:
            found = forecast(learner, member, _OBSERVED, inertia, validation_loss)
        except ObservationError:
            continue  # it is too short, or no orbit meets it; the test says so of its members
        seen = found.halves.rest.isfinite()
        if not (found.bands and seen.any()):
            continue
        low, high = found.bands[LEVELS.index(_LEVEL)]
        away = ((found.halves.rest - (low + high) / 2) * 2 * _QUANTILE / (high - low)).abs()
        away = away[seen].nan_to_num(nan=torch.inf)
        errors.append(away)
        weights.append(torch.full_like(away, 1 / len(away)))
    if not errors:
        return 1.0
    ordered, order = torch.cat(errors).sort()
    held = torch.cat(weights)[order].cumsum(0) / len(errors)
    last = min(int((held < _LEVEL).sum()), len(ordered) - 1)  # the sum of the weights is 1 up to rounding
    factor = min(ordered[last].item() / _QUANTILE, MOST)
    return factor if factor >= _WIDER else 1.0


def _some(members: Sequence[RecordedMember], most: int) -> Sequence[RecordedMember]:
    """Members that have trajectories, evenly chosen."""
    recorded = [one for one in members if not isinstance(one.observations, Derivatives)]
    return [recorded[i * len(recorded) // most] for i in range(most)] if len(recorded) > most else recorded
