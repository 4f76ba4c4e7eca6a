"""Observed trajectories in canonical coordinates, with smooth derivatives."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.observations.forms import Trajectory
from meta_hamiltonian.observations.splines import smooth

# A derivative counts as well known where its error is at most so many times the median's.
_WELL_KNOWN = 2.0


@dataclasses.dataclass(frozen=True)
class CanonicalTrajectory:
    """A trajectory as states (q, p) and rates. Where p was not observed, it comes from the smoothed q.

    - `t`: the instants.
    - `x`, `dxdt`: smoothed.
    - `error`: of the derivative, relative to other instants.
    - `observed`: what an orbit is compared with: not a number where nothing was observed.
    - `noise`: standard deviation of the observations of each coordinate.
    - `rate_error`: standard deviation of the rates.
    """

    t: Float[Tensor, " instants"]
    x: Float[Tensor, "instants state"]
    dxdt: Float[Tensor, "instants state"]
    error: Float[Tensor, " instants"]
    observed: Float[Tensor, "instants state"]
    noise: Float[Tensor, " state"]
    rate_error: Float[Tensor, "instants state"]


def canonical(trajectory: Trajectory, inertia: float | Sequence[float]) -> CanonicalTrajectory:
    """Smooths a trajectory.

    **Arguments:** `inertia`: where p was not observed, p = inertia · dq/dt; one number, or one for each coordinate.
    """
    m = np.broadcast_to(np.asarray(inertia, dtype=float), trajectory.q.shape[1:])
    t, q, observed = torch.from_numpy(trajectory.t), trajectory.q, observed_states(trajectory, inertia)
    if trajectory.p is None and trajectory.v is None:
        smoothed = smooth(trajectory.t, q)
        x = np.hstack([smoothed.value, m * smoothed.derivative])
        dxdt = np.hstack([smoothed.derivative, m * smoothed.second])
        noise, errors = np.concatenate([smoothed.noise, m * np.median(smoothed.error, axis=0)]), smoothed.second_error
        rate_error = np.hstack([smoothed.error, m * smoothed.second_error])
    else:
        states = observed_states(dataclasses.replace(trajectory, integrated=False), inertia)
        smoothed = smooth(trajectory.t, states)
        x, dxdt, noise, errors = smoothed.value, smoothed.derivative, smoothed.noise, smoothed.error
        rate_error = errors
    error = np.linalg.norm(errors / (errors.mean(0) + np.finfo(float).tiny), axis=-1)
    return CanonicalTrajectory(t, *(torch.from_numpy(v) for v in (x, dxdt, error, observed, noise, rate_error)))


def well_known_points(
    trajectories: Sequence[CanonicalTrajectory],
) -> tuple[
    Float[Tensor, "points state"], Float[Tensor, "points state"], Int[Tensor, " points"], Int[Tensor, " points"]
]:
    """States and rates at the instants whose derivatives are known well: not those at the ends.

    **Returns:** the states, the rates, and of each the trajectory and the place in it.
    """
    rows = [(one.error <= _WELL_KNOWN * one.error.median()).nonzero()[:, 0] for one in trajectories]
    x = torch.cat([one.x[kept] for one, kept in zip(trajectories, rows, strict=True)])
    dxdt = torch.cat([one.dxdt[kept] for one, kept in zip(trajectories, rows, strict=True)])
    which = torch.cat([torch.full_like(kept, i) for i, kept in enumerate(rows)])
    return x, dxdt, which, torch.cat(rows)


def observed_states(trajectory: Trajectory, inertia: float | Sequence[float]) -> Float[np.ndarray, "instants state"]:
    """States as they were observed.

    Not a number are positions that are integrals, but for the first one, and momenta where neither they nor
    velocities were observed.
    """
    q = trajectory.q
    if trajectory.integrated:  # its constant is free: by definition that of the integral
        q = np.where(np.arange(len(q))[:, None] == 0, q, np.nan)
    if trajectory.p is not None:
        return np.hstack([q, trajectory.p])
    v = np.full_like(q, np.nan) if trajectory.v is None else trajectory.v
    return np.hstack([q, np.broadcast_to(np.asarray(inertia, dtype=float), q.shape[1:]) * v])
