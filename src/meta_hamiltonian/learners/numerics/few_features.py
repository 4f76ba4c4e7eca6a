"""Which features a family needs: with few recordings, heads on all features would fit the errors too."""

import copy
import itertools
import math
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.learners.numerics.least_squares import least_squares
from meta_hamiltonian.learners.numerics.linear_head import balanced, head_rows
from meta_hamiltonian.models import FieldNetwork

# Features are left out as long as the variance that heads leave rises by no more than this, over all of them, or is no
# more than that of the likeliest features.
_RISE = 1.25
# So few features are a law, in which several may stand for one that was left out.
_FEW = 16
# States at which shifted features are compared, the shift as a part of the box, and what counts as nothing.
_STATES, _SHIFT, _NOTHING = 256, 0.1, 1e-6
# Singular values below this part of the largest are rounding; a ridge of this size keeps features apart that depend
# on each other.
_RESOLVED = 1e-10
# What is left of the squares of exact rates is rounding where it is no more than this part.
_ROUNDING = 1e-14


def needed(
    features: Float[Tensor, "tasks rows features"],
    targets: Float[Tensor, "tasks rows outputs"],
    rows: Float[Tensor, " tasks"],
    told: Float[Tensor, " tasks"] | None = None,
) -> Int[Tensor, " needed"]:
    """The features that are left when those that explain least are taken out, one after another; one of them comes back
    where it does what several others do.

    Each task has a head of its own, so that nothing is assumed of the distribution of heads. Smoothed derivatives have
    errors that look like small terms of the law, such as second harmonics; with these, a head that is adapted to a
    short recording is known less well.

    **Arguments:**

    - `features`, `targets`: A and y; rows that a task does not have are 0.
    - `rows`: how many it has.
    - `told`: how many of them tell something by themselves; None is all. Of errors that neighbours have in common, as
        those of smoothed derivatives, many features fit a large part.
    """
    features, targets, rows = (part.double() for part in (features, targets, rows))
    sizes = features.square().mean((0, 1)).sqrt().clamp_min(torch.finfo(features.dtype).tiny)
    features = features / sizes
    sums = _Sums(features.mT @ features, features.mT @ targets, targets.square().sum((-2, -1)), rows)
    few = _law(sums, rows if told is None else told.to(rows))
    # Many features are no law, but approximate one: each of them tells.
    found = few if told is None or len(few) <= _FEW else _law(sums, rows)
    return torch.tensor(sorted(found), device=features.device)


class _Sums(NamedTuple):
    """AᵀA, Aᵀy and yᵀy of each task, and its number of rows."""

    gram: Float[Tensor, "tasks features features"]
    along: Float[Tensor, "tasks features outputs"]
    squares: Float[Tensor, " tasks"]
    rows: Float[Tensor, " tasks"]


def _law(sums: _Sums, told: Float[Tensor, " tasks"]) -> list[int]:
    """The features that are needed, where so many rows of each task tell something by themselves."""
    gram, along, squares, rows = sums

    def left(kept: list[int]) -> float:
        """The variance that is left, without the part that so many unknowns fit by chance."""
        own = torch.linalg.pinv(gram[:, kept][:, :, kept], rtol=_RESOLVED, hermitian=True) @ along[:, kept]
        explained = (own * along[:, kept]).sum((-2, -1))
        free = rows * (1 - len(kept) / told).clamp_min(1 / told)
        return ((squares - explained).clamp_min(0.0).sum() / free.sum()).item()

    def least(kept: list[int], stays: int | None) -> int:
        """The feature that is missed least: the sum of squares rises by wᵢ² / (G⁻¹)ᵢᵢ where feature i is left out."""
        some = gram[:, kept][:, :, kept]
        ridge = _RESOLVED * some.diagonal(dim1=1, dim2=2).amax(1)[:, None, None]
        inverse = torch.linalg.inv(some + ridge * torch.eye(len(kept)).to(some))
        own = (inverse @ along[:, kept]).square().sum(-1)
        rises = (own / inverse.diagonal(dim1=1, dim2=2)).sum(0).tolist()
        return min((rise, one) for rise, one in zip(rises, kept, strict=True) if one != stays)[1]

    def fewer_and_fewer(kept: list[int], stays: int | None = None) -> Iterator[list[int]]:
        yield kept
        while len(kept) > 1:
            out = least(kept, stays)
            kept = [one for one in kept if one != out]
            yield kept

    def costs(kept: list[int]) -> float:
        """Minus twice the log evidence (Schwarz)."""
        return told.sum().item() * math.log(max(left(kept), rounding)) + len(kept) * told.log().sum().item()

    every = list(range(gram.shape[-1]))
    rounding = max(_ROUNDING * squares.sum().item() / rows.sum().item(), sys.float_info.min)
    fewer_of_all = list(fewer_and_fewer(every))
    likeliest = min(fewer_of_all, key=costs)
    most = max(_RISE * left(every), left(likeliest), rounding)

    def fewest(tried: Iterable[list[int]]) -> list[int]:
        """The last of the sets that are good enough, of which each has a feature less; all, if none is."""
        return min(itertools.takewhile(lambda kept: left(kept) <= most, tried), key=len, default=every)

    def improved(kept: list[int]) -> list[int] | None:
        """Fewer features with one that was taken out: ln r may do what several powers do together."""
        tried = (fewest(fewer_and_fewer([*kept, one], one)) for one in every if one not in kept)
        return next((fewer for fewer in tried if len(fewer) < len(kept)), None)

    kept = fewest(fewer_of_all)
    while len(kept) <= _FEW and (better := improved(kept)) is not None:
        kept = better
    return kept


def with_shifts(net: FieldNetwork, kept: Int[Tensor, " kept"], among: Int[Tensor, " features"]) -> Int[Tensor, " more"]:
    """Features together with those into which a shift of the positions turns them: cos q asks for sin q, q² for q.

    Where an instrument has its zero is arbitrary. A pendulum whose angle is 0 a hundredth of a radian beside the
    vertical has a small term in sin q, which the errors of smoothed rates hide, and which a fit of its orbits needs.

    **Arguments:**

    - `kept`: the features.
    - `among`: those that may be added; features whose shift they do not span ask for none.
    """
    net = copy.deepcopy(net).double()
    x = net.domain.sobol(_STATES).to(net.state_box)
    here = balanced(net, head_rows(net, x))[..., among]
    sizes = here.square().mean(0).sqrt().clamp_min(torch.finfo(here.dtype).tiny)
    places = {feature: place for place, feature in enumerate(among.tolist())}
    chosen = [places[feature] for feature in kept.tolist()]
    needed_too = torch.zeros(len(among), dtype=torch.bool, device=here.device)
    needed_too[chosen] = True
    for i in range(net.state_dim // 2):
        step = torch.zeros_like(x[0])
        step[i] = _SHIFT * net.state_box[i]
        shifted = balanced(net, head_rows(net, x + step))[..., among[chosen]] / sizes[chosen]
        parts = least_squares(here / sizes, shifted, _RESOLVED)
        spanned = (here / sizes @ parts - shifted).square().mean(0).sqrt() < _NOTHING
        needed_too |= (parts[:, spanned].abs() > _NOTHING).any(1)
    return among[needed_too]
