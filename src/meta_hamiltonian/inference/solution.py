"""A system that was fitted to points or to orbits, and what else the fit tells."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.orbit_fit import SAMPLES, fit_orbits
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.models import Adapted, AdaptedSystems
from meta_hamiltonian.observations import CanonicalTrajectory, well_known_points


class Solution(NamedTuple):
    """What a fit gives.

    - `adapted`: the system.
    - `samples`: systems drawn from its posterior, where there is one.
    - `starts`, `start_samples`: where each trajectory begins, if orbits were fitted.
    """

    adapted: Adapted
    samples: AdaptedSystems | None
    starts: Float[Tensor, "trajectories state"] | None = None
    start_samples: Float[Tensor, "samples trajectories state"] | None = None

    def certain(self, x: Float[Tensor, " state"]) -> tuple[Tensor, Tensor | None]:
        """A state that is known, and the same state for each of the samples."""
        return x, None if self.samples is None else x.expand(len(self.samples.scale), -1)

    def end_of(self, trajectory: CanonicalTrajectory) -> tuple[Tensor, Tensor | None]:
        """Where the last trajectory ends, and, by the posterior, where else it may."""
        if self.starts is None or self.samples is None or self.start_samples is None:
            return self.certain(trajectory.x[-1])
        end = self.adapted.orbits(self.starts[-1:], trajectory.t).states[-1, 0]
        return end, self.samples.rollout(self.start_samples[:, -1], trajectory.t).states[-1]


def from_points(learner: Learner, points: Points, steps: int | None) -> Solution:
    """Fits derivatives."""
    samples = learner.sample(points.x, points.dxdt, SAMPLES) if learner.has_posterior else None
    return Solution(learner.adapt(points.x, points.dxdt, steps), samples)


def from_trajectories(
    learner: Learner, trajectories: Sequence[CanonicalTrajectory], how: str, steps: int | None
) -> Solution:
    """Fits the derivatives of trajectories, or with `how="orbit"` the orbits themselves."""
    points = Points(*well_known_points(trajectories))
    if how == "derivatives":
        return from_points(learner, points, steps)
    starts = torch.stack([trajectory.x[0] for trajectory in trajectories])
    fitted = fit_orbits(learner, learner.adapt(points.x, points.dxdt, steps), points, starts, trajectories)
    return Solution(fitted.adapted, fitted.samples, fitted.starts, fitted.start_samples)
