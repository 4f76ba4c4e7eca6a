"""Observed trajectories in canonical coordinates, with smooth derivatives."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meta_hamiltonian.dynamics import Inertia, Signal, inputs_at
from meta_hamiltonian.observations.forms import Trajectory
from meta_hamiltonian.observations.splines import Smoothed, smooth

# A derivative counts as well known where its error is at most so many times the median's.
_WELL_KNOWN = 2.0
# Splines that need more coefficients than this part of their samples hardly smooth, but interpolate.
_COARSE = 1 / 3


@dataclasses.dataclass(frozen=True)
class CanonicalTrajectory:
    """A trajectory as states (q, p) and rates. Where p was not observed, it comes from the smoothed q.

    - `t`: the instants.
    - `x`, `dxdt`: smoothed.
    - `error`: that of the derivative, relative to other instants.
    - `observed`: what an orbit is compared with: not a number where nothing was observed.
    - `noise`: standard deviation of the observations of each coordinate.
    - `rate_error`: standard deviation of the rates.
    - `coarse`: whether splines need so many coefficients that what happens between two instants is not known.
    """

    t: Float[Tensor, " instants"]
    x: Float[Tensor, "instants state"]
    dxdt: Float[Tensor, "instants state"]
    error: Float[Tensor, " instants"]
    observed: Float[Tensor, "instants state"]
    noise: Float[Tensor, " state"]
    rate_error: Float[Tensor, "instants state"]
    coarse: bool = False

    @property
    def well_known(self) -> Bool[Tensor, " instants"]:
        """At which instants the derivatives are known well: not at the ends."""
        return self.error <= _WELL_KNOWN * self.error.median()

    def to(self, device: torch.device) -> "CanonicalTrajectory":
        """The same on another device."""
        tensors = {
            f.name: v.to(device) for f in dataclasses.fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(self, **tensors)


@dataclasses.dataclass(frozen=True)
class Trend:
    """What a law says of a trajectory. Only what it leaves of the observations is smoothed.

    - `x`: states at some instants; where p was not observed, p = M(q) dq/dt holds for them.
    - `dxdt`: the rates of the law.
    """

    x: Float[Tensor, "instants state"]
    dxdt: Float[Tensor, "instants state"]


def canonical(
    trajectory: Trajectory, inertia: float | Sequence[float] | Inertia, trend: Trend | None = None
) -> CanonicalTrajectory:
    """Smooths a trajectory.

    **Arguments:**

    - `inertia`: where p was not observed, p = inertia · dq/dt; one number, one for each coordinate, or a mass matrix.
    - `trend`: at the instants of the trajectory, what is known of its course. The better it is, the less the errors of
        smoothing matter; None is nothing.
    """
    inertia = Inertia.of(inertia, trajectory.q.shape[1])
    states = observed_states(trajectory, inertia)
    trend = trend or Trend(*(torch.zeros_like(torch.from_numpy(states)) for _ in range(2)))
    smoothed = smooth(trajectory.t, _left(trajectory, inertia, trend))
    x, dxdt, rate_error = _states(smoothed, trend, inertia)
    noise, errors = smoothed.noise, smoothed.error
    if noise.shape[0] < x.shape[1]:
        n = trajectory.q.shape[1]
        of_momenta = inertia.errors(x[:, :n], torch.from_numpy(errors)).median(0).values.numpy()
        noise, errors = np.concatenate([noise, of_momenta]), smoothed.second_error
    error = np.linalg.norm(errors / (errors.mean(0) + np.finfo(float).tiny), axis=-1)
    t, error, observed, noise = (torch.from_numpy(v) for v in (trajectory.t, error, states, noise))
    return CanonicalTrajectory(t, x, dxdt, error, observed, noise, rate_error, smoothed.share > _COARSE)


def in_between(
    trajectory: Trajectory,
    inertia: float | Sequence[float] | Inertia,
    trend: Trend,
    t: Float[Tensor, " between"],
    there: Trend,
) -> tuple[Float[Tensor, "between state"], Float[Tensor, "between state"], Float[Tensor, "between state"]]:
    """States of a smoothed trajectory at other instants.

    **Arguments:** those of [`canonical`][], the other instants, and the trend at these.

    **Returns:** the states, their rates, and the standard deviations of the rates.
    """
    inertia = Inertia.of(inertia, trajectory.q.shape[1])
    return _states(smooth(trajectory.t, _left(trajectory, inertia, trend), t.numpy()), there, inertia)


def _left(trajectory: Trajectory, inertia: Inertia, trend: Trend) -> np.ndarray:
    """What a trend leaves of the observations: of the states, or of the positions where nothing else was observed."""
    if trajectory.p is None and trajectory.v is None:
        return trajectory.q - trend.x[:, : trajectory.q.shape[1]].numpy()
    return observed_states(dataclasses.replace(trajectory, integrated=False), inertia) - trend.x.numpy()


def _states(smoothed: Smoothed, trend: Trend, inertia: Inertia) -> tuple[Tensor, Tensor, Tensor]:
    """States, rates and the errors of the rates, from a trend and from what was left of it."""
    value, derivative, second, error, second_error = (
        torch.from_numpy(getattr(smoothed, name)) for name in ("value", "derivative", "second", "error", "second_error")
    )
    if value.shape == trend.x.shape:
        return trend.x + value, trend.dxdt + derivative, error
    q0, p0 = trend.x.chunk(2, dim=1)
    v0 = inertia.velocities(q0, p0)
    a0 = inertia.accelerations(q0, v0, trend.dxdt[:, value.shape[1] :])
    q, v, a = q0 + value, v0 + derivative, a0 + second
    x = torch.cat([q, inertia.momenta(q, v)], dim=1)
    dxdt = torch.cat([v, inertia.momentum_rates(q, v, a)], dim=1)
    return x, dxdt, torch.cat([error, inertia.errors(q, second_error)], dim=1)


class WellKnown(NamedTuple):
    """Points of several trajectories.

    - `x`, `dxdt`: states and rates.
    - `rate_error`: standard deviation of the rates.
    - `t`: when they were there.
    - `trajectory`: in which of the trajectories.
    """

    x: Float[Tensor, "points state"]
    dxdt: Float[Tensor, "points state"]
    rate_error: Float[Tensor, "points state"]
    t: Float[Tensor, " points"]
    trajectory: Int[Tensor, " points"]

    def inputs(self, signals: Sequence[Signal]) -> Float[Tensor, "points inputs"] | None:
        """The measured inputs there, of the signals of all trajectories; None without signals."""
        return inputs_at(signals, self.t, self.trajectory) if signals else None


def well_known_points(trajectories: Sequence[CanonicalTrajectory]) -> WellKnown:
    """States and rates at the instants whose derivatives are known well: not those at the ends."""
    parts = []
    for i, one in enumerate(trajectories):
        kept = one.well_known
        t = one.t[kept]
        parts.append((one.x[kept], one.dxdt[kept], one.rate_error[kept], t, torch.full_like(t, i, dtype=torch.long)))
    return WellKnown(*(torch.cat(part) for part in zip(*parts, strict=True)))


def observed_states(
    trajectory: Trajectory, inertia: float | Sequence[float] | Inertia
) -> Float[np.ndarray, "instants state"]:
    """States as they were observed.

    Positions that are integrals are not a number, except the first one; nor are momenta where neither momenta nor
    velocities were observed.
    """
    q = trajectory.q
    if trajectory.integrated:  # its constant is free: by definition that of the integral
        q = np.where(np.arange(len(q))[:, None] == 0, q, np.nan)
    if trajectory.p is not None:
        return np.hstack([q, trajectory.p])
    v = np.full_like(q, np.nan) if trajectory.v is None else trajectory.v
    there, rates = (torch.from_numpy(np.ascontiguousarray(one)) for one in (trajectory.q, v))
    return np.hstack([q, Inertia.of(inertia, q.shape[1]).momenta(there, rates).numpy()])
