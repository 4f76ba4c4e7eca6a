"""The centre of a force, where it differs from the middle of what the domain excludes."""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.dynamics.domain import Exclusion
from meta_hamiltonian.inference.terms import Term, of_distance

# The potentials that are tried: 1/r, log r and 1/r².
_POTENTIALS = 3
# Where the search for a centre stops.
_TOLERANCE, _MOST_STEPS = 1e-14, 50
# A centre has so many decimals in units of the radius; more would be rounding.
_DIGITS = 10


def with_centres(
    domain: Domain,
    others: Float[Tensor, "rows terms"],
    target: Float[Tensor, " rows"],
    column: Callable[[Term], Float[Tensor, " rows"]],
) -> Domain:
    """The domain with its exclusions moved to where forces have their centres.

    A domain excludes a ball in which the singularities of all members of a family lie. The place of one member's
    singularity is found by variable projection: the coefficients of all terms are eliminated, and the residual of the
    field is minimised over the centre, for each potential of a force.

    **Arguments:**

    - `others`: the fields of the terms that are no distances.
    - `target`: the learned field.
    - `column`: makes the field of a term.

    ??? cite "Reference"

        Golub, Pereyra: Separable nonlinear least squares: the variable projection method and its applications. Inverse
        Problems 19, 2003.
    """
    basis, _ = torch.linalg.qr(others)
    moved: list[Exclusion] = []
    for exclusion in domain.exclusions:
        fits = [_fit(domain, exclusion, which, basis, target, column) for which in range(_POTENTIALS)]
        _, centre, direction = min(fits, key=lambda fit: fit[0])
        moved.append(dataclasses.replace(exclusion, centre=centre))
        basis = torch.cat([basis, direction[:, None]], dim=1)
    return dataclasses.replace(domain, exclusions=tuple(moved))


def _fit(
    domain: Domain,
    exclusion: Exclusion,
    which: int,
    basis: Float[Tensor, "rows directions"],
    target: Float[Tensor, " rows"],
    column: Callable[[Term], Float[Tensor, " rows"]],
) -> tuple[float, tuple[float, ...], Float[Tensor, " rows"]]:
    """The least residual of the field with one potential, its centre, and the direction that it adds to the basis."""
    target = target - basis @ (basis.mT @ target)

    def direction(centre: np.ndarray) -> Tensor:
        there = dataclasses.replace(exclusion, centre=tuple(centre.tolist()))
        own = column(of_distance(domain, there)[which])
        own = own - basis @ (basis.mT @ own)
        return own / own.norm()

    def left(centre: np.ndarray) -> np.ndarray:
        own = direction(centre)
        return (target - own * (own @ target)).numpy()

    start = np.array(exclusion.centre, dtype=float)
    found = scipy.optimize.least_squares(
        left,
        start,
        bounds=(start - exclusion.radius, start + exclusion.radius),
        **dict.fromkeys(("ftol", "xtol", "gtol"), _TOLERANCE),
        max_nfev=_MOST_STEPS,
    )
    centre = exclusion.radius * (found.x / exclusion.radius).round(_DIGITS)
    return found.cost, tuple(centre.tolist()), direction(centre)
