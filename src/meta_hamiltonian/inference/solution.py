"""A system that was fitted to points or to orbits, and what else the fit tells."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Forces, Inertia, Signal, Terms
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.friction import FIRST, Candidate, Kinds, choose
from meta_hamiltonian.inference.orbit_fit import SAMPLES, fit_orbits
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.learners.learner import Forced
from meta_hamiltonian.models import Adapted, AdaptedSystems
from meta_hamiltonian.observations import CanonicalTrajectory, well_known_points

Said = Callable[[str, float], None]
"""Is told what is being done, and which part of the work is done."""


def silent(_what: str, _done: float) -> None:
    """Ignores what is said."""


# Dry friction is smooth below this part of the RMS of the observed velocities.
_SLOW = 0.01
# Rates that come from curves are fitted at so many instants at most: neighbours say the same.
_MOST_POINTS = 500


class Solution(NamedTuple):
    """What a fit gives.

    - `adapted`: the system.
    - `samples`: systems drawn from its posterior, where there is one.
    - `end`, `end_samples`: the state at the end of the last trajectory, and samples of it from the posterior.
    - `noise`: standard deviation of the observations around the orbits, 0 where states are taken for exact.
    - `candidates`: the kinds of friction that were compared, with twice the logarithm of their evidence.
    - `sampled_forces`: for the errors of their coefficients; None without a posterior.
    - `settled`: whether the fit came to an end.
    - `shares`: the probability of each of several answers, of which `adapted` is the likeliest.
    """

    adapted: Adapted
    samples: AdaptedSystems | None
    end: Float[Tensor, " state"]
    end_samples: Float[Tensor, "samples state"] | None
    noise: Float[Tensor, " state"]
    candidates: Sequence[Candidate] = ()
    sampled_forces: Forces | None = None
    settled: bool = True
    shares: tuple[float, ...] = (1.0,)

    @property
    def kinds(self) -> Kinds:
        """The kinds of friction that were found."""
        forces = self.adapted.systems.forces
        return () if forces is None else forces.kinds


class Task(NamedTuple):
    """What a learner is to be adapted to.

    - `points`: states and rates.
    - `paths`: the trajectories that they come from; empty where they were observed.
    - `signals`: the inputs of each trajectory; empty without inputs.
    - `u`: the inputs at the points.
    - `inertia`: where momenta were not observed, the mass matrix M of p = M dq/dt; None where they were.
    """

    points: Points
    paths: Sequence[CanonicalTrajectory] = ()
    signals: tuple[Signal, ...] = ()
    u: Float[Tensor, "points inputs"] | None = None
    inertia: Inertia | None = None

    def to(self, device: torch.device) -> "Task":
        """The same on another device."""
        u = None if self.u is None else self.u.to(device)
        paths, signals = [path.to(device) for path in self.paths], tuple(one.to(device) for one in self.signals)
        return Task(self.points.to(device), paths, signals, u, self.inertia)

    @property
    def width(self) -> float:
        """The speed below which dry friction is smoothed."""
        n = self.points.x.shape[1] // 2
        size = self.points.dxdt[:, :n].square().mean().sqrt().item()
        return _SLOW * size if size > 0 else 1.0


def of_trajectories(
    paths: Sequence[CanonicalTrajectory],
    signals: tuple[Signal, ...],
    inertia: Inertia | None,
    device: torch.device,
) -> Task:
    """The task of smoothed trajectories: states and rates where these are known well.

    **Arguments:** `device`: where the learner is, which adapts to it.
    """
    known = well_known_points(paths)
    thin = slice(None, None, max(1, len(known.x) // _MOST_POINTS))
    u = known.inputs(signals)
    points = Points(known.x[thin], known.dxdt[thin])
    return Task(points, paths, signals, None if u is None else u[thin], inertia).to(device)


def from_points(learner: Learner, task: Task, kinds: Kinds | None, steps: int | None, said: Said = silent) -> Solution:
    """Fits rates. Which kinds of friction there are is decided by evidence if `kinds` is None."""
    signal = task.signals[-1] if task.signals else None
    fits: dict[Kinds, Forced] = {}

    def fitted(kinds: Kinds) -> Forced:
        if kinds not in fits:
            said(f"fitting rates with friction: {' + '.join(kinds) or 'none'}", min(0.1 * len(fits), 0.6))
            terms = Terms(kinds, task.width, task.u)
            count = SAMPLES if learner.has_posterior else 0
            fits[kinds] = learner.adapt_forced(task.points, terms, signal, steps, count)
        return fits[kinds]

    def left(kinds: Kinds) -> Kinds:
        forces = fitted(kinds).adapted.forces
        return () if forces is None else tuple(k for k in forces.kinds)

    candidates: list[Candidate] = []
    if kinds is None and fitted(()).log_evidence is None:
        kinds = ()  # a learner that knows no evidence
    elif kinds is None:
        kinds, candidates = choose(left, lambda laws: [2 * (fitted(k).log_evidence or 0.0) for k in laws])
    found = fitted(left(kinds))
    end = task.points.x[-1] if not task.paths else task.paths[-1].x[-1]
    noise = torch.zeros_like(end)
    end_samples = None
    if found.samples is not None:
        end_samples = end.expand(len(found.samples.scale), -1)
        if task.paths:  # the state at the end of a curve is not known exactly
            noise = task.paths[-1].noise
            unit = torch.randn(end_samples.shape, dtype=end.dtype, generator=torch.Generator().manual_seed(1))
            end_samples = end_samples + noise * unit.to(end.device)
    forces = None if found.samples is None else found.samples.forces
    return Solution(
        Adapted(found.adapted), found.samples, end, end_samples, noise, candidates, forces, shares=found.shares
    )


def from_orbits(learner: Learner, task: Task, kinds: Kinds | None, steps: int | None, said: Said = silent) -> Solution:
    """Fits the orbits themselves, beginning with what the rates say."""
    beginning = (tuple(learner.friction.known) or FIRST) if kinds is None else kinds
    terms = Terms(beginning, task.width, task.u)
    begun = learner.adapt_forced(task.points, terms, task.signals[-1] if task.signals else None, steps)
    adapted = begun.adapted
    found = fit_orbits(learner, adapted, task.points, task.paths, kinds, task.width, task.signals, task.inertia, said)
    return Solution(
        found.adapted,
        found.samples,
        found.end,
        found.end_samples,
        found.noise,
        found.candidates,
        found.sampled_forces,
        found.settled,
        begun.shares,
    )


WAYS = {"derivatives": from_points, "orbit": from_orbits}
"""The ways to fit trajectories."""
