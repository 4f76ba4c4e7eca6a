"""The centre of forces that the members of a recorded family have in common, found and not assumed."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.ndimage
import scipy.optimize
import torch
from torch import Tensor

from meta_hamiltonian.dynamics import Domain, Exclusion
from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.inference.friction import FIRST
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import in_error_scales
from meta_hamiltonian.learners.numerics.linear_head import balanced, head_problem, present_rows
from meta_hamiltonian.observations.smoothing import INDEPENDENT
from meta_hamiltonian.training.surroundings import DIGITS, errors_of, is_separated

log = logging.getLogger(__name__)

# Forces of this many positions may have a centre; so many places are tried first in each direction. Twice as many
# positions may be those of two bodies.
_GRIDS = {2: 25, 3: 11}
# So many of the best are improved, by so many steps; so many points of a member tell.
_BEST, _STEPS, _POINTS = 6, 30, 100
# Where the search for a centre stops.
_TOLERANCE = 1e-14
# How far from the middle of the box a centre may be, in half-widths.
_REACH = 5.0
# Nearer to an observed state than this part of the box there is no centre.
_NEAREST = 0.02
# What is excluded around a centre, as a part of the distance of the nearest observed state.
_EXCLUDED = 0.5
# A centre is there where the log evidence of the law is larger by more than this.
_CLEAR = 10.0


def find_centre(build: Callable[[Domain], Ridge], data: RecordedDataModule) -> Domain | None:
    """The domain without the surroundings of a centre of forces, where powers of the distance to it explain the members
    better than polynomials and hidden units: by fewer terms, or with less left.

    The centre of a body in two or three dimensions is found by variable projection: each member has coefficients of its
    own for 1/r², 1/r, ln r and r and for the quadratic terms, which are eliminated, and what is left of the rates is
    minimised over the centre. Of two bodies, each may be the centre of the other's forces. A coordinate that stays away
    from 0 may be the distance to a centre itself, as in polar coordinates.

    **Arguments:** `build`: gives a learner for a domain.

    **Returns:** None where no centre is needed.

    ??? cite "Reference"

        Golub, Pereyra: Separable nonlinear least squares: the variable projection method and its applications. Inverse
        Problems 19, 2003.
    """
    domain = data.recordings.domain
    data.suppose_friction(FIRST)
    try:
        others = {**_around_places(build, data), **_of_radii(data)}
        if not others:
            return None
        either = (True,) if is_separated(build(domain).net, data) else (False, True)
        without, *within = (
            _evidence(functools.partial(build, one), data, either) for one in (domain, *others.values())
        )
    finally:
        data.suppose_friction(())
    if not max(within) > without + _CLEAR:
        return None
    where, found = list(others.items())[int(np.argmax(within))]
    log.info(f"Forces have a centre {where}: powers of the distance to it explain the members.")
    return found


def _around_places(build: Callable[[Domain], Ridge], data: RecordedDataModule) -> dict[str, Domain]:
    """The domain without the surroundings of the best place of a centre, by where it is, if the simplest law with one
    explains the members."""
    domain = data.recordings.domain
    n = domain.degrees_of_freedom
    positions = domain.coordinates[:n]
    if any(one.kind != "length" or one.unit != positions[0].unit for one in positions):
        return {}
    if n in _GRIDS:
        around = _candidates(build(domain), data)
        names = ["at (" + ", ".join(f"{value:.4g}" for value in one.centre) + ")" for one in around]
    else:
        around = _apart(data) if n / 2 in _GRIDS else []
        names = ["in the other body"] * len(around)
    domains = [dataclasses.replace(domain, exclusions=(one,)) for one in around]
    simple = [_evidence(functools.partial(build, one), data, (True,), powers=False) for one in domains]
    best = int(np.argmax([-math.inf, *simple])) - 1
    return {names[best]: domains[best]} if best >= 0 else {}


def _of_radii(data: RecordedDataModule) -> dict[str, Domain]:
    """The domain in which the lengths that stay away from 0 are distances to a centre, by what they are."""
    domain = data.recordings.domain
    coordinates, found = list(domain.coordinates), {}
    for i, one in enumerate(coordinates[: domain.degrees_of_freedom]):
        nearest = min(member.points.x[:, i].min().item() for member in data.recordings.train)
        if one.kind == "length" and nearest > _NEAREST * (one.high - one.low) / 2:
            found[one.name] = Exclusion.around_zero(i, domain.state_dim, _EXCLUDED * nearest)
            coordinates[i] = dataclasses.replace(one, low=max(one.low, _EXCLUDED * nearest))
    if not found:
        return {}
    other = dataclasses.replace(domain, coordinates=tuple(coordinates), exclusions=tuple(found.values()))
    return {"where " + " or ".join(f"{name} = 0" for name in found): other}


def _apart(data: RecordedDataModule) -> list[Exclusion]:
    """The states in which two bodies are near each other, if they never are."""
    domain = data.recordings.domain
    n = domain.degrees_of_freedom
    matrix = tuple(tuple(float(j == i) - float(j == i + n // 2) for j in range(2 * n)) for i in range(n // 2))
    together = Exclusion(matrix, (0.0,) * (n // 2), 1.0)
    nearest = min(together.distance(one.points.x).min().item() for one in data.recordings.train)
    if nearest <= _NEAREST * max(domain.half_widths[:n]):
        return []
    return [dataclasses.replace(together, radius=_EXCLUDED * nearest)]


def _evidence(
    build: Callable[[], Ridge], data: RecordedDataModule, separated: Sequence[bool], powers: bool = True
) -> float:
    """The log evidence of the best law without hidden units, −∞ where there is none.

    What the errors of the rates explain, or digits, counts for no law: smoothed rates are flattened near a centre,
    which many terms of a polynomial follow better than the few of the law.

    **Arguments:**

    - `separated`: whether H = T(p) + V(q) is asked for; each is tried.
    - `powers`: as that of [`LowRankHeads.find_prior`][].
    """
    rows = data.known.points.counts.double().clamp(max=INDEPENDENT) * data.recordings.domain.state_dim
    found = [-math.inf]
    for apart in separated:
        learner = build()
        if apart:
            learner.net.separate()
        rates = in_error_scales(learner.scaled(data.known).points, learner.net.domain).dxdt
        noise = learner.find_prior(data.known, powers=powers).noise.item()
        noise = max(noise, errors_of(learner, data), DIGITS * rates.square().mean().item())
        if not learner.uses_body:  # each member has a coefficient of its own for each term
            terms = int(learner.prior_factor.any(1).sum())
            found.append(-(rows.sum().item() * math.log(noise) + terms * rows.log().sum().item()) / 2)
    return max(found)


def _candidates(learner: Ridge, data: RecordedDataModule) -> list[Exclusion]:
    """The surroundings of the centres that leave least."""
    points = learner.scaled(data.known).points
    net, n = learner.net, learner.net.domain.degrees_of_freedom
    net.separate()
    assert net.plain_features is not None
    assert net.beside_units is not None
    allowed = net.plain_features & net.beside_units
    every = max(1, points.x.shape[1] // _POINTS)
    some = dataclasses.replace(
        points,
        x=points.x[:, ::every],
        dxdt=points.dxdt[:, ::every],
        mask=None if points.mask is None else points.mask[:, ::every],
        free=None if points.free is None else points.free[:, ::every],
    )
    features, targets = (balanced(net, part).detach().double() for part in head_problem(net, some))
    basis, _ = torch.linalg.qr(features[..., allowed])
    targets = targets - basis @ (basis.mT @ targets)
    there = torch.ones_like(some.x[..., 0], dtype=torch.bool) if some.mask is None else some.mask
    scales = torch.tensor(net.domain.error_scales[n:], dtype=torch.float64)
    half = torch.tensor(net.domain.half_widths[:n], dtype=torch.float64)
    middle = torch.tensor(net.domain.centre[:n], dtype=torch.float64)
    size = half.max()
    q = some.x[..., :n].double()

    def left(place: np.ndarray) -> Tensor:
        away = (q - (middle + half * torch.from_numpy(place))) / size
        square = away.square().sum(-1, keepdim=True).clamp_min(_NEAREST**2)
        # −∂/∂q of ln r, r, 1/r and 1/r², up to constants.
        radial = torch.stack([away / square ** (power / 2) for power in (2, 1, 3, 4)], dim=-1) / scales[:, None]
        columns = present_rows(some, torch.cat([torch.zeros_like(radial), radial], dim=-2).flatten(1, 2))
        columns = columns - basis @ (basis.mT @ columns)
        columns = columns / columns.norm(dim=1, keepdim=True).clamp_min(torch.finfo(columns.dtype).tiny)
        own, _ = torch.linalg.qr(columns)
        return (targets - own @ (own.mT @ targets)).flatten()

    ends = np.linspace(-1.5, 1.5, _GRIDS[n])
    grid = np.stack(np.meshgrid(*[ends] * n, indexing="ij"), axis=-1)
    costs = np.array([left(place).square().sum().item() for place in grid.reshape(-1, n)]).reshape(grid.shape[:-1])
    lowest = costs <= scipy.ndimage.minimum_filter(costs, size=3, mode="nearest")
    starts = sorted(zip(costs[lowest], grid[lowest], strict=True), key=lambda one: one[0])[:_BEST]
    tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), _TOLERANCE)
    found = [
        scipy.optimize.least_squares(lambda place: left(place).numpy(), start, max_nfev=_STEPS, **tolerances)
        for _, start in starts
    ]
    matrix = tuple(tuple(float(i == j) for j in range(2 * n)) for i in range(n))
    places: list[np.ndarray] = []
    around = []
    for one in sorted(found, key=lambda one: one.cost):
        centre = middle + half * torch.from_numpy(one.x)
        nearest = (q - centre).norm(dim=-1)[there].min().item()
        new = all(np.abs(one.x - place).max() > _NEAREST for place in places)
        if new and (np.abs(one.x) < _REACH).all() and nearest > _NEAREST * size.item():
            places.append(one.x)
            around.append(Exclusion(matrix, tuple(centre.tolist()), _EXCLUDED * nearest))
    return around
