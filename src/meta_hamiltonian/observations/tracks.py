"""Positions of a mass that swings around a pivot, as video trackers give them, become its angle."""

import numpy as np
from jaxtyping import Float

from meta_hamiltonian.observations.forms import ObservationError

# The distance from the pivot varies by at most this part of it.
_ROUND = 0.03
# A circle explains the positions well enough where what is left is at most so much of its radius,
_RESIDUAL = 0.02
# and its centre is known well enough to so much of it.
_CENTRE = 0.02
# The origin is as good a pivot as the best circle's centre where it leaves at most so many times as much.
_AS_GOOD = 1.25
_MOST_POINTS = 4000
_ADVICE = "put the origin of the axes on the pivot, or give the angle from the vertical in a column: --columns q=NAME"


def angle_around_pivot(
    x: Float[np.ndarray, " rows"], y: Float[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, " rows"], str]:
    """The angle from the downward vertical, and how it was found; not a number where a position is none.

    The pivot is the origin where the distance from it is constant, else the centre of the circle through the positions.
    Whether y grows upwards or downwards is told by where the mass hangs.

    **Raises:** [`ObservationError`][], where the pivot cannot be found.
    """
    seen = np.isfinite(x) & np.isfinite(y)
    points = np.stack([x[seen], y[seen]], -1)
    if len(points) < 4:
        raise ObservationError(f"x and y are known at fewer than 4 instants; {_ADVICE}")
    pivot, where = _pivot(points[:: 1 + len(points) // _MOST_POINTS])
    away = points - pivot
    downwards = np.arctan2(away[:, 0].mean(), -away[:, 1].mean())  # the mean angle where y grows upwards
    hanging = np.hypot(*(away / np.linalg.norm(away, axis=1, keepdims=True)).mean(0)) > 0.2
    if hanging and np.pi / 3 < abs(downwards) < 2 * np.pi / 3:
        raise ObservationError(f"the mass is beside the pivot ({where}), so that the vertical is not known; {_ADVICE}")
    flipped = hanging and abs(downwards) > np.pi / 2
    q = np.full(len(x), np.nan)
    q[seen] = np.unwrap(np.arctan2(away[:, 0], (1 if flipped else -1) * away[:, 1]))
    direction = "y grows downwards, as in images" if flipped else "y grows upwards"
    return q, f"q is the angle of x and y from the downward vertical around the pivot, {where}; {direction}"


def is_polar(q: Float[np.ndarray, " rows"], x: Float[np.ndarray, " rows"], y: Float[np.ndarray, " rows"]) -> bool:
    """Whether an angle is that of the position from the x axis, and not from the vertical."""
    away = np.angle(np.exp(1j * (q - np.arctan2(y, x))))
    away = away[np.isfinite(away)]
    return len(away) > 3 and float(np.abs(away).max()) < 0.02


def _pivot(points: Float[np.ndarray, "points 2"]) -> tuple[Float[np.ndarray, "2"], str]:
    size = np.abs(points - points.mean(0)).max()
    if not size > 0:
        raise ObservationError("nothing moves: x and y are the same at all instants")
    distance = np.linalg.norm(points, axis=1)
    radius = distance.mean()
    constant = distance.std() < _ROUND * radius and radius > 0
    left_by_origin = distance.std()
    if constant and left_by_origin <= 1e-6 * radius:
        return np.zeros(2), "the origin"
    centre, fitted_radius, left, error = _circle(points)
    if constant and left_by_origin <= _AS_GOOD * left:
        return np.zeros(2), "the origin"
    if not (left <= _RESIDUAL * fitted_radius and error <= _CENTRE * fitted_radius):
        raise ObservationError(
            "no pivot is found from x and y: the distance from the origin varies, and "
            + ("they lie on no circle" if left > _RESIDUAL * fitted_radius else "the arc is too short for a circle")
            + f"; {_ADVICE}"
        )
    return centre, f"x={centre[0]:.4g}, y={centre[1]:.4g}, the centre of the circle through them"


def _circle(points: Float[np.ndarray, "points 2"]) -> tuple[Float[np.ndarray, "2"], float, float, float]:
    """The circle nearest to the points: its centre, its radius, the distances left, and the error of the centre."""
    from scipy.optimize import least_squares

    middle, size = points.mean(0), np.abs(points - points.mean(0)).max()
    scaled = (points - middle) / size
    # Algebraically first: x² + y² = 2 a x + 2 b y + c.
    matrix = np.column_stack([2 * scaled, np.ones(len(scaled))])
    a, b, c = np.linalg.lstsq(matrix, (scaled**2).sum(1), rcond=None)[0]
    start = np.array([a, b, np.sqrt(max(c + a * a + b * b, 1e-12))])

    def left(circle: Float[np.ndarray, "3"]) -> Float[np.ndarray, " points"]:
        return np.hypot(scaled[:, 0] - circle[0], scaled[:, 1] - circle[1]) - circle[2]

    found = least_squares(left, start, method="lm" if len(points) >= 3 else "trf")
    rest = float(np.sqrt(np.mean(found.fun**2)))
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * max(rest, 1e-12) ** 2
    error = float(np.sqrt(max(np.linalg.eigvalsh(covariance[:2, :2]).max(), 0)))
    if np.linalg.cond(found.jac) > 1e7:
        error = np.inf
    return middle + size * found.x[:2], float(size * abs(found.x[2])), size * rest, size * error
