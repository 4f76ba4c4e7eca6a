"""Planes in the domain on which fields and energies are drawn."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain

MOST_PLANES = 3
"""Degrees of freedom that a figure shows at most."""


class Plane(NamedTuple):
    """Two coordinates of the domain, the others fixed at its centre.

    - `axes`: which coordinates, the horizontal one first.
    - `across`, `along`: their values.
    - `states`: `[across, along, 2n]`.
    """

    axes: tuple[int, int]
    across: np.ndarray
    along: np.ndarray
    states: Float[Tensor, "across along state"]


def plane(domain: Domain, axes: tuple[int, int], points: int) -> Plane:
    """A grid over the box, with so many points an axis."""
    first, second = (domain.coordinates[axis] for axis in axes)
    across, along = np.linspace(first.low, first.high, points), np.linspace(second.low, second.high, points)
    states = torch.tensor(domain.centre, dtype=torch.float64).repeat(points, points, 1)
    states[..., axes[0]] = torch.from_numpy(across)[:, None]
    states[..., axes[1]] = torch.from_numpy(along)
    return Plane(axes, across, along, states)


def phase_planes(domain: Domain, points: int) -> list[Plane]:
    """The plane (qᵢ, pᵢ) of each degree of freedom, of the first three where there are more."""
    n = domain.degrees_of_freedom
    return [plane(domain, (i, n + i), points) for i in range(min(n, MOST_PLANES))]
