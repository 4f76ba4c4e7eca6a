"""Baselines that predict a recording without having learned how the members of its family differ."""

import dataclasses
import functools
import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain, Terms
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.episodes.recordings import RecordedMember
from meta_hamiltonian.evaluation.halves import Forecast, Halves, error_of
from meta_hamiltonian.learners import Scratch
from meta_hamiltonian.models import Adapted, FieldNetwork, HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.models.adapted import REACH
from meta_hamiltonian.observations import canonical, signals_of, well_known_points
from meta_hamiltonian.observations.canonical_states import observed_states
from meta_hamiltonian.observations.splines import continued

# Error of a step of the forecasts.
_TOLERANCE = 1e-7
# Width, depth, steps and rate of the networks; the most points of all members that one of them is fitted to.
_WIDTH, _DEPTH, _ITERATIONS, _RATE, _MOST_POINTS = 64, 3, 500, 0.01, 4000
# The network of each method, as `model=` names it.
MODELS = {"scratch": "hnn", "scratch_mlp": "mlp", "pooled": "hnn", "spline": ""}


class Baselines:
    """Predictions of the rest of a member's recording.

    - `scratch`: a Hamiltonian network that is fitted to the member's own beginning from random weights.
    - `scratch_mlp`: the same with a network that knows no physics and predicts dx/dt.
    - `pooled`: one Hamiltonian network for all members, as if they were the same system.
    - `spline`: the smoothing spline of the beginning, continued.
    """

    def __init__(self, domain: Domain, members: Sequence[RecordedMember]):
        """**Arguments:**

        - `domain`: that of the family.
        - `members`: those that the learner was trained on.
        """
        self.domain, self.members = domain, members

    def forecasts(self, member: RecordedMember, halves: Halves) -> list[Forecast]:
        """One forecast by each method."""
        paths = [canonical(one, halves.inertia) for one in halves.beginnings]
        known = well_known_points(paths)
        inputs = known.inputs(signals_of(halves.beginnings))
        found = []
        for method, kind in (("scratch", HamiltonianNetwork), ("scratch_mlp", VectorFieldNetwork)):
            began = time.perf_counter()
            adapted = self._fitted(kind, known.x, known.dxdt, inputs)
            found.append(self._followed(member, method, halves, adapted, paths[-1].x[-1:], began))
        pooled, began = self._pooled, time.perf_counter()  # its training is no part of a member's time
        found.append(self._followed(member, "pooled", halves, pooled, paths[-1].x[-1:], began))
        return [*found, self._continued(member, halves)]

    @functools.cached_property
    def _pooled(self) -> Adapted:
        every = max(1, -(-sum(len(one.points.x) for one in self.members) // _MOST_POINTS))
        x, dxdt = (torch.cat([getattr(one.points, name) for one in self.members])[::every] for name in ("x", "dxdt"))
        inputs = [one.inputs for one in self.members if one.inputs is not None]
        return self._fitted(HamiltonianNetwork, x, dxdt, torch.cat(inputs)[::every] if inputs else None)

    def _fitted(
        self,
        kind: type[HamiltonianNetwork] | type[VectorFieldNetwork],
        x: Float[Tensor, "points state"],
        dxdt: Float[Tensor, "points state"],
        inputs: Float[Tensor, "points inputs"] | None,
    ) -> Adapted:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net: FieldNetwork = kind(self.domain.state_dim, _WIDTH, _DEPTH, domain=self.domain)
        learner = Scratch(net, "adam", _RATE, _ITERATIONS, "task")
        return Adapted(learner.adapt_forced(Points(x, dxdt), Terms((), 1.0, inputs)).adapted)

    def _followed(
        self,
        member: RecordedMember,
        method: str,
        halves: Halves,
        adapted: Adapted,
        start: Float[Tensor, "1 state"],
        began: float,
    ) -> Forecast:
        seconds = time.perf_counter() - began
        signals = signals_of(halves.beginnings)
        driven = Adapted(adapted.systems.under(signals[-1])) if signals else adapted
        orbit = driven.orbits(start, halves.t, _TOLERANCE)
        states, lost = orbit.states[1:, 0], bool(orbit.diverged[0])
        return Forecast(member.name, method, halves, states, [], error_of(states, halves), [], lost, seconds)

    def _continued(self, member: RecordedMember, halves: Halves) -> Forecast:
        began = time.perf_counter()
        half, centre = np.array(self.domain.half_widths), np.array(self.domain.centre)
        last = halves.beginnings[-1]
        seen = observed_states(dataclasses.replace(last, integrated=False), halves.inertia)
        columns = np.isfinite(seen).all(0)
        bounds = np.stack([centre - REACH * half, centre + REACH * half])
        states = np.full((len(halves.t) - 1, self.domain.state_dim), np.nan)
        states[:, columns] = continued(last.t, seen[:, columns], halves.t[1:].numpy(), bounds[:, columns])
        seconds = time.perf_counter() - began
        line = torch.from_numpy(states)
        return Forecast(member.name, "spline", halves, line, [], error_of(line, halves), [], False, seconds)
