"""Planes in the domain on which fields and energies are drawn."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain

MOST_PLANES = 3
"""Degrees of freedom that a figure shows at most."""


class Plane(NamedTuple):
    """A plane of two coordinates of the domain, through one state that gives the other coordinates.

    - `axes`: which coordinates, the horizontal one first.
    - `through`: the state, its angles where figures show them.
    - `across`, `along`: the values of the two coordinates.
    - `states`: `[across, along, 2n]`.
    - `radii`: how many radii away the nearest exclusion is, infinite where nothing is excluded.
    """

    axes: tuple[int, int]
    through: np.ndarray
    across: np.ndarray
    along: np.ndarray
    states: Float[Tensor, "across along state"]
    radii: Float[np.ndarray, "across along"]

    @property
    def excluded(self) -> Bool[np.ndarray, "across along"]:
        """Which of the states the domain excludes."""
        return self.radii < 1

    @property
    def point(self) -> tuple[float, float]:
        """The place in the plane of the state `through`."""
        first, second = self.axes
        return float(self.through[first]), float(self.through[second])


def plane(domain: Domain, axes: tuple[int, int], points: int, through: np.ndarray | None = None) -> Plane:
    """A grid over the box, with so many points an axis.

    **Arguments:**

    - `axes`, `points`: which coordinates, and how many values of each.
    - `through`: the state that gives the others, `[2n]`; None is the centre of the domain.
    """
    state = torch.tensor(domain.centre, dtype=torch.float64)
    state = state if through is None else domain.wrap(torch.as_tensor(through, dtype=torch.float64))
    first, second = (domain.coordinates[axis] for axis in axes)
    across, along = np.linspace(first.low, first.high, points), np.linspace(second.low, second.high, points)
    states = state.repeat(points, points, 1)
    states[..., axes[0]] = torch.from_numpy(across)[:, None]
    states[..., axes[1]] = torch.from_numpy(along)
    return Plane(axes, state.numpy(), across, along, states, _radii(domain, states))


def phase_planes(domain: Domain, points: int, through: np.ndarray | None = None) -> list[Plane]:
    """The planes (qᵢ, pᵢ) of the degrees of freedom, or of the first three where there are more."""
    n = domain.degrees_of_freedom
    return [plane(domain, (i, n + i), points, through) for i in range(min(n, MOST_PLANES))]


def projected(domain: Domain, pair: tuple[int, int]) -> Domain:
    """The domain with only the exclusions that these two coordinates decide, since a projection can show no others."""
    kept = [e for e in domain.exclusions if not any(v for row in e.matrix for i, v in enumerate(row) if i not in pair)]
    return dataclasses.replace(domain, exclusions=tuple(kept))


def state_words(state: np.ndarray) -> str:
    """A state in two digits, such as `(q; p) = (0.31, −0.2; 0.5, 0)`, with at most three positions and momenta."""
    n = len(state) // 2
    shown, more = (n, "") if n <= MOST_PLANES + 1 else (MOST_PLANES, ", …")
    q, p = (", ".join(f"{value + 0.0:.2g}" for value in half[:shown]) + more for half in (state[:n], state[n:]))
    return f"(q; p) = ({q}; {p})".replace("-", "−")


def _radii(domain: Domain, states: Float[Tensor, "across along state"]) -> Float[np.ndarray, "across along"]:
    distances = [exclusion.distance(states) / exclusion.radius for exclusion in domain.exclusions]
    nothing = states.new_full(states.shape[:-1], math.inf)
    return torch.stack([nothing, *distances]).amin(0).numpy()
