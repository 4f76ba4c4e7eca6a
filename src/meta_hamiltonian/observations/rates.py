"""Velocities: their integral, and whether they belong to the positions beside them."""

import numpy as np
from jaxtyping import Float

from meta_hamiltonian.observations.angles import swings

# A drift of the centre of the swings counts from so much of a swing on.
_DRIFT = 0.02
# So many instants, and so good an agreement, tell a factor.
_ENOUGH, _AGREEMENT = 20, 0.97
_FACTORS = {
    180 / np.pi: "v seems to be in degrees, q in rad",
    np.pi / 180: "v seems to be in rad, q in degrees",
    1e-3: "times seem to be in other units than velocities, such as ms",
    1e3: "times seem to be in other units than velocities, such as ms",
}


def integrated(
    t: Float[np.ndarray, " instants"], v: Float[np.ndarray, " instants"]
) -> tuple[Float[np.ndarray, " instants"], Float[np.ndarray, " instants"], float]:
    """The integral of a velocity, the velocity, and the offset that was taken from both.

    An offset of the instrument shows as a drift of the centre of the swings; without swings there is none to be seen.
    The centre of the swings is 0.
    """
    q = np.concatenate([[0.0], np.cumsum(np.diff(t) * (v[1:] + v[:-1]) / 2)])
    times, centres, size = _centres(t, q, v)
    if len(centres) < 3:
        return q - (centres.mean() if len(centres) else 0.0), v, 0.0
    offset, start = np.polyfit(times - t[0], centres, 1)
    if abs(offset) * (t[-1] - t[0]) <= _DRIFT * size:
        return q - np.median(centres), v, 0.0
    return q - start - offset * (t - t[0]), v - offset, float(offset)


def _centres(
    t: Float[np.ndarray, " instants"], q: Float[np.ndarray, " instants"], v: Float[np.ndarray, " instants"]
) -> tuple[Float[np.ndarray, " swings"], Float[np.ndarray, " swings"], float]:
    """Half-way between each two turning points: when, and where; and how far a swing goes."""
    level = 0.2 * np.abs(v - np.median(v)).max()
    sign = np.where(v - np.median(v) > level, 1, np.where(v - np.median(v) < -level, -1, 0))
    clear = np.flatnonzero(sign)
    changes = np.flatnonzero(np.diff(sign[clear]))
    if v.min() >= 0 or v.max() <= 0 or len(changes) < 3:
        return np.zeros(0), np.zeros(0), 0.0
    # Turning points lie between two clear motions, at the farthest that is reached there.
    ends = []
    for k in changes:
        first, last = clear[k], clear[k + 1]
        inside = q[first : last + 1]
        ends.append(first + int(inside.argmax() if sign[first] > 0 else inside.argmin()))
    ends = np.array(ends)
    # Three turning points in a row, the middle one twice: what a damped swing has in its middle.
    middles = (q[ends[:-2]] + 2 * q[ends[1:-1]] + q[ends[2:]]) / 4
    return t[ends[1:-1]], middles, float(np.median(np.abs(np.diff(q[ends]))))


def mismatch(
    t: Float[np.ndarray, " instants"], q: Float[np.ndarray, " instants"], v: Float[np.ndarray, " instants"]
) -> str:
    """What is wrong with velocities that are no derivative of the positions; empty where nothing clearly is."""
    if len(t) < _ENOUGH:
        return ""
    slope = (q[2:] - q[:-2]) / (t[2:] - t[:-2])
    inside = v[1:-1]
    if not (np.std(slope) > 0 and np.std(inside) > 0):
        return ""
    if v.min() >= 0 and len(swings(q)) > 1 and np.corrcoef(np.abs(slope), inside)[0, 1] > _AGREEMENT:
        return "v is never negative while q goes back and forth, so that it is a speed without a direction"
    agreement = np.corrcoef(slope, inside)[0, 1]
    if abs(agreement) < _AGREEMENT:
        return ""
    factor = float(inside @ slope / (slope @ slope))
    if factor < 0:
        return "v has the opposite sign of the change of q"
    near = [words for known, words in _FACTORS.items() if abs(np.log(factor / known)) < 0.1]
    return near[0] if near else ""
