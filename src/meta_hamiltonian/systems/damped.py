"""A family with friction."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import ConfigError, check_arguments
from meta_hamiltonian.dynamics.friction import FRICTION
from meta_hamiltonian.systems.base import Resistance, SimulatedSystem

# How far v may be from a linear function of p for the mass to count as constant.
_CONSTANT = 1e-9
_TRIED = 16


@register
class Damped(SimulatedSystem):
    """Another family whose members lose energy to friction, with one more parameter: the coefficient d.

    dq/dt = ∂H/∂p and dp/dt = −∂H/∂q − d ∂R/∂v, with the velocities v = ∂H/∂p and the Rayleigh function R of
    [`FRICTION`][]. The coefficient is uniform between two values of at least 0, so that along every orbit
    dH/dt = −d v · ∂R/∂v ≤ 0. Energy, domain and horizon are those of the family without friction.

    ??? cite "Reference"

        Goldstein, Poole, Safko: Classical mechanics, 3rd edition, section 1.5.
    """

    conserves_energy = False

    def __init__(
        self,
        system: SimulatedSystem,
        friction: str = "viscous",
        low: float = 0.0,
        high: float = 0.3,
        width: float = 0.05,
    ):
        """**Arguments:**

        - `system`: the family without friction.
        - `friction`: its kind, viscous, quadratic or dry.
        - `low`, `high`: the range of its coefficient, 0 ≤ low < high.
        - `width`: the speed below which dry friction is smoothed, above 0.
        """
        check_arguments(type(self), friction=friction, low=low, high=high, width=width)
        if not low < high:
            raise ConfigError(f"high={high:g} is not allowed with low={low:g}: give a high above low")
        self.system = system
        self.width = width
        self.friction = FRICTION[friction]
        self.resistance = Resistance(friction, width, system.domain.degrees_of_freedom)
        self.parameter_names = (*system.parameter_names, "d")
        self.parameter_ranges = (*system.parameter_ranges, (low, high))
        self.domain = system.domain
        self.horizon = system.horizon
        self.turns = system.turns
        self.inputs = system.inputs

    @property
    def name(self) -> str:
        """For messages and figures."""
        assert self.resistance is not None
        return f"{self.system.name} with {self.resistance.kind} friction"

    @property
    def lowest_parameters(self) -> tuple[float, ...]:
        """0 for the coefficient: friction takes energy out."""
        return (*self.system.lowest_parameters, 0.0)

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """The energy, that of the family without friction."""
        return self.system.hamiltonian(x, parameters[..., :-1])

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """The field of the family without friction, less d ∂R/∂v in dp/dt."""
        v, force = self.system.field(x, parameters[..., :-1]).chunk(2, dim=-1)
        return torch.cat([v, force - parameters[..., -1:] * self.friction.force(v, self.width)], dim=-1)

    def admits(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Bool[Tensor, "*batch"]:
        """The states of the member without friction."""
        return self.system.admits(x, parameters[..., :-1])

    def kinds(self, parameters: Float[Tensor, "systems parameters"]) -> list[str]:
        """The kinds of the family without friction."""
        return self.system.kinds(parameters[..., :-1])

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """The combinations of the family without friction, and the coefficient of friction as a function of momenta.

        With a constant mass M, so that v = p / M, viscous friction is d/M times p, quadratic friction d/M² times
        p |p|, and dry friction d times the sign of p. Where the mass changes with the state there is no such number.
        """
        own, d = parameters[..., :-1], parameters[..., -1]
        found = self.system.linear_parameters(own)
        if (mass := self._mass(own)) is None:
            return found
        assert self.resistance is not None
        assert self.resistance.kind is not None
        name, power = {"viscous": ("d/M", 1), "quadratic": ("d/M²", 2), "dry": ("d", 0)}[self.resistance.kind]
        return found | {name: d / mass**power}

    def _mass(self, own: Float[Tensor, "systems parameters"]) -> Float[Tensor, " systems"] | None:
        """p / v, the same for all states and degrees of freedom; None where it is not."""
        x = self.sample_states(own, 0, ("mass",), range(len(own)), _TRIED)
        v, p = self.system.field(x, own[:, None]).chunk(2, dim=-1)[0], x.chunk(2, dim=-1)[1]
        masses = (p / v).flatten(1)
        first = masses[:, :1]
        return first[:, 0] if ((masses - first).abs() <= _CONSTANT * first.abs()).all() else None

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """Initial states of the family without friction, and others where friction leads an orbit out of the domain.

        In one degree of freedom it never does: the orbit stays inside the one that it would be without friction.
        """
        parameters = parameters.double()
        x0 = self.system.sample_initial_states(parameters[..., :-1], seed, split)
        stays = self._stays(x0[:, None], parameters)[:, 0]
        return self._searched(x0, ~stays, parameters, seed, split)
