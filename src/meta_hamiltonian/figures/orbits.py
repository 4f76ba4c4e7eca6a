"""Orbits in a plane, their angles wrapped without lines across the figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.figures.planes import plane, projected
from meta_hamiltonian.figures.shown import Prediction, Shown
from meta_hamiltonian.figures.style import PREDICTION, TRUTH, broken, draw_excluded, draw_state

POSITIONS = (0, 1)
"""The coordinates of the plane of positions, of however many degrees of freedom."""
_POINTS = 101  # an axis, for the edge of what is excluded
_MARGIN, _LEAST = 0.06, 0.01  # around orbits, of their extent and of the box


def domain_states(domain: Domain, x: np.ndarray) -> np.ndarray:
    """The states with their angles where figures show them."""
    return domain.wrap(torch.from_numpy(x)).numpy()


def draw_orbit(
    axes: Axes, domain: Domain, orbit: Float[np.ndarray, "instants state"], pair: tuple[int, int], **look: Any
) -> None:
    """An orbit whose angles are wrapped, in the plane of two coordinates, without lines across it where they are."""
    wrapped = domain_states(domain, orbit)[:, list(pair)]
    jumps = (np.abs(np.diff(wrapped, axis=0)) > np.array(domain.half_widths)[list(pair)] / 2).any(-1)
    jumps &= (np.abs(np.diff(wrapped - orbit[:, list(pair)], axis=0)) > 1).any(-1)
    pieces = np.insert(wrapped, np.flatnonzero(jumps) + 1, np.nan, axis=0)
    axes.plot(*pieces.T, **look)


def draw_positions(
    axes: Axes, shown: Shown, predictions: Sequence[Prediction], prediction: Prediction, size: int = 9
) -> None:
    """The true orbit and one prediction in the plane of positions, on a scale that holds all predictions."""
    domain, true = shown.domain, shown.orbit
    draw_orbit(axes, domain, true, POSITIONS, color=TRUTH, linewidth=1.0)
    draw_orbit(axes, domain, prediction.orbit, POSITIONS, color=PREDICTION, linestyle="--", linewidth=1.0)
    draw_surroundings(axes, domain, shown.planes[0].through, POSITIONS, size, 2.1)
    limit_to(axes, domain, POSITIONS, true, *(p.orbit for p in predictions))


def draw_surroundings(
    axes: Axes, domain: Domain, start: Float[np.ndarray, " state"], pair: tuple[int, int], size: int, inches: float
) -> None:
    """The surroundings of orbits in this plane: what is excluded, as far as a projection can show it, the start, and
    the names of the axes, in letters of this size on so many inches."""
    draw_excluded(axes, plane(projected(domain, pair), pair, _POINTS))
    draw_state(axes, (start[pair[0]], start[pair[1]]))
    axes.set_xlabel(broken(domain.labels[pair[0]], inches, size), fontsize=size)
    axes.set_ylabel(broken(domain.labels[pair[1]], inches, size), fontsize=size)


def limit_to(axes: Axes, domain: Domain, pair: tuple[int, int], *orbits: Float[np.ndarray, "_ state"]) -> None:
    """Limits the axes to a square that holds the orbits, as far as they stay in the box, on equal scales where units
    allow it."""
    first, second = (domain.coordinates[i] for i in pair)
    box = np.array([[first.low, first.high], [second.low, second.high]])
    seen = np.concatenate([domain_states(domain, orbit)[:, list(pair)] for orbit in orbits]).clip(*box.T)
    low, high = seen.min(0), seen.max(0)
    half = np.maximum((0.5 + _MARGIN) * (high - low), _LEAST * (box[:, 1] - box[:, 0]))
    if (first.kind, first.unit) == (second.kind, second.unit):
        half[:] = half.max()
    middle = (low + high) / 2
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.set_box_aspect(1)
