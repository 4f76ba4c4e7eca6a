"""What every family of physical systems provides."""

import abc
import functools
import math
from typing import ClassVar, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.dynamics import Domain, Field, autograd_field, reference_orbits, solve

# Relative tolerance of the true orbits.
_TRUE = 1e-12
# Candidates for an initial state are followed at the first tolerance, the chosen one again at the second, since orbits
# of a chaotic family differ. Both stay in this part of the domain.
_TRIAL, _CONFIRMED, _INSIDE = 1e-5, 1e-7, 0.999
# So many candidates are tried at a time: in the first rounds from the whole domain, then from ever smaller parts of it.
_CANDIDATES, _FROM_THE_WHOLE, _ROUNDS, _SMALLER = 16, 6, 14, 0.8
# How long test orbits are where a family does not say, and from how many members and states a period is estimated.
_PERIODS, _MEMBERS, _STATES = 10, 64, 64


class Resistance(NamedTuple):
    """The friction that takes energy out of a family, as far as its kind is known.

    - `kind`: a key of `FRICTION`; None where a network is to learn it.
    - `width`: the speed below which dry friction is smoothed.
    - `damped`: the number of degrees of freedom that it acts on, the first ones.
    """

    kind: str | None
    width: float
    damped: int


class System(abc.ABC):
    """A family of systems with n degrees of freedom, with or without a known law.

    States are canonical coordinates x = (q₁ … qₙ, p₁ … pₙ).
    """

    domain: Domain
    """Where its states live: the box, names, units, and what is excluded."""

    domain_from_data: ClassVar[bool] = False
    """Whether the domain is an argument of the class, which recordings or a checkpoint tell."""

    inputs: str = "natural"
    """What a network is given of a state, unless `model.inputs` says otherwise: `"raw"`, coordinates in units of the
    box; or `"natural"`, angles as cosine and sine, the distance to what is excluded, and neighbours of a lattice."""

    degree: int = 2
    """Up to which degree products of positions and momenta are features of a head that is solved for. Those of three
    and more are for recorded families: simulated ones have enough points for hidden units to learn such terms."""

    @property
    def name(self) -> str:
        """For messages and figures."""
        return type(self).__name__

    @property
    def state_box(self) -> tuple[float, ...]:
        """Half-widths of the box in which states are observed, length 2n."""
        return self.domain.half_widths

    @property
    def state_dim(self) -> int:
        """2n."""
        return self.domain.state_dim


