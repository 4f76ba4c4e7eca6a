"""Members of several families in one box."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.basics.registry import register, registered, subclasses
from meta_hamiltonian.config import ConfigError, check_arguments
from meta_hamiltonian.dynamics import Coordinate, Domain
from meta_hamiltonian.dynamics.domain import canonical_names
from meta_hamiltonian.systems.base import SimulatedSystem

# How many members, at how many states, tell whether a combination of parameters is linear in the field, and up to
# which error, relative to its spread.
_MEMBERS, _STATES, _LINEAR = 512, 32, 1e-6


@register
class Mixture(SimulatedSystem):
    """Systems whose laws differ in form, not only in their parameters: each is a member of one of several families.

    All families have the same number of degrees of freedom, and each is as likely. Member i is member i of its own
    family. A row of parameters is the place of the family in `of`, and then those of the member in its family, with
    zeros up to the length of the longest.

    The domain is the smallest box that holds those of all families. A coordinate keeps its name, kind and unit where
    all agree, else it is a length. What every family excludes is excluded; what only some exclude, their members do
    not admit, since orbits of the others may pass there.

    Test orbits are as long as the shortest horizon of the families: beyond its own a chaotic family cannot be
    predicted, and an initial state need not lead to an orbit in its domain.
    """

    def __init__(self, of: Sequence[str] = ("pendulum", "spring", "duffing")):
        """**Arguments:**

        - `of`: the names of different families, such as `two_body` for [`TwoBody`][], or `my_package.MyFamily` for one
            outside this package; they are registered, and made without arguments.
        """
        check_arguments(type(self), of=of)
        self.of = tuple(of)
        self.families = tuple(_family(name) for name in of)
        if len({family.domain.degrees_of_freedom for family in self.families}) > 1:
            found = (f"{name} has {f.domain.degrees_of_freedom}" for name, f in zip(of, self.families, strict=True))
            raise ConfigError(
                f"of={','.join(of)} is not allowed: give families with the same number of degrees of freedom; "
                f"{', '.join(found)}"
            )
        self.domain = _hull([family.domain for family in self.families])
        self.conserves_energy = all(family.conserves_energy for family in self.families)
        self.horizon = min(family.horizon for family in self.families)
        self.turns = any(family.turns for family in self.families)
        self.inputs = _common([family.inputs for family in self.families], "natural")
        longest = max(len(family.parameter_names) for family in self.families)
        names = [[*f.parameter_names, *(longest - len(f.parameter_names)) * [""]] for f in self.families]
        ranges = [[*f.parameter_ranges, *(longest - len(f.parameter_ranges)) * [(0.0, 0.0)]] for f in self.families]
        self.parameter_names = ("family", *("|".join(dict.fromkeys(column)) for column in zip(*names, strict=True)))
        self.parameter_ranges = (
            (0.0, len(of) - 1.0),
            *((min(low for low, _ in ends), max(high for _, high in ends)) for ends in zip(*ranges, strict=True)),
        )

    @property
    def name(self) -> str:
        """For messages and figures."""
        return f"mixture of {', '.join(family.name for family in self.families)}"

    def kinds(self, parameters: Float[Tensor, "systems parameters"]) -> list[str]:
        """The name of each member's family, as in `of`."""
        return [self.of[int(index)] for index in self._index(parameters)]

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """The energy of each member in its own family."""
        return self._chosen(parameters, lambda family, own: family.hamiltonian(x, own)[..., None])[..., 0]

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """The vector field of each member in its own family."""
        return self._chosen(parameters, lambda family, own: family.field(x, own))

    def admits(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Bool[Tensor, "*batch"]:
        """What each member's own family admits and does not exclude."""

        def own_states(family: SimulatedSystem, own: Tensor) -> Tensor:
            return (family.admits(x, own) & ~family.domain.excluded(x))[..., None]

        return self._chosen(parameters, own_states)[..., 0]

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """The combinations of all families, 0 for members of others, as far as the Hamiltonian is linear in them.

        In a mixture of springs and Duffing oscillators it is not linear in the stiffness of the springs alone, since
        the others have q² in their energy too. The fields of many members tell whether it is.
        """
        return {name: value for name, value in self._united(parameters).items() if name in self._linear}

    @functools.cached_property
    def _linear(self) -> set[str]:
        """The combinations that are linear in the field: fitted to one half of the members, tried on the other."""
        parameters = self.sample_parameters(_MEMBERS, 0, "linear")
        x = self.domain.sobol(_STATES)
        x = x[self.admits(x, parameters[:, None]).all(0)]
        if not len(x):
            return set()
        fields = self.field(x, parameters[:, None]).flatten(1)
        half = _MEMBERS // 2
        found = set()
        for name, value in self._united(parameters).items():
            fit = torch.linalg.lstsq(fields[:half], value[:half, None], rcond=1e-12, driver="gelsd").solution[:, 0]
            if (fields[half:] @ fit - value[half:]).abs().max() <= _LINEAR * value.std():
                found.add(name)
        return found

    def _united(self, parameters: Float[Tensor, "systems parameters"]) -> dict[str, Float[Tensor, " systems"]]:
        united: dict[str, Tensor] = {}
        for own, rows, family in self._members(parameters):
            for name, value in family.linear_parameters(own).items():
                united.setdefault(name, parameters.new_zeros(len(parameters)))[rows] = value
        return united

    def sample_parameters(
        self, tasks: int | range, seed: int, split: str = "train"
    ) -> Float[Tensor, "tasks parameters"]:
        """Draws a family for each system, and its parameters from the prior of that; arguments as for any family."""
        tasks = tasks if isinstance(tasks, range) else range(tasks)
        unit = uniform(seed, (split, "family"), tasks, (1, 1))[:, 0, 0]
        index = (len(self.of) * unit).floor()
        drawn = torch.zeros(len(tasks), len(self.parameter_names), dtype=torch.float64)
        drawn[:, 0] = index
        for place, family in enumerate(self.families):
            own = family.sample_parameters(tasks, seed, split)
            drawn[:, 1 : 1 + own.shape[1]] += torch.where((index == place)[:, None], own, 0.0)
        return drawn

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """Initial states of each member's own family.

        Another state is drawn where an orbit leaves the domain, as one does that goes round in an angle which here is a
        length.
        """
        parameters = parameters.double()
        x0 = parameters.new_zeros(len(parameters), self.state_dim)
        for own, rows, family in self._members(parameters):
            x0[rows] = family.sample_initial_states(own, seed, split)
        if all(self._may_turn_as_in(family) for family in self.families):
            return x0
        return self._searched(x0, ~self._stays(x0[:, None], parameters)[:, 0], parameters, seed, split)

    def _may_turn_as_in(self, family: SimulatedSystem) -> bool:
        """Whether all angles may go round that do so in the family."""
        pairs = zip(self.domain.coordinates, family.domain.coordinates, strict=True)
        return not family.turns or all(here.turns or not there.turns for here, there in pairs)

    def orbit(
        self,
        x0: Float[Tensor, "systems state"],
        parameters: Float[Tensor, "systems parameters"],
        t: Float[Tensor, " instants"],
    ) -> Float[Tensor, "instants systems state"]:
        """The true orbits, those of each member's own family; arguments and errors as for any family."""
        states = x0.double().expand(len(t), *x0.shape).clone()
        for own, rows, family in self._members(parameters):
            states[:, rows] = family.orbit(x0[rows], own, t)
        return states

    def _index(self, parameters: Float[Tensor, "*batch parameters"]) -> Float[Tensor, "*batch"]:
        """The place of each member's family; the nearest one where a fit asks for what lies between."""
        return parameters[..., 0].round().clamp(0, len(self.of) - 1)

    def _members(self, parameters: Float[Tensor, "systems parameters"]) -> list[tuple[Tensor, Tensor, SimulatedSystem]]:
        """For each family that has members: their own parameters, which systems they are, and the family."""
        index = self._index(parameters)
        rows = [(index == place).nonzero()[:, 0] for place in range(len(self.of))]
        return [
            (parameters[own, 1 : 1 + len(family.parameter_names)], own, family)
            for own, family in zip(rows, self.families, strict=True)
            if len(own)
        ]

    def _chosen(
        self,
        parameters: Float[Tensor, "*systems parameters"],
        of_family: Callable[[SimulatedSystem, Float[Tensor, "*systems own"]], Shaped[Tensor, "*batch values"]],
    ) -> Shaped[Tensor, "*batch values"]:
        """What `of_family` says of each member's own family.

        All families are asked about all members, which keeps every shape and can be differentiated and mapped. In the
        place of members that are not its own a family is given typical ones, so that none divides by 0.
        """
        index = self._index(parameters)[..., None]
        found = None
        for place, family in enumerate(self.families):
            here = index == place
            typical = parameters.new_tensor(family.parameter_ranges).mean(-1)
            value = of_family(family, torch.where(here, parameters[..., 1 : 1 + len(typical)], typical))
            found = value if found is None else torch.where(here, value, found)
        assert found is not None
        return found


def family_names() -> dict[str, type[SimulatedSystem]]:
    """The registered families that are made without arguments, by their names; this package's own before others."""
    package = __name__.partition(".")[0]
    families = [cls for cls in subclasses(SimulatedSystem) if _is_family(cls)]
    own = [cls for cls in families if cls.__module__.startswith(f"{package}.")]
    return {snake_case(cls.__name__): cls for cls in (*families, *own)}


def _is_family(cls: type) -> TypeGuard[type[SimulatedSystem]]:
    """Whether it is one that is made without arguments, and no mixture."""
    if not issubclass(cls, SimulatedSystem) or issubclass(cls, Mixture):
        return False
    arguments = inspect.signature(cls).parameters.values()
    return all(a.default is not a.empty or a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for a in arguments)


def snake_case(name: str) -> str:
    """`two_body` for `TwoBody`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _family(name: str) -> SimulatedSystem:
    known = family_names()
    named = registered(name) if "." in name else known.get(name)
    if named is None or not _is_family(named):
        raise ConfigError(
            f"of={name} is not allowed: choose from {', '.join(sorted(known))}, or give the full name of a family of "
            "your own, whose module is imported before (--import on the command line)"
        )
    return named()


def _common(values: Sequence[str], otherwise: str) -> str:
    return values[0] if len(set(values)) == 1 else otherwise


def _hull(domains: Sequence[Domain]) -> Domain:
    """The smallest box that holds all of them."""
    columns = list(zip(*(domain.coordinates for domain in domains), strict=True))
    same_names = len({domain.names for domain in domains}) == 1
    names = domains[0].names if same_names else canonical_names(len(columns))
    return Domain(
        tuple(
            Coordinate(
                name,
                min(c.low for c in column),
                max(c.high for c in column),
                _common([c.kind for c in column], "length"),
                _common([c.unit for c in column], ""),
            )
            for name, column in zip(names, columns, strict=True)
        ),
        tuple(e for e in domains[0].exclusions if all(e in domain.exclusions for domain in domains)),
        _common([domain.time_unit for domain in domains], ""),
        _common([domain.energy_unit for domain in domains], ""),
        _common([domain.lattice for domain in domains], ""),
    )
