"""A family that is driven by a sinusoidal force."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import ConfigError, check_arguments
from meta_hamiltonian.dynamics import Coordinate, Domain, Exclusion
from meta_hamiltonian.systems.base import SimulatedSystem

# The box of the action holds so many times what a force of the largest amplitude moves it by in a slow period.
_ACTIONS = 2.0


@register
class Driven(SimulatedSystem):
    """Another family whose first coordinate is pushed by a force A cos φ, with dφ/dt = ω: two more parameters.

    A force that depends on time makes an autonomous family of one more degree of freedom: the phase φ, an angle, and
    its action I. With

    H(q, φ, p, I) = H(q, p) + ω I − A q₁ cos φ

    equation (1) is dp₁/dt = −∂H/∂q₁ + A cos φ, dφ/dt = ω and dI/dt = −A q₁ sin φ. This energy is conserved: what the
    force brings in, the action pays for. Friction of the family acts on its own degrees of freedom alone, and takes
    energy out of this one too.

    ??? cite "Reference"

        Lichtenberg, Lieberman: Regular and chaotic dynamics. Springer, 1992, section 1.2b (the extended phase space).
    """

    turns = True

    def __init__(
        self,
        system: SimulatedSystem,
        low: float = 0.1,
        high: float = 1.0,
        slowest: float = 0.5,
        fastest: float = 2.0,
    ):
        """**Arguments:**

        - `system`: the family without the force; it may have friction.
        - `low`, `high`: the range of the amplitude A, 0 ≤ low < high.
        - `slowest`, `fastest`: the range of the frequency ω, 0 < slowest < fastest.
        """
        check_arguments(type(self), low=low, high=high, slowest=slowest, fastest=fastest)
        for names, ends in (("low high", (low, high)), ("slowest fastest", (slowest, fastest))):
            one, other = names.split()
            if not ends[0] < ends[1]:
                raise ConfigError(
                    f"{other}={ends[1]:g} is not allowed with {one}={ends[0]:g}: give a {other} above {one}"
                )
        self.system = system
        self.n = system.domain.degrees_of_freedom
        self.conserves_energy = system.conserves_energy
        self.resistance = system.resistance
        self.parameter_names = (*system.parameter_names, "A", "ω")
        self.parameter_ranges = (*system.parameter_ranges, (low, high), (slowest, fastest))
        reach = max(abs(end) for end in (system.domain.coordinates[0].low, system.domain.coordinates[0].high))
        self.domain = _with_phase(system.domain, _ACTIONS * high * reach / slowest)
        self.horizon = system.horizon
        self.inputs = system.inputs

    @property
    def name(self) -> str:
        """For messages and figures."""
        return f"driven {self.system.name}"

    @property
    def lowest_parameters(self) -> tuple[float, ...]:
        """The bounds of the family without the force; amplitude and frequency of the force may have either sign."""
        return (*self.system.lowest_parameters, -math.inf, -math.inf)

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) + ω I − A q₁ cos φ."""
        inner, phase, action = self._split(x)
        amplitude, frequency = parameters[..., -2:].unbind(-1)
        energy = self.system.hamiltonian(inner, parameters[..., :-2])
        return energy + frequency * action - amplitude * inner[..., 0] * phase.cos()

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """The field of the family itself, the force in dp₁/dt, and that of phase and action."""
        inner, phase, _ = self._split(x)
        amplitude, frequency = parameters[..., -2:].unbind(-1)
        dq, dp = self.system.field(inner, parameters[..., :-2]).chunk(2, dim=-1)
        dphase = frequency.expand(dq.shape[:-1])
        push, daction = amplitude * phase.cos(), -amplitude * inner[..., 0] * phase.sin()
        pushed = torch.cat([(dp[..., 0] + push)[..., None], dp[..., 1:]], dim=-1)
        return torch.cat([dq, dphase[..., None], pushed, daction.expand(dq.shape[:-1])[..., None]], dim=-1)

    def admits(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Bool[Tensor, "*batch"]:
        """The states in which the family without the force may be observed, at any phase and action."""
        return self.system.admits(self._split(x)[0], parameters[..., :-2])

    def kinds(self, parameters: Float[Tensor, "systems parameters"]) -> list[str]:
        """The kinds of the family without the force."""
        return self.system.kinds(parameters[..., :-2])

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """The combinations of the family without the force, and A and ω, in which the energy is linear."""
        amplitude, frequency = parameters[..., -2:].unbind(-1)
        return self.system.linear_parameters(parameters[..., :-2]) | {"A": amplitude, "ω": frequency}

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """Initial states of the family without the force, at a uniform phase and no action.

        Where the force leads an orbit out of the domain, another initial state is drawn.
        """
        parameters = parameters.double()
        q, p = self.system.sample_initial_states(parameters[..., :-2], seed, split).chunk(2, dim=-1)
        unit = uniform(seed, (split, "phase"), range(len(parameters)), (1, 1), q.device)[:, 0]
        phase = math.pi * (2 * unit - 1)
        x0 = torch.cat([q, phase, p, torch.zeros_like(phase)], dim=-1)
        stays = self._stays(x0[:, None], parameters)[:, 0]
        return self._searched(x0, ~stays, parameters, seed, split)

    def _split(self, x: Float[Tensor, "*batch state"]) -> tuple[Tensor, Tensor, Tensor]:
        """(q, p) of the family, φ and I."""
        n = self.n
        return torch.cat([x[..., :n], x[..., n + 1 : -1]], dim=-1), x[..., n], x[..., -1]


def _with_phase(domain: Domain, action: float) -> Domain:
    """The domain with the phase after the positions and the action after the momenta."""
    n = domain.degrees_of_freedom
    phase = Coordinate("phi", -math.pi, math.pi, "angle", "rad")
    momenta = (*domain.coordinates[n:], Coordinate("I", -action, action))

    def wider(row: Sequence[int | float]) -> tuple[int | float, ...]:
        return (*row[:n], 0, *row[n:], 0)

    return dataclasses.replace(
        domain,
        coordinates=(*domain.coordinates[:n], phase, *momenta),
        exclusions=tuple(
            Exclusion(tuple(wider(row) for row in e.matrix), e.centre, e.radius) for e in domain.exclusions
        ),
        singularities=tuple(
            dataclasses.replace(e, matrix=tuple(wider(row) for row in e.matrix)) for e in domain.singularities
        ),
    )