class SimulatedSystem(System):
    """A family whose Hamiltonian is known; its members differ in their parameters.

    To add a family, write `domain`, `parameter_names`, `parameter_ranges` and `hamiltonian` in one file, and register
    the class with [`register`][]. Everything else has a default; override `field` where a closed form is faster, and
    `horizon` and `sample_initial_states` where the family has better ones.
    """

    parameter_names: tuple[str, ...]
    """The physical parameters, in the order of the last dimension of every `parameters`."""

    parameter_ranges: tuple[tuple[float, float], ...]
    """The prior: each parameter is uniform between these two values."""

    @property
    def lowest_parameters(self) -> tuple[float, ...]:
        """The least value of each parameter in a fit, whatever the prior: −∞, unless a family says otherwise."""
        return (-math.inf,) * len(self.parameter_names)

    conserves_energy: bool = True
    """Whether the field follows from the Hamiltonian alone; else a network needs a dissipation beside its energy."""

    resistance: Resistance | None = None
    """The friction of a family that does not conserve energy, where its kind is known."""

    turns: bool = False
    """Whether angles of true orbits may go round and round, where the box lets them; else they are bounded."""

    @abc.abstractmethod
    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """The energy H(x).

        **Arguments:**

        - `x`: states, shape `[..., 2n]`.
        - `parameters`: shape `[..., len(parameter_names)]`; the leading dimensions broadcast
            with those of `x`, so K states of each of T systems go with `parameters[:, None]`.
        """

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """The vector field dx/dt = Ω ∇ₓH(x), equation (1), by automatic differentiation.

        Arguments as for `hamiltonian`.
        """
        leading = torch.broadcast_shapes(x.shape[:-1], parameters.shape[:-1])
        return autograd_field(lambda x: self.hamiltonian(x, parameters), x.expand(*leading, x.shape[-1]))

    def _typical_horizon(self) -> float:
        """About ten typical periods, one significant digit.

        A period is estimated as 2π times the size of the states over that of their rates, both in units of the box
        and as medians over members of the family: exact for a harmonic oscillator in a box of its own proportions.
        """
        parameters = self.sample_parameters(_MEMBERS, seed=0, split="horizon")
        x = self.sample_states(parameters, 0, ("horizon", "states"), range(_MEMBERS), _STATES)
        half, centre = (torch.tensor(v, dtype=torch.float64) for v in (self.domain.half_widths, self.domain.centre))
        sizes = ((x - centre) / half).norm(dim=-1)
        speeds = (self.field(x, parameters[:, None]) / half).norm(dim=-1)
        period = 2 * math.pi * (sizes / speeds).quantile(0.5).item()
        digit = 10.0 ** math.floor(math.log10(_PERIODS * period))
        return round(_PERIODS * period / digit) * digit

    horizon: float = cast(float, functools.cached_property(_typical_horizon))
    """How long test orbits are: a number of the family's own, else about ten typical periods."""

    def admits(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Bool[Tensor, "*batch"]:
        """Which states of the domain a member may be observed in: all of them, unless a family says otherwise."""
        leading = torch.broadcast_shapes(x.shape[:-1], parameters.shape[:-1])
        return torch.ones(leading, dtype=torch.bool, device=x.device)

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """By name, the combinations of parameters that the Hamiltonian is linear in; empty where none are known."""
        return {}

    def kinds(self, parameters: Float[Tensor, "systems parameters"]) -> list[str]:
        """The name of each member's kind, where a family has several: their errors are reported apart."""
        return [self.name] * len(parameters)

    def sample_parameters(
        self, tasks: int | range, seed: int, split: str = "train"
    ) -> Float[Tensor, "tasks parameters"]:
        """Draws systems from the prior.

        **Arguments:**

        - `tasks`: how many systems, or a range of task indices: system i of a split is a
            function of `(seed, split, i)` alone.
        - `seed`: at least 0.
        - `split`: any name; systems of different splits are independent.

        **Returns:**

        Parameters of shape `[tasks, len(parameter_names)]`, float64.
        """
        tasks = tasks if isinstance(tasks, range) else range(tasks)
        unit = uniform(seed, (split, "parameters"), tasks, (1, len(self.parameter_names)))
        low, high = torch.tensor(self.parameter_ranges, dtype=torch.float64).T
        return low + (high - low) * unit[:, 0]

    def sample_states(
        self,
        parameters: Float[Tensor, "tasks parameters"],
        seed: int,
        labels: tuple[str | int, ...],
        tasks: range,
        count: int,
    ) -> Float[Tensor, "tasks points state"]:
        """Random states of the domain that each system admits, where its parameters are; arguments as for
        [`Domain.draw`][]."""
        return self.domain.draw(
            seed, labels, tasks, count, lambda x: self.admits(x, parameters[:, None]), parameters.device
        )

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One initial state for each system, whose true orbit stays inside the domain for the horizon.

        Candidates are drawn until one does, from the whole domain at first and then from ever smaller parts of it
        around its centre. Angles are bounded too, so that a family of pendulums swings.

        **Raises:** `ValueError` where no candidate does; such a family needs initial states of its own.
        """
        parameters = parameters.double()
        found = torch.zeros(len(parameters), self.state_dim, dtype=torch.float64, device=parameters.device)
        everywhere = torch.ones(len(parameters), dtype=torch.bool, device=parameters.device)
        return self._searched(found, everywhere, parameters, seed, split)

    def _searched(
        self,
        found: Float[Tensor, "systems state"],
        missing: Bool[Tensor, " systems"],
        parameters: Float[Tensor, "systems parameters"],
        seed: int,
        split: str,
    ) -> Float[Tensor, "systems state"]:
        """The states found already, and new ones where they are missing; `sample_initial_states` says how."""
        centre = torch.tensor(self.domain.centre, dtype=torch.float64, device=parameters.device)
        found, left = found.clone(), missing.nonzero()[:, 0]
        if not len(left):
            return found
        for attempt in range(_ROUNDS):
            labels = (split, "initial", attempt)
            drawn = self.sample_states(parameters, seed, labels, range(len(parameters)), _CANDIDATES)
            x0 = centre + _SMALLER ** max(0, attempt + 1 - _FROM_THE_WHOLE) * (drawn[left] - centre)
            good = self._stays(x0, parameters[left], _TRIAL)
            while (some := good.any(-1)).any():
                rows = some.nonzero()[:, 0]
                first = good[rows].long().argmax(-1)
                chosen = x0[rows, first]
                stays = self._stays(chosen[:, None], parameters[left[rows]])[:, 0]
                found[left[rows[stays]]] = chosen[stays]
                good[rows, first] = False
                kept = torch.ones(len(left), dtype=torch.bool, device=left.device)
                kept[rows[stays]] = False
                left, x0, good = left[kept], x0[kept], good[kept]
            if not len(left):
                return found
        named = zip(self.parameter_names, parameters[left[0]].tolist(), strict=True)
        values = ", ".join(f"{name}={value:.3g}" for name, value in named)
        raise ValueError(
            f"{_ROUNDS * _CANDIDATES} states were tried for {self.name} with {values}, and no orbit stays in its "
            f"domain for {self.horizon:g} time units; write sample_initial_states for it, or choose a shorter horizon"
        )

    def _stays(
        self,
        x0: Float[Tensor, "systems candidates state"],
        parameters: Float[Tensor, "systems parameters"],
        tolerance: float = _CONFIRMED,
    ) -> Bool[Tensor, "systems candidates"]:
        """Whose orbits stay inside the domain for the horizon."""
        own = parameters.repeat_interleave(x0.shape[1], dim=0)
        flat = x0.flatten(0, 1)
        t = torch.tensor([0.0, self.horizon], dtype=torch.float64, device=x0.device)
        outside = functools.partial(self.domain.outside, reach=_INSIDE, angles=not self.turns)

        def some(rows: slice | Int[Tensor, " some"]) -> Field:
            of_these = own[rows]
            return lambda x: self.field(x, of_these)

        orbits = solve(some(slice(None)), flat, t, outside, tolerance, sizes=self.domain.sizes, some=some)
        return (~orbits.diverged & ~outside(flat) & self.admits(flat, own)).unflatten(0, x0.shape[:2])

    def orbit(
        self,
        x0: Float[Tensor, "systems state"],
        parameters: Float[Tensor, "systems parameters"],
        t: Float[Tensor, " instants"],
    ) -> Float[Tensor, "instants systems state"]:
        """The true orbits, integrated in float64 at a relative tolerance of 1e-12, however short the steps.

        **Arguments:**

        - `x0`: initial states, one a system.
        - `parameters`: one row a system.
        - `t`: increasing times; `x0` is the state at `t[0]`.

        **Raises:** `ValueError` where an orbit runs into a singularity.
        """
        x0, parameters = x0.double(), parameters.double()
        return reference_orbits(lambda x: self.field(x, parameters), x0, t, _TRUE, self.domain.sizes)
