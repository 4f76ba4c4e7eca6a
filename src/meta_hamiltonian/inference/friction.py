"""Which friction a recording supports."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import FRICTION

# Twice the logarithm of the evidence by which a more complicated law must win, "strong" in the words of Kass and
# Raftery; for a second kind of friction besides the first, "very strong".
_STRONG, _VERY_STRONG = 6.0, 10.0
# The kind that is taken where the evidence does not tell kinds apart: what most bearings and slow flows do.
_USUAL = "viscous"
_IN_ORDER = sorted(FRICTION, key=lambda kind: kind != _USUAL)
Kinds = tuple[str, ...]
FIRST: Kinds = (_USUAL,)
"""The friction that is fitted first where none is expected."""


class Candidate(NamedTuple):
    """A law that was tried, and twice the logarithm of its evidence, up to a constant."""

    kinds: Kinds
    evidence: float


def choose(
    fit: Callable[[Kinds], Kinds],
    evidence: Callable[[Sequence[Kinds]], Sequence[float]],
    expected: Kinds = (),
) -> tuple[Kinds, list[Candidate]]:
    """Tries the expected friction, none, each kind alone, and a kind besides the best.

    What is expected is kept unless the evidence against it is strong, and viscous friction is preferred to other kinds.

    **Arguments:**

    - `fit`: fits a law with kinds of friction, and returns those that are left: none whose coefficient would be
        negative.
    - `evidence`: twice the logarithm of the evidence for each of some laws, up to a constant that they share.
    - `expected`: the friction that the members of the family have; none where nothing is known of it.

    **Returns:** the kinds, and everything that was tried.

    ??? cite "Reference"

        Kass, Raftery: Bayes factors. Journal of the American Statistical Association 90, 1995.
    """
    fit(expected or FIRST)  # first: the others start from what it finds
    expected = fit(expected)
    singles = [kinds for kind in _IN_ORDER if fit(kinds := (kind,)) == kinds]
    laws = list(dict.fromkeys([expected, *singles, fit(())]))
    found = dict(zip(laws, evidence(laws), strict=True))
    first = max(found, key=lambda kinds: found[kinds])
    if found[first] <= found[expected] + _STRONG:
        first = expected
    elif first and found.get(FIRST, -math.inf) > max(found[first] - _STRONG, found[expected] + _STRONG):
        first = FIRST
    if not first:
        return (), _candidates(found)
    more = [tuple(k for k in FRICTION if k in (*first, other)) for other in FRICTION if other not in first]
    more = [kinds for kinds in more if fit(kinds) == kinds]
    found = dict(zip([*laws, *more], evidence([*laws, *more]), strict=True))
    best = max(more, key=lambda kinds: found[kinds], default=first)
    return (best if found[best] > found[first] + _VERY_STRONG else first), _candidates(found)


def _candidates(tried: Mapping[Kinds, float]) -> list[Candidate]:
    return sorted((Candidate(*item) for item in tried.items()), key=lambda one: -one.evidence)


def shares(candidates: Sequence[Candidate], count: int, expected: Kinds = (), least: float = 0.01) -> dict[Kinds, int]:
    """How many of `count` samples come from each law.

    A law's share is its probability: its evidence, times the prior odds with which [`choose`][] prefers what is
    expected to other laws, and viscous friction to other kinds. Laws with next to no share are left out.
    """
    values = np.array([one.evidence - _reserve(one.kinds, expected) for one in candidates]) / 2
    weights = np.exp(values - values.max())
    weights = np.where(weights < least * weights.sum(), 0.0, weights)
    counts = np.floor(count * weights / weights.sum() + 0.5).astype(int)
    counts[int(counts.argmax())] += count - counts.sum()
    return {one.kinds: int(n) for one, n in zip(candidates, counts, strict=True) if n}


def _reserve(kinds: Kinds, expected: Kinds) -> float:
    """Twice the logarithm of the odds against a law before anything is observed."""
    if kinds == expected:
        return 0.0
    unusual = 0.0 if not kinds or {_USUAL, *expected} & set(kinds) else _STRONG
    return _STRONG + unusual + (_VERY_STRONG if len(kinds) > max(1, len(expected)) else 0.0)


def correlation_time(residual: Float[Tensor, " instants"]) -> float:
    """For how many instants residuals are correlated: 1 where they are independent.

    The sum of the absolute autocorrelations, over at most a quarter of the instants: so many neighbours count as one
    observation. Correlations within what chance leaves, 2/√N, do not count.
    """
    r = residual[residual.isfinite()]
    count = len(r)
    if count < 8 or not r.square().sum() > 0:
        return 1.0
    r = r - r.mean()
    spectrum = torch.fft.rfft(r, n=2 * count).abs().square()
    correlations = torch.fft.irfft(spectrum)[: count // 4] / (r.square().sum())
    size = correlations[1:].abs()
    small = (size < 2 / count**0.5).nonzero()
    # Up to where two in a row are small.
    runs = [i for i in small[:, 0].tolist() if i + 1 >= len(size) or size[i + 1] < 2 / count**0.5]
    end = runs[0] if runs else len(size)
    return 1.0 + 2.0 * size[:end].sum().item()
