"""A recording that is cut in two, and a prediction of its second part from the first."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Inertia
from meta_hamiltonian.episodes.recordings import RecordedMember
from meta_hamiltonian.observations import Derivatives, ObservationError, Trajectory
from meta_hamiltonian.observations.canonical_states import observed_states
from meta_hamiltonian.observations.inertias import Inertias

LEARNED = "learned"
"""The name of the learner that is tested, among the baselines."""

# Fewer instants are no beginning to fit, or no rest to compare with.
_FEWEST = 4


class Halves(NamedTuple):
    """A member whose recordings are cut in two.

    - `beginnings`: what is observed.
    - `t`: the instants of the rest of the last recording, beginning with its last observed instant.
    - `rest`: the states at these instants but the first; not a number where nothing was observed.
    - `size`: standard deviation of each coordinate along the whole recording.
    - `inertia`: where momenta were not observed, the mass matrix that the beginnings tell.
    """

    beginnings: Sequence[Trajectory]
    t: Float[Tensor, " instants"]
    rest: Float[Tensor, "later state"]
    size: Float[Tensor, " state"]
    inertia: Inertia


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The prediction of one member's rest by one method.

    - `method`: [`LEARNED`][] or the name of a baseline.
    - `states`: predicted at the instants of the rest.
    - `bands`: for each of the levels of [`LEVELS`][], the ends of the credible intervals; empty without a posterior.
    - `error`: RMS over instants and observed coordinates of the error, each in standard deviations of its motion.
    - `covered`: the part of the observations that lie in the bands, for each level.
    - `lost`: whether the orbit could not be followed to the end.
    - `seconds`: how long adapting took.
    - `friction`: the kinds of friction that were found.
    """

    member: str
    method: str
    halves: Halves
    states: Float[Tensor, "later state"]
    bands: Sequence[tuple[Float[Tensor, "later state"], Float[Tensor, "later state"]]]
    error: float
    covered: Sequence[float]
    lost: bool
    seconds: float
    friction: Sequence[str] = ()


def cut(member: RecordedMember, part: float, inertias: Inertias) -> Halves:
    """Cuts every recording of a member after this part of its time. What is seen later has the mass matrix that the
    beginnings tell, where momenta were not observed.

    **Raises:** [`ObservationError`][], where nothing is left on one of the sides.
    """
    if isinstance(member.observations, Derivatives):
        raise ObservationError("states without times have no later ones to be predicted")
    beginnings = []
    for one in member.observations:
        count = int(np.searchsorted(one.t, one.t[0] + part * (one.t[-1] - one.t[0]), side="right"))
        beginnings.append(_first(one, count))
    last, count = member.observations[-1], len(beginnings[-1].t)
    if min(len(one.t) for one in beginnings) < _FEWEST or len(last.t) - count < 1:
        raise ObservationError(f"too few instants are left on a side of {part:.0%} of its time")
    inertia = inertias.of(beginnings)
    states = torch.from_numpy(observed_states(last, inertia))
    seen = states.isfinite()
    middle = torch.where(seen, states, 0.0).sum(0) / seen.sum(0).clamp(min=1)
    size = (torch.where(seen, states - middle, 0.0).square().sum(0) / seen.sum(0).clamp(min=1)).sqrt()
    return Halves(beginnings, torch.from_numpy(last.t[count - 1 :]), states[count:], size, inertia)


def _first(one: Trajectory, count: int) -> Trajectory:
    parts = {name: None if (value := getattr(one, name)) is None else value[:count] for name in ("t", "q", "p", "v")}
    return dataclasses.replace(one, **parts)


def error_of(states: Float[Tensor, "later state"], halves: Halves) -> float:
    """RMS over instants and observed coordinates, each in standard deviations of its motion."""
    away = (states - halves.rest) / halves.size.clamp_min(torch.finfo(torch.float64).tiny)
    return away[away.isfinite()].square().mean().sqrt().item()
