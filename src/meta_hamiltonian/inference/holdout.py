"""Which way to fit a trajectory predicts its end better from the rest."""

import dataclasses
from collections.abc import Sequence

import torch

from meta_hamiltonian.inference.solution import from_trajectories
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.observations import Trajectory, canonical
from meta_hamiltonian.observations.canonical import observed_states

# The part of a trajectory, its end, that is held out.
_HELD_OUT = 0.25
ENOUGH = 8
"""With fewer instants there is nothing to hold out."""


def errors_at_the_end(
    learner: Learner, observations: Sequence[Trajectory], ways: Sequence[str], inertia: float, steps: int | None
) -> dict[str, float]:
    """Fits the beginnings alone in each way, and follows the orbits to the ends.

    **Returns:** the RMS distance from what was observed there, in units of the state box.
    """
    return {how: _error(learner, observations, how, inertia, steps) for how in ways}


def _error(learner: Learner, observations: Sequence[Trajectory], how: str, inertia: float, steps: int | None) -> float:
    counts = [round((1 - _HELD_OUT) * len(trajectory.t)) for trajectory in observations]
    beginnings = [canonical(_first(one, count), inertia) for one, count in zip(observations, counts, strict=True)]
    solution = from_trajectories(learner, beginnings, how, steps)
    starts = torch.stack([one.x[0] for one in beginnings]) if solution.starts is None else solution.starts
    squares = []
    for trajectory, start, count in zip(observations, starts, counts, strict=True):
        observed = torch.from_numpy(observed_states(trajectory, inertia))
        predicted = solution.adapted.orbits(start[None], torch.from_numpy(trajectory.t)).states[:, 0]
        error = ((predicted - observed) / learner.net.state_box.double())[count:]
        squares.append(error[error.isfinite()].square())
    return torch.cat(squares).mean().sqrt().item()


def _first(trajectory: Trajectory, count: int) -> Trajectory:
    parts = {name: getattr(trajectory, name) for name in ("t", "q", "p", "v")}
    return dataclasses.replace(trajectory, **{name: v if v is None else v[:count] for name, v in parts.items()})
