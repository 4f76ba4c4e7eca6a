"""Which way to fit a trajectory predicts its end better from the rest."""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Signal
from meta_hamiltonian.inference.friction import Kinds
from meta_hamiltonian.inference.solution import WAYS, of_trajectories
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.observations import Trajectory, canonical
from meta_hamiltonian.observations.canonical import observed_states

# The part of a trajectory, its end, that is held out.
_HELD_OUT = 0.25
# The orbit is compared with observations, which have errors of their own.
_TOLERANCE = 1e-7
ENOUGH = 8
"""With fewer instants there is nothing to hold out."""


def errors_at_the_end(
    learner: Learner,
    observations: Sequence[Trajectory],
    ways: Sequence[str],
    inertia: Sequence[float],
    steps: int | None,
    kinds: Kinds = (),
    signals: tuple[Signal, ...] = (),
) -> dict[str, float]:
    """Fits the beginnings alone in each way, and follows the orbit to the end of the last trajectory.

    **Returns:** the RMS distance from what was observed there, in units of the state box; infinite where an orbit
    cannot be followed.
    """
    counts = [round((1 - _HELD_OUT) * len(trajectory.t)) for trajectory in observations]
    beginnings = [canonical(_first(one, count), inertia) for one, count in zip(observations, counts, strict=True)]
    defined = None if observations[-1].p is not None else torch.tensor(inertia, dtype=torch.float64)
    task = of_trajectories(beginnings, signals, defined)
    last, count = observations[-1], counts[-1]
    observed = torch.from_numpy(observed_states(last, inertia))[count:]
    t = torch.from_numpy(last.t)[count - 1 :]
    errors = {}
    for how in ways:
        solution = WAYS[how](learner, task, kinds, steps)
        orbit = solution.adapted.orbits(solution.end[None], t, _TOLERANCE)
        errors[how] = torch.inf if orbit.diverged[0] else _rms(orbit.states[1:, 0] - observed, learner.net.state_box)
    return errors


def _rms(error: Float[Tensor, "instants state"], box: Float[Tensor, " state"]) -> float:
    relative = error / box.double()
    return relative[relative.isfinite()].square().mean().sqrt().item()


def _first(trajectory: Trajectory, count: int) -> Trajectory:
    parts = {name: getattr(trajectory, name) for name in ("t", "q", "p", "v")}
    return dataclasses.replace(trajectory, **{name: v if v is None else v[:count] for name, v in parts.items()})
