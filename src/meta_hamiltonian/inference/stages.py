"""How a system was found: the adapted system after fewer observations, or after fewer gradient steps."""

import dataclasses
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Terms
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.fit import Fit
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.models import AdaptedSystems

SAMPLES = 39
"""The 40th draw lies between the smallest and the largest of 39 with a probability of 38/40, which is 95 %."""
# Gradient steps that are shown, and numbers of observations, each a good third more than the last.
_STEPS, _FIRST, _MORE = (0, 1, 2, 5, 10, 20, 50, 100), 1, 1.4
_MOST_STAGES = 12


@dataclasses.dataclass(frozen=True)
class Stage:
    """One system on the way to the adapted one.

    - `label`: in words, such as `8 of 25 observations`.
    - `system`: the system, a batch of one.
    - `samples`: systems drawn from its posterior; None without one.
    """

    label: str
    system: AdaptedSystems
    samples: AdaptedSystems | None


def stages(learner: Learner, fit: Fit) -> list[Stage]:
    """From nothing to the system that was found, which is the last.

    A learner that takes gradient steps has taken fewer; one that solves for its head has seen fewer observations, the
    first ones, with the kinds of friction of the last.
    """
    final = Stage(
        "", fit.adapted.systems, None if fit.samples is None else fit.samples.first(SAMPLES).some(_FIRST_ONES)
    )
    if not learner.net.has_head:
        return [dataclasses.replace(final, label=f"all {len(fit.x)} observations")]
    # What inputs have added to the rates is known from the last.
    given = fit.dxdt - (fit.fitted - fit.adapted.field(fit.x))
    forces = fit.adapted.systems.forces
    kinds, width = ((), 1.0) if forces is None else (forces.kinds, forces.width)
    terms, count = Terms(kinds, width), SAMPLES if learner.has_posterior else 0
    found = [Stage("before any observation", fit.before.systems, None)]
    if len(learner.tested_steps(_STEPS)) > 1:
        for steps in (steps for steps in _STEPS if 0 < steps < fit.steps):
            forced = learner.adapt_forced(Points(fit.x, given), terms, None, steps)
            found.append(Stage(f"{steps} of {fit.steps} gradient steps", forced.adapted, None))
        return [*_finite(found, fit.x), dataclasses.replace(final, label=f"{fit.steps} gradient steps")]
    total = len(fit.x)
    for k in _numbers(total, _FIRST if not kinds else len(kinds) + 2):
        forced = learner.adapt_forced(Points(fit.x[:k], given[:k]), terms, None, None, count)
        found.append(Stage(f"{k} of {total} observations", forced.adapted, forced.samples))
    words = f"all {total} observations" + (", and the orbit through them" if fit.how == "orbit" else "")
    return [*_finite(found, fit.x), dataclasses.replace(final, label=words)]


_FIRST_ONES = slice(0, SAMPLES)


def _numbers(total: int, first: int) -> Sequence[int]:
    """Numbers of observations, each a good third more than the last."""
    k, found = float(first), []
    while round(k) < total:
        found.append(round(k))
        k = max(k * _MORE, k + 1)
    while len(found) > _MOST_STAGES:
        found = found[::2]
    return found


def _finite(found: Sequence[Stage], x: Float[Tensor, "points state"]) -> list[Stage]:
    """The stages without those that too few observations left without a field."""
    return [stage for stage in found if stage.system.field(x[None]).isfinite().all()]
