"""Observed trajectories in canonical coordinates, with smooth derivatives."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.observations.forms import Trajectory
from meta_hamiltonian.observations.splines import smooth

# A derivative counts as well known where its error is at most so many times the median's.
_WELL_KNOWN = 2.0
# Estimated momenta count as so many times less exact than they are: their errors go together.
_CAUTION = 3.0


@dataclasses.dataclass(frozen=True)
class CanonicalTrajectory:
    """A trajectory as states (q, p) and rates. Where p was not observed, it comes from the smoothed q.

    - `t`: the instants.
    - `x`, `dxdt`: smoothed.
    - `error`: of the derivative, relative to other instants.
    - `observed`: what an orbit is compared with: not a number where nothing is known.
    - `noise`: standard deviation of the observations of each coordinate.
    """

    t: Float[Tensor, " instants"]
    x: Float[Tensor, "instants state"]
    dxdt: Float[Tensor, "instants state"]
    error: Float[Tensor, " instants"]
    observed: Float[Tensor, "instants state"]
    noise: Float[Tensor, " state"]


def canonical(trajectory: Trajectory, inertia: float) -> CanonicalTrajectory:
    """Smooths a trajectory.

    **Arguments:** `inertia`: where p was not observed, p = inertia · dq/dt.
    """
    t, q, observed = torch.from_numpy(trajectory.t), trajectory.q, observed_states(trajectory, inertia)
    if trajectory.p is None and trajectory.v is None:
        smoothed = smooth(trajectory.t, q, order=2)
        x = np.hstack([smoothed.value, inertia * smoothed.derivative])
        dxdt = np.hstack([smoothed.derivative, inertia * smoothed.second])
        # The orbits alone would leave the unit of p free.
        error = smooth(trajectory.t, q).error
        slow = error <= _WELL_KNOWN * np.median(error, axis=0)
        observed[:, q.shape[1] :] = np.where(slow, inertia * smoothed.derivative, np.nan)
        noise = np.concatenate([smoothed.noise, _CAUTION * inertia * np.median(error, axis=0)])
    else:
        smoothed = smooth(trajectory.t, observed)
        x, dxdt, noise = smoothed.value, smoothed.derivative, smoothed.noise
    error = np.linalg.norm(smoothed.error / (smoothed.error.mean(0) + np.finfo(float).tiny), axis=-1)
    return CanonicalTrajectory(t, *(torch.from_numpy(v) for v in (x, dxdt, error, observed, noise)))


def well_known_points(
    trajectories: Sequence[CanonicalTrajectory],
) -> tuple[Float[Tensor, "points state"], Float[Tensor, "points state"]]:
    """States and rates at the instants whose derivatives are known well: not those at the ends."""
    kept = [one.error <= _WELL_KNOWN * one.error.median() for one in trajectories]
    x = torch.cat([one.x[these] for one, these in zip(trajectories, kept, strict=True)])
    dxdt = torch.cat([one.dxdt[these] for one, these in zip(trajectories, kept, strict=True)])
    return x, dxdt


def observed_states(trajectory: Trajectory, inertia: float) -> Float[np.ndarray, "instants state"]:
    """States; p is not a number where neither it nor a velocity was observed."""
    if trajectory.p is not None:
        return np.hstack([trajectory.q, trajectory.p])
    v = np.full_like(trajectory.q, np.nan) if trajectory.v is None else trajectory.v
    return np.hstack([trajectory.q, inertia * v])
