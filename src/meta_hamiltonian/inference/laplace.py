"""How sure a fit of orbits is: samples of its unknowns."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.inference.friction import correlation_time
from meta_hamiltonian.inference.sensitivity import Law
from meta_hamiltonian.inference.shooting import Shot, column_sizes

# The tails of the distribution are no heavier than Student's with so many degrees of freedom.
_FEWEST_FREE = 10.0
# At most this part of the independent residuals counts as lost to the unknowns.
_MOST_LOST = 0.3
# Correlations of residuals are looked for over this part of an orbit.
_REACH = 0.2


def in_order(residual: Float[Tensor, "windows instants"]) -> Float[Tensor, " observations"]:
    """The residuals of all observations, window after window."""
    return residual[residual.isfinite()]


class Drawn(NamedTuple):
    """Samples of the unknowns, and of where the last orbit ends."""

    theta: Float[Tensor, "samples unknowns"]
    ends: Float[Tensor, "samples state"]


def draw(law: Law, shot: Shot, count: int, generator: torch.Generator) -> Drawn:
    """Laplace's approximation: θ and the end of the last orbit from the Gaussian of the linearised problem.

    Residuals are not independent where the law or the instrument has errors of its own. The covariance therefore is
    that of Newey and West, in directions where it is the larger one.
    """
    root, size = _root(shot)
    design, prior = (shot.design / size) @ root, (shot.prior / size) @ root
    white = shot.misfit.square().mean().clamp_min(1e-300)
    # With few independent residuals their size is not known well either: Student's distribution.
    free = max(_independent(shot) - len(size), _FEWEST_FREE)
    # As in every regression, residuals are smaller than errors by what was fitted to them.
    lost = min(design.square().sum().item() / _independent(shot), _MOST_LOST)
    # What is known without observations does not depend on their errors.
    known = prior.mT @ prior
    least = known + design.mT @ design * white
    spread = known + _long_run(design * shot.misfit[:, None], shot)
    factor = root @ _larger(least, spread) / size[:, None] / (1 - lost) ** 0.5
    unit = torch.randn(count * 8, factor.shape[1], dtype=factor.dtype, generator=generator).to(factor.device)
    chi2 = torch.from_numpy(np.random.default_rng(count).chisquare(free, count * 8)).to(factor) / free
    change = unit / chi2.sqrt()[:, None] @ factor.mT
    heads, friction, _ = law.sizes
    unknowns = len(shot.theta)
    theta = shot.theta + change[:, -unknowns:]
    # Friction takes energy out: eight times as many are drawn, and those where it does are kept.
    good = (theta[:, heads : heads + friction] >= 0).all(-1)
    kept = torch.cat([good.nonzero()[:, 0], (~good).nonzero()[:, 0]])[:count]
    theta = theta[kept]
    theta[:, heads : heads + friction] = theta[:, heads : heads + friction].clamp_min(0.0)
    ends = shot.ends[-1] + change[kept] @ shot.to_ends[-1].mT
    return Drawn(theta, ends)


def deviations(shot: Shot) -> Float[Tensor, " unknowns"]:
    """The standard deviation of each unknown of θ, all others unknown too."""
    root, size = _root(shot)
    return (root.square().sum(1).sqrt() / size)[-len(shot.theta) :]


def _root(shot: Shot) -> tuple[Float[Tensor, "columns columns"], Float[Tensor, " columns"]]:
    """A factor of the covariance of the columns in units of their sizes, for noise of size 1; and these sizes."""
    rows = torch.cat([shot.design, shot.prior])
    size = column_sizes(rows)
    _, values, right = torch.linalg.svd(rows / size, full_matrices=False)
    return right.mT / values.clamp_min(1e-12 * values[0]), size


def _larger(
    least: Float[Tensor, "columns columns"], other: Float[Tensor, "columns columns"]
) -> Float[Tensor, "columns columns"]:
    """A factor of the covariance that is, in each direction, the larger of the two."""
    values, axes = torch.linalg.eigh(least)
    values = values.clamp_min(1e-12 * values[-1]).sqrt()
    half, back = axes * values @ axes.mT, axes / values @ axes.mT
    powers, turned = torch.linalg.eigh(back @ other @ back)
    return half @ turned * powers.clamp_min(1.0).sqrt()


def _independent(shot: Shot) -> float:
    """The number of independent residuals: correlated ones count as one."""
    parts = [in_order(shot.residual[..., a]) for a in range(shot.residual.shape[-1])]
    return sum(len(part) / correlation_time(part) for part in parts if len(part))


def _long_run(scores: Float[Tensor, "observations columns"], shot: Shot) -> Float[Tensor, "columns columns"]:
    """The covariance of a sum of scores that may go together over some time (Newey and West)."""
    window, place = shot.instants[:, 0], shot.instants[:, 1]
    instant = window * (int(place.max()) + 1) + place
    _, index = torch.unique(instant, return_inverse=True)
    total = scores.new_zeros(int(index.max()) + 1, scores.shape[1]).index_add(0, index, scores)
    spread = total.mT @ total
    reach = int(_REACH * len(total))
    for lag in range(1, reach + 1):
        product = total[lag:].mT @ total[:-lag]
        spread = spread + (1 - lag / (reach + 1)) * (product + product.mT)
    return spread
