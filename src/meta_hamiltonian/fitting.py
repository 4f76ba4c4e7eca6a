"""From a user's observations to the dynamics of the system: which points are fitted, and how."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.checkpoint import HISTORY_KEY, SETTINGS_KEY, find_checkpoint, load, read_checkpoint
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners import Adapted, AdaptedSystems, Learner, Ridge, task_scale
from meta_hamiltonian.models import ParametricHamiltonian
from meta_hamiltonian.observations import Derivatives, ObservationError, Trajectory
from meta_hamiltonian.orbit_fit import SAMPLES, Path, fit_orbits, make_path, observed_states, well_known_points

FITS = ("auto", "derivatives", "orbit")
# The part of a trajectory, its end, that decides between the two fits.
_HELD_OUT = 0.25
# With fewer instants there is nothing to hold out.
_ENOUGH = 8
# A residual this many times that of held-out systems, and this large relative to the derivatives, is another family's.
_FAR_ABOVE, _LARGE = 10.0, 0.05


@dataclasses.dataclass(frozen=True)
class Fit:
    """A new system, and how well it is known.

    - `before`, `adapted`: the dynamics without and with the observations.
    - `samples`: systems drawn from the posterior, where there is one; `start_samples`: where each of them starts.
    - `x`, `dxdt`: the states `[K, 2n]` that were fitted, and their derivatives.
    - `how`: `"derivatives"` or `"orbit"`.
    - `held_out`: for trajectories, the RMS distance of the end of each from the orbit through its beginning, in units
        of the state box, for each way to fit.
    - `start`, `start_time`: the last observed state, from which a prediction goes on.
    - `residual_before`, `residual`: RMS of the error of dx/dt at `x`, relative to that of dx/dt.
    - `steps`: gradient steps that were taken.
    - `notes`, `warnings`: what was assumed, and what may be wrong.
    """

    before: Adapted
    adapted: Adapted
    samples: AdaptedSystems | None
    x: Float[Tensor, "points state"]
    dxdt: Float[Tensor, "points state"]
    how: str
    held_out: Mapping[str, float]
    start: Float[Tensor, " state"]
    start_samples: Float[Tensor, "samples state"] | None
    start_time: float
    residual_before: float
    residual: float
    steps: int
    notes: Sequence[str]
    warnings: Sequence[str]

    def starting_from(self, x: Float[Tensor, " state"]) -> "Fit":
        """The same with the prediction going on from this state, at time 0."""
        start, samples = _certain(x, self.samples)
        return dataclasses.replace(self, start=start, start_samples=samples, start_time=0.0)


def fit(
    run: str | os.PathLike[str],
    observations: Derivatives | Sequence[Trajectory],
    how: str = "auto",
    inertia: float = 1.0,
    steps: int | None = None,
) -> Fit:
    """Adapts the learner of a run to a new system.

    **Arguments:**

    - `run`: a run's folder, or a checkpoint file.
    - `observations`: states with their derivatives, or trajectories.
    - `how`: for trajectories: `"derivatives"` fits derivatives estimated from them, `"orbit"` the orbits themselves,
        through the ODE solver; `"auto"` takes the one that predicts the end of the trajectories better from the rest.
    - `inertia`: where p was not observed, p = inertia · dq/dt.
    - `steps`: gradient steps; None is as many as in training.

    **Raises:** `ValueError` for arguments that are not allowed, and what [`load`][] raises.
    """
    if how not in FITS:
        raise ValueError(f"fit={how!r} is not known; choose one of {', '.join(FITS)}")
    if not 0 < inertia < np.inf:
        raise ValueError(f"inertia must be a finite number above 0, got {inertia!r}")
    learner = load(run)
    checkpoint = read_checkpoint(find_checkpoint(run))
    if isinstance(learner.net, ParametricHamiltonian) and how != "derivatives":
        if how == "orbit":
            raise ValueError("fit=orbit changes the head of a network, and the true law has none; use fit=derivatives")
        how = "derivatives"
    notes: list[str] = []
    held_out: dict[str, float] = {}
    if isinstance(observations, Derivatives):
        if how == "orbit":
            raise ObservationError("fit=orbit needs a trajectory, with a column t and without dq and dp")
        points = Points(torch.from_numpy(observations.x), torch.from_numpy(observations.dxdt))
        how, start_time = "derivatives", 0.0
        known = _adapt(learner, points, steps)
        start, start_samples = _certain(points.x[-1], known.samples)
    else:
        paths = [make_path(trajectory, inertia) for trajectory in observations]
        if any(trajectory.p is None for trajectory in observations):
            notes.append(f"p was not observed: it is {inertia:g} · dq/dt, so energies are in units of that inertia.")
        notes.append("dx/dt was estimated from the trajectories by regression splines.")
        if how == "auto" and min(len(path.t) for path in paths) < _ENOUGH:
            how = "derivatives"
            notes.append(f"fit=derivatives, since fewer than {_ENOUGH} instants leave none to compare fits on.")
        elif how == "auto":
            held_out = {name: _error_at_the_end(learner, observations, name, inertia, steps) for name in FITS[1:]}
            how = min(held_out, key=lambda name: (held_out[name], name))
            errors = ", ".join(f"{name} {error:.2g}" for name, error in held_out.items())
            notes.append(f"fit={how} predicts the end of the trajectories better (RMS in state boxes: {errors}).")
        points, known = well_known_points(paths), _fitted(learner, paths, how, steps)
        start_time = paths[-1].t[-1].item()
        start, start_samples = _last_state(known, paths[-1])
    before = learner.adapt(points.x, points.dxdt, 0)
    residual = _residual(known.adapted, points)
    if known.samples is None:
        notes.append("There are no credible bands: they need the closed-form head (algo=ridge), or fit=orbit.")
    return Fit(
        before=before,
        adapted=known.adapted,
        samples=known.samples,
        x=points.x,
        dxdt=points.dxdt,
        how=how,
        held_out=held_out,
        start=start,
        start_samples=start_samples,
        start_time=start_time,
        residual_before=_residual(before, points),
        residual=residual,
        steps=learner.default_steps if steps is None else steps,
        notes=notes,
        warnings=_warnings(learner, points, residual, checkpoint),
    )


class _Known(NamedTuple):
    """What a fit gives: samples only if there is a posterior, starts of trajectories only if these were fitted."""

    adapted: Adapted
    samples: AdaptedSystems | None
    starts: Float[Tensor, "trajectories state"] | None = None
    start_samples: Float[Tensor, "samples trajectories state"] | None = None


def _adapt(learner: Learner, points: Points, steps: int | None) -> _Known:
    samples = learner.sample(points.x, points.dxdt, SAMPLES) if isinstance(learner, Ridge) else None
    return _Known(learner.adapt(points.x, points.dxdt, steps), samples)


def _fitted(learner: Learner, paths: Sequence[Path], how: str, steps: int | None) -> _Known:
    points = well_known_points(paths)
    if how == "derivatives":
        return _adapt(learner, points, steps)
    starts = torch.stack([path.x[0] for path in paths])
    fitted = fit_orbits(learner, learner.adapt(points.x, points.dxdt, steps), starts, paths)
    return _Known(fitted.adapted, fitted.samples, fitted.starts, fitted.start_samples)


def _last_state(known: _Known, path: Path) -> tuple[Tensor, Tensor | None]:
    """Where a trajectory ends, and, by the posterior, where else it may."""
    if known.starts is None or known.samples is None or known.start_samples is None:
        return _certain(path.x[-1], known.samples)
    end = known.adapted.rollout(known.starts[-1], path.t)[-1]
    return end, known.samples.rollout(known.start_samples[:, -1], path.t).states[-1]


def _certain(x: Float[Tensor, " state"], samples: AdaptedSystems | None) -> tuple[Tensor, Tensor | None]:
    return x, None if samples is None else x.expand(len(samples.scale), -1)


def _error_at_the_end(
    learner: Learner, observations: Sequence[Trajectory], how: str, inertia: float, steps: int | None
) -> float:
    """Fits the beginnings alone and follows the orbits to the ends."""
    counts = [round((1 - _HELD_OUT) * len(trajectory.t)) for trajectory in observations]
    beginnings = [make_path(_first(trajectory, n), inertia) for trajectory, n in zip(observations, counts, strict=True)]
    known = _fitted(learner, beginnings, how, steps)
    starts = [path.x[0] for path in beginnings] if known.starts is None else known.starts
    squares = []
    for trajectory, start, count in zip(observations, starts, counts, strict=True):
        whole = observed_states(trajectory, inertia)
        predicted = known.adapted.rollout(start, torch.from_numpy(trajectory.t))
        error = ((predicted - torch.from_numpy(whole)) / learner.net.state_box.double())[count:]
        squares.append(error[error.isfinite()].square())
    return torch.cat(squares).mean().sqrt().item()


def _first(trajectory: Trajectory, count: int) -> Trajectory:
    parts = {name: getattr(trajectory, name) for name in ("t", "q", "p", "v")}
    return dataclasses.replace(trajectory, **{name: v if v is None else v[:count] for name, v in parts.items()})


def _residual(adapted: Adapted, points: Points) -> float:
    error = (adapted.field(points.x) - points.dxdt).square().mean().sqrt()
    return (error / task_scale(points)).item()


def _warnings(learner: Learner, points: Points, residual: float, checkpoint: Mapping[str, object]) -> list[str]:
    found = []
    box = learner.net.state_box.double()
    outside = int((points.x.abs() > box).any(-1).sum())
    if outside:
        limits = ", ".join(f"{half:.3g}" for half in box.tolist())
        found.append(
            f"{outside} of {len(points.x)} observed states lie outside the state box (half-widths {limits}), "
            "where nothing was trained: do not trust the dynamics there."
        )
    history = checkpoint.get(HISTORY_KEY)
    if history:
        settings = checkpoint[SETTINGS_KEY]
        assert isinstance(history, list)
        assert isinstance(settings, Mapping)
        usual = min(row["loss"] for row in history) ** 0.5
        if settings["algo"].get("scale") != "task":
            usual = usual / task_scale(points).item()
        if residual > max(_FAR_ABOVE * usual, _LARGE):
            found.append(
                f"The observed derivatives are met to {residual:.1%} only, where held-out systems of the training "
                f"family are to {usual:.1g}: this system is unlike them, or its observations are noisy."
            )
    return found
