"""Angles that were recorded within one turn, or in degrees without saying so."""

import numpy as np
from jaxtyping import Float

_TURN = 2 * np.pi
# Successive angles that differ by more are taken for one step across the end of a turn.
_JUMP = 5.0
# A pendulum that swings back and forth never swings so far.
_TOO_FAR = 1.5 * _TURN


def unwrapped(q: Float[np.ndarray, " instants"]) -> tuple[Float[np.ndarray, " instants"], int]:
    """A continuous angle, and at how many steps it went across the end of a turn.

    One that is continuous already, or that goes beyond one turn, stays as it is.
    """
    if len(q) < 2 or np.ptp(q) > _TURN * (1 + 1e-3):
        return q, 0
    steps = int((np.abs(np.diff(q)) > _JUMP).sum())
    if not steps:
        return q, 0
    continuous = np.unwrap(q, discont=_JUMP)
    return continuous - _TURN * np.round(np.median(continuous) / _TURN), steps


def swings(q: Float[np.ndarray, " instants"]) -> Float[np.ndarray, " swings"]:
    """How far it goes from one turning point to the next, where that is more than a tenth of it all."""
    least, turning = 0.1 * np.ptp(q), [q[0]]
    low = high = q[0]
    direction = 0
    for value in q:
        low, high = min(low, value), max(high, value)
        if direction >= 0 and value < high - least:
            turning, low, direction = [*turning, high], value, -1
        elif direction <= 0 and value > low + least:
            turning, high, direction = [*turning, low], value, 1
    return np.abs(np.diff(turning[1:]))


def look_like_degrees(q: Float[np.ndarray, " instants"]) -> bool:
    """Whether it swings back and forth farther than any angle in rad does."""
    return bool(len(q) > 8 and np.ptp(q) > _TOO_FAR and (swings(q) > _TOO_FAR).sum() >= 2)
