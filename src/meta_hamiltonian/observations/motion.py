"""When a recorded motion begins."""

import dataclasses

import numpy as np
from jaxtyping import Float

from meta_hamiltonian.observations.forms import ObservationError, Trajectory

# Motion is what leaves the rest by so many times the noise; what stays within so many times the noise may be rest.
_MOTION, _REST = 20.0, 5.0
# Rest lasts so many times longer than the motion takes from the one to the other. A motion that starts at a turning
# point, or shortly before one, seems to rest for twice that time at most.
_LONGER = 4.0
_FEWEST = 6
# A smooth motion, however slow, crosses its mean once or twice; noise does so again and again.
_CROSSINGS = 3
# From so many instants on, values without any order are told from a motion.
_ENOUGH = 50


def without_rest(trajectory: Trajectory) -> tuple[Trajectory, str | None]:
    """The trajectory from its release on, and a sentence where something was left out before it.

    The last instant at rest is kept. A motion that is driven stays as it is, since rest is then a part of it.

    **Raises:** [`ObservationError`][], where nothing moves at all.
    """
    seen = _observed(trajectory)
    if _still(seen):
        raise ObservationError("nothing moves: it is at rest all the time; give a recording of a motion")
    if trajectory.inputs is not None:
        return trajectory, None
    first = _release(trajectory.t, seen)
    if not first:
        return trajectory, None
    moving = cut(trajectory, first)
    return moving, f"it rests until t={moving.t[0]:.6g}, when it is released; what stands before is left out"


def cut(trajectory: Trajectory, first: int) -> Trajectory:
    """The trajectory from an instant on; inputs stay."""
    parts = {name: None if (value := getattr(trajectory, name)) is None else value[first:] for name in "tqpv"}
    return dataclasses.replace(trajectory, **parts)


def _observed(trajectory: Trajectory) -> Float[np.ndarray, "instants n"]:
    """What was measured itself: an integral wanders where its derivative rests."""
    return trajectory.v if trajectory.integrated and trajectory.v is not None else trajectory.q


def _still(seen: Float[np.ndarray, "instants n"]) -> bool:
    """Whether the values are all the same, or differ without any order."""
    if len(seen) < 2:
        return False
    if (np.ptp(seen, axis=0) <= 1e-12 * np.abs(seen).max()).all():
        return True
    return len(seen) >= _ENOUGH and all(_without_order(column) for column in seen.T)


def _without_order(values: Float[np.ndarray, " instants"]) -> bool:
    """Whether no value tells anything of those that follow, by their autocorrelation."""
    away = values - values.mean()
    if not (power := float(away @ away)) > 0:
        return True
    size = 1 << (2 * len(away) - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(away, size)) ** 2
    correlation = np.fft.irfft(spectrum, size)[1 : len(away) // 2] / power
    return bool(np.abs(correlation).max() < 4.5 / np.sqrt(len(away)))


def _release(t: Float[np.ndarray, " instants"], seen: Float[np.ndarray, "instants n"]) -> int:
    """The last instant at rest; 0 where it moves from the start."""
    if len(seen) < 2 * _FEWEST:
        return 0
    base = np.median(seen[:_FEWEST], axis=0)
    noise = _noise(seen)
    first = 0
    for _ in range(2):  # the noise of the rest itself is known once the rest is
        away = (np.abs(seen - base) / noise).max(1)
        moving = np.flatnonzero(away > _MOTION)
        if not len(moving):
            return 0
        calm = np.flatnonzero(away[: moving[0]] <= _REST)
        if not len(calm):
            return 0
        # The motion goes as the square of time: it leaves the noise at time τ and the fourfold at 2 τ.
        leaves, grows = t[calm[-1]], t[moving[0]]
        released = 2 * leaves - grows
        first = int(np.searchsorted(t, released, side="right")) - 1
        if first + 1 < _FEWEST or released - t[0] < _LONGER * (grows - leaves):
            return 0
        rest = seen[: first + 1]
        base = rest.mean(0)
        noise = np.maximum(rest.std(0), _floor(seen))
    rest = seen[: first + 1]
    return first if all(_is_noise(column) for column in rest.T) else 0


def _noise(seen: Float[np.ndarray, "instants n"]) -> Float[np.ndarray, " n"]:
    """From third differences, in which a motion hardly shows."""
    third = np.abs(np.diff(seen, 3, axis=0))
    return np.maximum(np.median(third, axis=0) / 0.6745 / np.sqrt(20), _floor(seen))


def _floor(seen: Float[np.ndarray, "instants n"]) -> Float[np.ndarray, " n"]:
    return 1e-5 * np.ptp(seen, axis=0).max() + np.zeros(seen.shape[1])


def _is_noise(values: Float[np.ndarray, " instants"]) -> bool:
    away = values - values.mean()
    if np.ptp(values) == 0:
        return True
    return int((np.diff(np.sign(away)) != 0).sum()) >= _CROSSINGS
