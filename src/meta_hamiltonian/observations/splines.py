"""Smooth curves through noisy samples, for their time derivatives."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.interpolate import BSpline, make_lsq_spline

# Quintic: its second derivative, which p = m dq/dt needs, is still a smooth cubic.
_DEGREE = 5
# Numbers of coefficients that are tried: at least a parabola, and at most so many, in so many trials.
_FEWEST, _MOST, _TRIALS = 3, 500, 60
# Long samples are smoothed in pieces of so many, each with so many of its neighbours on either side.
_PIECE, _OVERLAP = 200, 40
# What rounding alone leaves, as a part of the largest value.
_ROUNDING = 1e-14


@dataclasses.dataclass(frozen=True)
class Smoothed:
    """Curves at some instants.

    - `value`, `derivative`, `second`: each curve, and its first two time derivatives.
    - `noise`: standard deviation of the samples around each curve.
    - `error`: standard deviation of `derivative`; `second_error`: of `second`.
    - `share`: coefficients of the curve that needs most, for each of its samples.
    """

    value: Float[np.ndarray, "instants curves"]
    derivative: Float[np.ndarray, "instants curves"]
    second: Float[np.ndarray, "instants curves"]
    noise: Float[np.ndarray, " curves"]
    error: Float[np.ndarray, "instants curves"]
    second_error: Float[np.ndarray, "instants curves"]
    share: float


def smooth(
    t: Float[np.ndarray, " instants"],
    values: Float[np.ndarray, "instants curves"],
    at: Float[np.ndarray, " others"] | None = None,
) -> Smoothed:
    """Regression splines, each with as many coefficients as its samples support.

    A regression spline is linear least squares. Unlike those of a smoothing spline its ends are free, so that
    derivatives are not bent there, and the standard error of every derivative is known. The number of coefficients has
    the smallest corrected Akaike criterion: there are few where there is noise, and nearly one for each sample where
    there is none, which then is quintic interpolation.

    **Arguments:**

    - `t`: increasing times, at least 3.
    - `values`: samples of each curve at these times.
    - `at`: increasing times between the first and the last at which the curves are wanted; None is where samples are.

    ??? cite "Reference"

        Hurvich, Simonoff, Tsai: Smoothing parameter selection in nonparametric regression using an improved Akaike
        information criterion. Journal of the Royal Statistical Society B 60, 1998.
    """
    at = t if at is None else at
    if len(t) <= _PIECE + 2 * _OVERLAP:
        return _piece(t, values, at)
    starts = range(0, len(t) - _OVERLAP, _PIECE)  # the last one takes what is left
    pieces = []
    for start in starts:
        last = start == starts[-1]
        end = len(t) if last else start + _PIECE
        low, high = max(0, start - _OVERLAP), min(len(t), end + _OVERLAP)
        own = at[(at >= t[start]) & ((at <= t[-1]) if last else (at < t[end]))]
        pieces.append(_piece(t[low:high], values[low:high], own))
    joined = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("value", "derivative", "second", "error", "second_error")
    )
    value, derivative, second, error, second_error = joined
    noise = np.sqrt(np.mean([np.square(piece.noise) for piece in pieces], axis=0))
    share = max(piece.share for piece in pieces)
    return Smoothed(value, derivative, second, noise, error, second_error, share)


def continued(
    t: Float[np.ndarray, " instants"],
    values: Float[np.ndarray, "instants curves"],
    after: Float[np.ndarray, " later"],
    bounds: Float[np.ndarray, "2 curves"],
) -> Float[np.ndarray, "later curves"]:
    """What the last polynomials of the curves give at later times, as far as these lie between bounds.

    Arguments as for [`smooth`][]; the last piece of long samples counts.
    """
    t, values = t[-_PIECE - _OVERLAP :], values[-_PIECE - _OVERLAP :]
    span = t[-1] - t[0]
    curves = [_best((t - t[0]) / span, curve)[0]((after - t[0]) / span) for curve in values.T]
    return np.clip(np.stack(curves, axis=-1), *bounds)


def _piece(t: np.ndarray, values: np.ndarray, at: np.ndarray) -> Smoothed:
    span = t[-1] - t[0]
    unit, there = (t - t[0]) / span, (at - t[0]) / span
    parts = [_smooth(unit, curve, span, there) for curve in values.T]
    *curves, shares = zip(*parts, strict=True)
    return Smoothed(*(np.stack(part, axis=-1) for part in curves), share=max(shares))


def _best(t: np.ndarray, values: np.ndarray) -> tuple[BSpline, float]:
    """The spline with the smallest criterion, and what it leaves, as a sum of squares."""
    count = len(t)
    trials = [_fit(t, values, size) for size in _sizes(count)]
    floor = count * (_ROUNDING * np.abs(values).max()) ** 2 + np.finfo(float).tiny
    squares = [np.square(values - spline(t)).sum() + floor for spline in trials]
    criteria = [
        np.log(square / count) + 2 * (len(spline.c) + 1) / max(count - len(spline.c) - 2, 0.5)
        for square, spline in zip(squares, trials, strict=True)
    ]
    best = int(np.argmin(criteria))
    return trials[best], squares[best]


def _smooth(t: np.ndarray, values: np.ndarray, span: float, at: np.ndarray) -> tuple[Any, ...]:
    spline, square = _best(t, values)
    noise, share = np.sqrt(square / max(len(t) - len(spline.c), 1)), len(spline.c) / len(t)
    # Where c = R⁻¹Qᵀ y and the noise of y is independent, a derivative bᵀc has the variance noise² ‖R⁻ᵀb‖².
    basis = BSpline(spline.t, np.eye(len(spline.c)), spline.k)
    triangle = np.linalg.qr(basis(t)).R
    errors = [
        noise * np.linalg.norm(np.linalg.solve(triangle.T, basis.derivative(order)(at).T), axis=0) / span**order
        for order in (1, 2)
    ]
    return spline(at), spline.derivative(1)(at) / span, spline.derivative(2)(at) / span**2, noise, *errors, share


def _sizes(count: int) -> list[int]:
    most = min(count - 1, _MOST) if count > _FEWEST else _FEWEST
    return np.unique(np.geomspace(_FEWEST, most, _TRIALS).round().astype(int)).tolist()


def _fit(t: np.ndarray, values: np.ndarray, size: int) -> BSpline:
    """The least-squares spline of so many coefficients; its knots lie where as many samples lie between them."""
    degree = min(_DEGREE, size - 1)
    inner = np.quantile(t, np.linspace(0, 1, size - degree + 1)[1:-1])
    knots = np.concatenate([np.zeros(degree + 1), inner, np.ones(degree + 1)])
    return make_lsq_spline(t, values, knots, degree)
