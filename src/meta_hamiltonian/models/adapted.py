"""Adapted systems: the field, the energy and the orbits that a learner has found for new systems."""

import copy
import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.dynamics import Domain, Field, Forces, Orbits, Signal, integrate, solve
from meta_hamiltonian.models.network import FieldNetwork

# Points an axis that locate the lowest energy, before it is polished.
_PER_AXIS = 128
# An orbit is followed as far as this many boxes of the domain.
REACH = 2.0
# Relative and absolute error of a step, for the orbits of many systems and for a user's few.
_BATCH_TOLERANCE, _USER_TOLERANCE = 1e-8, 1e-10
# An orbit of a batch that takes more steps than this is stopped: no plausible system needs so many.
_BATCH_STEPS, _USER_STEPS = 2e4, 1e5
# States evaluated at once: few enough that a layer's values stay in the cache of a CPU, or in the memory of a GPU.
_CHUNK, _ON_GPU = 4096, 2**20


# Some of the systems, by their rows; and their fields, at states and, where inputs act, at times.
_Rows = slice | Int[Tensor, " some"]
_Law = Callable[[Tensor, Tensor | None], Tensor]


class StoppedOrbitWarning(UserWarning):
    """An orbit could not be followed to the last instant that was asked for."""


@dataclasses.dataclass(frozen=True)
class AdaptedSystems:
    """Many adapted systems, evaluated in one batch.

    - `net`: the network.
    - `parameters`: each task's weights `[tasks, ...]` by name; the others are the network's own.
    - `scale`: the factor of the network's output, `[tasks]`.
    - `forces`: friction, and inputs, that act on them besides; None where there are none.
    """

    net: FieldNetwork
    parameters: Mapping[str, Tensor]
    scale: Float[Tensor, " tasks"]
    forces: Forces | None = None

    def __getitem__(self, task: int) -> "Adapted":
        """One of the systems."""
        own = {name: value[task, None] for name, value in self.parameters.items()}
        forces = None if self.forces is None else self.forces[task]
        return Adapted(AdaptedSystems(self.net, own, self.scale[task, None], forces))

    @property
    def domain(self) -> Domain:
        """Where the states of all systems live. For a single system, the surroundings of its own singularities are
        left out."""
        latents = self.parameters.get("latents")
        return self.net.domain if latents is None or len(latents) > 1 else self.net.domain_of(latents[0])

    def to(self, device: torch.device | str) -> "AdaptedSystems":
        """The same on another device."""
        if self.scale.device == torch.device(device):
            return self
        own = {name: value.to(device) for name, value in self.parameters.items()}
        forces = None if self.forces is None else self.forces.to(device)
        return AdaptedSystems(copy.deepcopy(self.net).to(device), own, self.scale.to(device), forces)

    @staticmethod
    def joined(parts: "Sequence[AdaptedSystems]") -> "AdaptedSystems":
        """All systems of several batches of one network, with forces that act at the same times."""
        first = parts[0]
        own = {name: torch.cat([part.parameters[name] for part in parts]) for name in first.parameters}
        forces = [part.forces for part in parts if part.forces is not None]
        together = Forces.joined(forces) if forces else None
        return AdaptedSystems(first.net, own, torch.cat([part.scale for part in parts]), together)

    def under(self, signal: Signal | None) -> "AdaptedSystems":
        """The same while other inputs act, as in another recording."""
        forces = self.forces
        return self if forces is None else dataclasses.replace(self, forces=dataclasses.replace(forces, signal=signal))

    def some(self, tasks: _Rows) -> "AdaptedSystems":
        """Some of the systems."""
        own = {name: value[tasks] for name, value in self.parameters.items()}
        forces = None if self.forces is None else self.forces[tasks]
        return AdaptedSystems(self.net, own, self.scale[tasks], forces)

    def first(self, count: int) -> "AdaptedSystems":
        """`count` of the systems, evenly chosen."""
        return self.some(slice(None, None, max(1, len(self.scale) // count)))

    def field(
        self, x: Float[Tensor, "tasks points state"], t: Float[Tensor, "tasks points"] | None = None
    ) -> Float[Tensor, "tasks points state"]:
        """dx/dt; each system at its own states. Angles are wrapped into the domain.

        **Arguments:** `t`: the times, where inputs act; without them there is friction alone.
        """
        return self._field(self.net.domain.wrap(x), t)

    def _field(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            size = max(1, (_ON_GPU if x.is_cuda else _CHUNK) // x.shape[1])
            fields = [self._unscaled_field(x, slice(i, i + size)) for i in range(0, len(x), size)]
            field = self.scale[:, None, None] * torch.cat(fields)
            if self.forces is None:
                return field
            dq, dp = field.chunk(2, dim=-1)
            return torch.cat([dq, dp + self.forces(dq, t)], dim=-1)

    def _unscaled_field(self, x: Tensor, tasks: slice) -> Tensor:
        return self.net.field_with({name: value[tasks] for name, value in self.parameters.items()}, x[tasks])

    def energy(self, x: Float[Tensor, "tasks points state"]) -> Float[Tensor, "tasks points"]:
        """The learned energies, each up to a constant. Angles are wrapped into the domain.

        **Raises:** `TypeError` if the network has none.
        """
        with torch.no_grad():
            return self.scale[:, None] * self.net.energy_with(self.parameters, self.net.domain.wrap(x))

    def rollout(
        self,
        x0: Float[Tensor, "tasks state"],
        t: Float[Tensor, " instants"],
        tolerance: float = _BATCH_TOLERANCE,
        steps: float = _BATCH_STEPS,
    ) -> Orbits:
        """One orbit of each system, which ends where it leaves twice the box of the domain; angles may go round.

        **Arguments:**

        - `x0`: a state of each system at `t[0]`.
        - `t`: increasing times; where inputs act, in their time.
        - `tolerance`: relative and absolute error of a step.
        - `steps`: an orbit that takes more of them ends where it is.
        """

        def law(rows: _Rows) -> _Law:
            some = self.some(rows)
            return lambda x, t: some.field(x[:, None], t)[:, 0]

        return self._solve(law, x0, t, tolerance, steps)

    def _solve(self, law: Callable[[_Rows], _Law], x0: Tensor, t: Tensor, tolerance: float, steps: float) -> Orbits:
        """Follows orbits; where inputs act, the time is one more coordinate.

        **Arguments:** `law`: gives the fields at the states, and times, of some of the orbits, by their rows.
        """
        domain = self.domain
        outside = functools.partial(domain.outside, reach=REACH)
        if self.forces is None or self.forces.signal is None:

            def alone(rows: _Rows) -> Field:
                own = law(rows)
                return lambda x: own(x, None)

            return solve(alone(slice(None)), x0, t, outside, tolerance, steps, domain.sizes, some=alone)

        def with_time(rows: _Rows) -> Field:
            own = law(rows)
            return lambda y: torch.cat([own(y[:, :-1], y[:, -1:]), torch.ones_like(y[:, -1:])], dim=-1)

        start = torch.cat([x0, t[:1].to(x0).expand(len(x0), 1)], dim=-1)
        sizes = (*domain.sizes, math.inf)  # the time has no error
        orbits = solve(
            with_time(slice(None)),
            start,
            t,
            lambda y: outside(y[..., :-1]),
            tolerance,
            steps,
            sizes,
            self.forces.signal.t,
            some=with_time,
        )
        return orbits._replace(states=orbits.states[..., :-1])

    def rollout_in_box(self, x0: Float[Tensor, "tasks state"], t: Float[Tensor, " instants"]) -> Orbits:
        """One orbit of each system by the protocol of the tests, whose figures are compared over years.

        Angles are like lengths: not wrapped, and frozen at twice the box. The solver is torchdiffeq's.
        """
        outside = functools.partial(self.net.domain.outside, reach=REACH, angles=True)
        return integrate(
            lambda x: self._field(x[:, None])[:, 0], x0, t, outside, _BATCH_TOLERANCE, self.net.domain.sizes
        )


class Adapted:
    """One adapted system: its vector field, its energy and its orbits.

    Everything is computed in float64; results have the dtype of the states given.
    """

    def __init__(self, systems: AdaptedSystems):
        """**Arguments:** `systems`: a batch of one, in float64."""
        self.systems = systems

    @property
    def has_energy(self) -> bool:
        """Whether the network has an energy, so that `energy` may be called."""
        return self.systems.net.has_energy

    @property
    def domain(self) -> Domain:
        """Where its states live."""
        return self.systems.domain

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The adapted weights by name, without a task dimension."""
        return {name: value[0] for name, value in self.systems.parameters.items()}

    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """dx/dt at the states x, shape `[..., 2n]`, with friction and without inputs."""
        return self.systems.field(self._points(x))[0].reshape(x.shape).to(x.dtype)

    def energy(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch"]:
        """The energy at the states x, zero at its minimum over the domain.

        **Raises:** `TypeError` if the network predicts dx/dt directly.
        """
        return (self._energy(x) - self.lowest_energy).to(x.dtype)

    def rollout(
        self, x0: Float[Tensor, "state"] | Float[Tensor, "orbits state"], t: Float[Tensor, " instants"]
    ) -> Float[Tensor, "instants state"] | Float[Tensor, "instants orbits state"]:
        """Orbits from the given states, at a relative tolerance of 1e-10 (Dormand-Prince).

        Angles are not wrapped in what is returned: a pendulum that goes over the top goes on counting.

        **Arguments:**

        - `x0`: the state at `t[0]`, `[2n]`, or those of B orbits, `[B, 2n]`.
        - `t`: increasing times `[S]`, in the units of the observed dx/dt.

        **Returns:**

        The states `[S, 2n]` or `[S, B, 2n]`. An orbit that leaves twice the box of the domain stays where it left, and
        a [`StoppedOrbitWarning`][] says when that was and why; [`orbits`][] says it as numbers.
        """
        orbits = self.orbits(x0.reshape(-1, x0.shape[-1]), t)
        if orbits.diverged.any():
            which = int(orbits.diverged.nonzero()[0])
            others = int(orbits.diverged.sum()) - 1
            warnings.warn(
                f"the orbit ends at t = {orbits.until[which].item():.4g} of {t[-1].item():.4g}: "
                f"{orbits.reasons[which]}" + (f"; {others} more end too" if others else ""),
                StoppedOrbitWarning,
                stacklevel=2,
            )
        return orbits.states.reshape(len(t), *x0.shape).to(x0.dtype)

    def orbits(
        self, x0: Float[Tensor, "orbits state"], t: Float[Tensor, " instants"], tolerance: float = _USER_TOLERANCE
    ) -> Orbits:
        """Orbits from the given states, in float64, with the time until which each is known."""
        law: _Law = lambda x, t: self.systems.field(x[None], None if t is None else t.mT)[0]  # noqa: E731
        return self.systems._solve(lambda rows: law, x0.double(), t.double(), tolerance, _USER_STEPS)

    def _points(self, x: Tensor) -> Tensor:
        return x.double().reshape(1, -1, x.shape[-1])

    def _energy(self, x: Tensor) -> Tensor:
        return self.systems.energy(self._points(x))[0].reshape(x.shape[:-1])

    @functools.cached_property
    def lowest_energy(self) -> Float[Tensor, ""]:
        """The smallest network output in the domain, scaled: the lowest of many points, polished with L-BFGS-B."""
        domain = self.domain
        grid = domain.grid(_PER_AXIS).to(self.systems.scale.device)
        values = self._energy(grid)

        def energy_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
            state = torch.from_numpy(x).to(grid).requires_grad_()
            with torch.enable_grad():
                wrapped = self.systems.net.domain.wrap(state[None, None])
                energy = self.systems.scale * self.systems.net.energy_with(self.systems.parameters, wrapped)
                (gradient,) = torch.autograd.grad(energy.sum(), state)
            return energy.item(), gradient.cpu().numpy()

        polished = scipy.optimize.minimize(
            energy_and_gradient,
            grid[values.argmin()].cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 1e-16, "gtol": 1e-10},  # by default digits of H are lost where its constant is large
            bounds=[(c.low, c.high) for c in domain.coordinates],
        )
        lowest = values.min()
        if domain.excluded(torch.from_numpy(polished.x)):  # it slid into a singularity
            return lowest
        return torch.minimum(lowest, torch.as_tensor(polished.fun).to(values))
