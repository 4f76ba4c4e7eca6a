"""From a user's observations to the dynamics of the system: which points are fitted, and how."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.holdout import ENOUGH, errors_at_the_end
from meta_hamiltonian.inference.solution import Solution, from_points, from_trajectories
from meta_hamiltonian.learners import Learner, task_scale
from meta_hamiltonian.models import Adapted, AdaptedSystems
from meta_hamiltonian.observations import Derivatives, ObservationError, Trajectory, canonical, well_known_points

FITS = ("auto", "derivatives", "orbit")
"""The ways to fit trajectories."""

# A residual as large as this part of the derivatives is worth a warning; if it is this many times that of held-out
# systems too, the system is of another family.
_LARGE, _FAR_ABOVE = 0.05, 10.0


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
        start_samples = None if self.samples is None else x.expand(len(self.samples.scale), -1)
        return dataclasses.replace(self, start=x, start_samples=start_samples, start_time=0.0)


def fit(
    learner: Learner,
    observations: Derivatives | Sequence[Trajectory],
    how: str = "auto",
    inertia: float = 1.0,
    steps: int | None = None,
    validation_loss: float | None = None,
) -> Fit:
    """Adapts a learner to a new system.

    **Arguments:**

    - `learner`: trained.
    - `observations`: states with their derivatives, or trajectories.
    - `how`: for trajectories: `"derivatives"` fits derivatives estimated from them, `"orbit"` the orbits themselves,
        through the ODE solver; `"auto"` takes the one that predicts the end of the trajectories better from the rest.
    - `inertia`: where p was not observed, p = inertia · dq/dt.
    - `steps`: gradient steps; None is as many as in training.
    - `validation_loss`: of the training, to tell whether the system is of its family; None where it is not known.

    **Raises:** `ValueError` for arguments that are not allowed or do not fit the observations.
    """
    if how not in FITS:
        raise ValueError(f"fit={how!r} is not known; choose one of {', '.join(FITS)}")
    if not 0 < inertia < math.inf:
        raise ValueError(f"inertia must be a finite number above 0, got {inertia!r}")
    if isinstance(observations, Derivatives):
        return _of_derivatives(learner, observations, how, steps, validation_loss)
    return _of_trajectories(learner, observations, how, inertia, steps, validation_loss)


def _of_derivatives(
    learner: Learner, observations: Derivatives, how: str, steps: int | None, validation_loss: float | None
) -> Fit:
    if how == "orbit":
        raise ObservationError("fit=orbit needs a trajectory, with a column t and without dq and dp")
    points = Points(torch.from_numpy(observations.x), torch.from_numpy(observations.dxdt))
    solution = from_points(learner, points, steps)
    end = solution.certain(points.x[-1])
    return _reported(learner, points, solution, end, 0.0, "derivatives", {}, [], steps, validation_loss)


def _of_trajectories(
    learner: Learner,
    observations: Sequence[Trajectory],
    how: str,
    inertia: float,
    steps: int | None,
    validation_loss: float | None,
) -> Fit:
    if how == "orbit" and not learner.net.has_head:
        raise ValueError("fit=orbit changes the head of a network, and the true law has none; use fit=derivatives")
    notes = []
    if any(trajectory.p is None for trajectory in observations):
        notes.append(f"p was not observed: it is {inertia:g} · dq/dt, so energies are in units of that inertia.")
    notes.append("dx/dt was estimated from the trajectories by regression splines.")
    held_out: dict[str, float] = {}
    if how == "auto" and not learner.net.has_head:
        how = "derivatives"
    elif how == "auto" and min(len(trajectory.t) for trajectory in observations) < ENOUGH:
        how = "derivatives"
        notes.append(f"fit=derivatives, since fewer than {ENOUGH} instants leave none to compare fits on.")
    elif how == "auto":
        held_out = errors_at_the_end(learner, observations, FITS[1:], inertia, steps)
        how = min(held_out, key=lambda name: (held_out[name], name))
        errors = ", ".join(f"{name} {error:.2g}" for name, error in held_out.items())
        notes.append(f"fit={how} predicts the end of the trajectories better (RMS in state boxes: {errors}).")
    paths = [canonical(trajectory, inertia) for trajectory in observations]
    points = Points(*well_known_points(paths))
    solution = from_trajectories(learner, paths, how, steps)
    end, start_time = solution.end_of(paths[-1]), paths[-1].t[-1].item()
    return _reported(learner, points, solution, end, start_time, how, held_out, notes, steps, validation_loss)


def _reported(
    learner: Learner,
    points: Points,
    solution: Solution,
    end: tuple[Tensor, Tensor | None],
    start_time: float,
    how: str,
    held_out: Mapping[str, float],
    notes: Sequence[str],
    steps: int | None,
    validation_loss: float | None,
) -> Fit:
    """The fit with what is to be said of it."""
    before = learner.adapt(points.x, points.dxdt, 0)
    residual = _residual(solution.adapted, points)
    if solution.samples is None:
        notes = [*notes, "There are no credible bands: they need the closed-form head (algo=ridge), or fit=orbit."]
    return Fit(
        before=before,
        adapted=solution.adapted,
        samples=solution.samples,
        x=points.x,
        dxdt=points.dxdt,
        how=how,
        held_out=held_out,
        start=end[0],
        start_samples=end[1],
        start_time=start_time,
        residual_before=_residual(before, points),
        residual=residual,
        steps=learner.default_steps if steps is None else steps,
        notes=notes,
        warnings=[*_outside(learner, points), *_badly_met(learner, points, residual, validation_loss)],
    )


def _residual(adapted: Adapted, points: Points) -> float:
    error = (adapted.field(points.x) - points.dxdt).square().mean().sqrt()
    return (error / task_scale(points)).item()


def _outside(learner: Learner, points: Points) -> list[str]:
    domain = learner.net.domain
    outside = int(domain.outside(points.x).sum())
    if not outside:
        return []
    box = ", ".join(f"{c.name} from {c.low:.3g} to {c.high:.3g}" for c in domain.coordinates)
    return [
        f"{outside} of {len(points.x)} observed states lie outside the domain that the learner was trained in ({box}): "
        "do not trust the dynamics there."
    ]


def _badly_met(learner: Learner, points: Points, residual: float, validation_loss: float | None) -> list[str]:
    if residual <= _LARGE:
        return []
    met = f"The observed derivatives are met to {residual:.1%} only"
    if validation_loss is None:
        return [f"{met}: this system is unlike those of the training, or its observations are noisy."]
    usual = validation_loss**0.5
    if learner.scale != "task":
        usual = usual / task_scale(points).item()
    if residual > _FAR_ABOVE * usual:
        return [
            f"{met}, where held-out systems of the training family are to {usual:.1g}: this system is unlike them, or "
            "its observations are noisy."
        ]
    return [
        f"{met}, and held-out systems of the training family to {usual:.1g}: the learner is not trained well enough; "
        "do not trust the prediction."
    ]
