"""The notes and warnings of a fit: what was found, and what may be wrong."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import FRICTION
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.friction import Kinds
from meta_hamiltonian.inference.outlook import TOLERATED, Outlook
from meta_hamiltonian.inference.solution import Solution, Task
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.learners.quality import POOR
from meta_hamiltonian.observations import ObservationError

# A residual as large as this part of the derivatives is worth a warning.
_LARGE = 0.05
# Orbits that miss the observations by this part of their size are not those of the system.
_MISSED, _LOST = 0.1, 0.3
# States beyond so many boxes, or momenta within this part of one, are in other units.
_FAR, _SLIGHT = 3.0, 1e-3


def with_error(value: float, deviation: float) -> str:
    """A number and its standard deviation, such as `0.0134 ± 0.0003`."""
    if not 0 < deviation < math.inf:
        return f"{value:.4g}"
    places = max(0, -math.floor(math.log10(deviation)))
    return (
        f"{value:.{places}f} ± {deviation:.{places}f}"
        if deviation < 1 and places < 7
        else f"{value:.4g} ± {deviation:.1g}"
    )


def about_friction(
    friction: Mapping[str, tuple[float, float]],
    solution: Solution,
    how: str,
    kinds: Kinds | None,
    usual: Mapping[str, tuple[float, float]],
) -> list[str]:
    """What was found of friction, in words.

    **Arguments:** `usual`: mean and standard deviation of the coefficients that members of the family have.
    """
    if kinds == ():
        return ["Friction was left out (friction=none)."] if how == "orbit" else []
    words = [
        f"{kind} {with_error(value, deviation)} per unit of {FRICTION[kind].of}"
        for kind, (value, deviation) in friction.items()
    ]
    before = "".join(
        f" The prior is the {kind} friction of the family's members, {with_error(*usual[kind])}."
        for kind in friction
        if kind in usual and how == "orbit"
    )
    if kinds is not None:
        lost = [kind for kind in kinds if kind not in friction]
        said = [f"Friction: {', '.join(words)}.{before}"] if words else []
        return said + [f"No {kind} friction: its best coefficient is negative, which adds energy." for kind in lost]
    if not words and not solution.candidates:
        return ["Friction was not looked for: give --friction viscous, quadratic or dry, or a longer recording."]
    if not words:
        return ["No friction: a law without it explains the observations as well."]
    others = [" + ".join(one.kinds) or "none" for one in solution.candidates if set(one.kinds) != set(friction)]
    near = max((one.evidence for one in solution.candidates), default=0.0) - 6.0
    close = [
        " + ".join(one.kinds) or "none"
        for one in solution.candidates
        if one.evidence > near and not set(one.kinds) >= set(friction)
    ]
    doubt = f" These observations cannot distinguish it from {', '.join(close)}" if close else ""
    if doubt:
        doubt += "; the bands include all of these." if solution.samples is not None else "."
    compared = f" (compared with {', '.join(others)})" if others else ""
    return [f"Friction: {', '.join(words)}{compared}.{doubt}{before}"]


def missed(learner: Learner, task: Task, solution: Solution, usual: float | None) -> list[str]:
    """Whether the orbits meet the observations, but for the noise that these have around smooth curves.

    **Raises:** [`ObservationError`][] if they do not at all and the units are the likely reason.
    """
    x = torch.cat([path.x for path in task.paths])
    seen = torch.cat([path.observed.isfinite() for path in task.paths]).any(0)
    noise = torch.stack([path.noise for path in task.paths]).square().mean(0)
    part = ((solution.noise.square() - noise).clamp_min(0.0).sqrt() / x.std(0))[seen].min().item()
    if part <= _MISSED:
        return []
    missed = f"the orbits miss the observations by {part:.0%} of their size"
    if part > _LOST:
        _check_units(learner, x, missed)
    reason = f"this system is not of the family{_or_poor(usual)}{_or_rough(learner)}"
    lost = "; do not trust the prediction" if part > _LOST else ""
    return [f"{missed[0].upper()}{missed[1:]}: {reason}{lost}."]


def _or_poor(usual: float | None) -> str:
    return ", or the learner is not trained well enough" if usual is not None and usual > POOR else ""


def _or_rough(learner: Learner) -> str:
    return "" if learner.solves_for_head else ", or this learner is too rough for orbits: train one with algo=ridge"


def _check_units(learner: Learner, x: Float[Tensor, "points state"], missed: str) -> None:
    """**Raises:** [`ObservationError`][] where states lie so far from those of the training that another unit is
    likely.
    """
    domain = learner.net.domain
    n = domain.degrees_of_freedom
    size = (x - x.new_tensor(domain.centre)).abs().amax(0) / x.new_tensor(domain.half_widths)
    hints = []
    if (size[:n] > _FAR).any():
        hints.append("q reaches far beyond the domain, as degrees do: --units q=deg")
    if (size[n:] < _SLIGHT).all():
        hints.append("velocities are tiny, as with times in milliseconds: --units t=ms")
    if (size[n:] > _FAR).any() and not hints:
        hints.append("velocities are far beyond the domain, as with times in minutes: --units t=min")
    if hints:
        raise ObservationError(f"{missed}, and {'; '.join(hints)}")


def outside(learner: Learner, points: Points) -> list[str]:
    """Whether states lie where the learner was not trained."""
    domain = learner.net.domain
    count = int(domain.outside(points.x).sum())
    if not count:
        return []
    box = ", ".join(f"{c.name} from {c.low:.3g} to {c.high:.3g}" for c in domain.coordinates)
    return [
        f"{count} of {len(points.x)} observed states lie outside the domain that the learner was trained in ({box}): "
        "do not trust the dynamics there."
    ]


def badly_met(residual: float, usual: float | None) -> list[str]:
    """Whether the rates are met.

    **Arguments:**

    - `residual`: the RMS of their residuals, relative to that of the rates.
    - `usual`: the relative error of the fields of held-out systems; None where it is not known.
    """
    if residual <= _LARGE:
        return []
    met = f"The fit misses the observed derivatives by {residual:.1%} of their RMS"
    if usual is None:
        return [f"{met}: this system is unlike those of the training, or its observations are noisy."]
    if usual <= POOR:
        return [
            f"{met}, but held-out systems of the training family by {100 * usual:.1g}%: this system is unlike "
            "them, or its observations are noisy."
        ]
    return [
        f"{met}, and held-out systems of the training family by {100 * usual:.1g}%: the learner is not trained well "
        "enough; do not trust the prediction."
    ]


def of_little_worth(outlook: Outlook, met: float, usual: float | None) -> list[str]:
    """A warning where a forecast is worth little, with the reason and what helps.

    **Arguments:** `met`: the relative residual of the observations; `usual`: as for [`badly_met`][].
    """
    if not outlook.worthless:
        return []
    if usual is not None and usual > POOR:
        reason = f"the learner misses held-out systems of its own family by {usual:.0%}; train it for longer"
    elif met > _LARGE:
        reason = (
            f"the fit misses the observations by {met:.0%}; measure more or better, or train on a family that this "
            "system is a member of"
        )
    else:
        reason = "these observations do not determine the system; observe more, or predict for a shorter time"
    since = f", and by more than {TOLERATED:.0%} from t = {outlook.until:.3g} on" if outlook.until < math.inf else ""
    return [f"The prediction is off by about {outlook.error:.0%} of the size of the motion{since}: {reason}."]


def several_answers(shares: Sequence[float], how: str) -> list[str]:
    """A warning where laws with different latents explain the observations about as well."""
    if len(shares) < 2:
        return []
    each = ", ".join(f"{share:.0%}" for share in shares)
    bands = (
        "the bands are those of all of them" if how == "derivatives" else "the bands are those of the likeliest alone"
    )
    return [
        f"{len(shares)} members of the family explain these observations (probabilities {each}); the likeliest is "
        f"shown, {bands}: observe more points to tell them apart."
    ]
