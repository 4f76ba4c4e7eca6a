"""The loss of the papers and the scale in which it is taken."""

import dataclasses

from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.episodes import Episodes, Points


def field_loss(
    predicted: Float[Tensor, "*tasks points state"],
    dxdt: Float[Tensor, "*tasks points state"],
    mask: Bool[Tensor, "*tasks points"] | None = None,
) -> Float[Tensor, "*tasks"]:
    """Equation (2), L_HNN = ‖dx/dt − Ω ∇ₓH_θ(x)‖²: summed over the coordinates, mean over the points.

    **Arguments:**

    - `predicted`, `dxdt`: derivatives.
    - `mask`: which points a task has; None is all.
    """
    return Points(dxdt, dxdt, mask).mean((predicted - dxdt).square().sum(-1))


def task_scale(support: Points) -> Float[Tensor, "*tasks"]:
    """The RMS of a task's observed derivatives over its support points and coordinates.

    One number for all coordinates: a scale for each would change Ω. Learning H / s instead of H keeps the few
    systems with the largest derivatives from ruling the mean loss. A task observed at rest has the scale 1.
    """
    squares = support.dxdt.square()
    mean = squares.mean((-2, -1)) if support.mask is None else support.mean(squares.mean(-1))
    scale = mean.sqrt()
    return scale.masked_fill(scale == 0, 1.0)


def in_error_scales(points: Points, domain: Domain) -> Points:
    """The same points, each rate in the unit in which its errors count ([`Domain.error_scales`][])."""
    return dataclasses.replace(points, dxdt=points.dxdt / points.dxdt.new_tensor(domain.error_scales))


def rescaled(episodes: Episodes) -> Episodes:
    """The same tasks with all derivatives in units of the support's [`task_scale`][]."""
    scale = task_scale(episodes.support)[..., None, None]
    support, query = (dataclasses.replace(p, dxdt=p.dxdt / scale) for p in (episodes.support, episodes.query))
    variance = None if episodes.variance is None else episodes.variance / scale[:, 0].square()
    return dataclasses.replace(episodes, support=support, query=query, variance=variance)
