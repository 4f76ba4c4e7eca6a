"""Where the states of a family live: the one place that knows a box, draws points, builds a grid or labels an axis."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.dynamics.inertia import KineticEnergies
from meta_hamiltonian.dynamics.space import Coordinate, Number, Space, canonical_names, labelled

LATTICES = ("", "ring")
# The number of points of a grid beyond one degree of freedom, whatever the dimension.
SOBOL_POINTS = 2500
# How often a point is drawn anew before the region is given up as too small.
_MOST_DRAWS = 1000
# A box is about as wide in every coordinate where the widest is at most so many times as wide as the narrowest.
_ALIKE = 10.0
# Rates of energies are in units of the box where they would be this far from 1 otherwise.
_FAR = 1e6


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """A ball that is left out of the box, such as around a singularity: the states with ‖M x − c‖ < r.

    - `matrix`: M, rows of 2n numbers; a single 1 in a row picks a coordinate, a 1 and a −1 compare two.
    - `centre`: c, one number a row.
    - `radius`: r.
    """

    matrix: tuple[tuple[Number, ...], ...]
    centre: tuple[Number, ...]
    radius: Number

    def __post_init__(self) -> None:
        if len(self.matrix) != len(self.centre) or not self.matrix or not 0 < self.radius < math.inf:
            raise ValueError(
                "an exclusion needs a row of its matrix for each number of its centre, and a radius above 0, got "
                f"{len(self.matrix)} rows, {len(self.centre)} numbers and radius {self.radius}"
            )

    @classmethod
    def around_zero(cls, coordinate: int, state_dim: int, radius: Number) -> "Exclusion":
        """The states in which one coordinate, such as a distance, is near 0."""
        return cls((tuple(float(i == coordinate) for i in range(state_dim)),), (0.0,), radius)

    @property
    def coordinate(self) -> int | None:
        """The coordinate whose size is the distance; None where it is another distance."""
        row, *others = self.matrix
        picks_one = row.count(1) == 1 and row.count(0) == len(row) - 1
        return row.index(1) if picks_one and not others and not any(self.centre) else None

    def distance(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch"]:
        """‖M x − c‖."""
        return (x @ x.new_tensor(self.matrix).mT - x.new_tensor(self.centre)).norm(dim=-1)


@dataclasses.dataclass(frozen=True)
class Singularity:
    """A singularity whose place differs from member to member, so that no fixed part of the box can be left out.

    Each member is observed at ‖M x − c‖ ≥ r, with a c of its own.

    - `matrix`: M, as in an [`Exclusion`][].
    - `centre`, `reach`: c lies anywhere between centre − reach and centre + reach, one number a row.
    - `radius`: r.
    """

    matrix: tuple[tuple[Number, ...], ...]
    centre: tuple[Number, ...]
    reach: tuple[Number, ...]
    radius: Number

    def __post_init__(self) -> None:
        sizes = {len(self.matrix), len(self.centre), len(self.reach)}
        if len(sizes) > 1 or not self.matrix or not 0 < self.radius < math.inf or not all(r > 0 for r in self.reach):
            raise ValueError(
                "a singularity needs a row of its matrix for each number of its centre and of its reach, and its reach "
                f"and radius must lie above 0, got {len(self.matrix)} rows, centre {self.centre}, reach {self.reach} "
                f"and radius {self.radius}"
            )


@dataclasses.dataclass(frozen=True)
class Domain(Space):
    """The region of states (q₁ … qₙ, p₁ … pₙ) in which a family is observed and learned.

    - `coordinates`: 2n of them, the positions first.
    - `exclusions`: what is left out of the box.
    - `time_unit`, `energy_unit`: for labels, empty where they are dimensionless.
    - `lattice`: `"ring"` where the degrees of freedom are like particles on a ring, in their order, each of which acts
        on its two neighbours alike; else empty.
    - `singularities`: those that no exclusion can keep away, since each member has them at another place.
    - `kinetic`: the mass matrices of the members, where momenta are not a constant times velocities and are found from
        these; else None.
    """

    coordinates: tuple[Coordinate, ...]
    exclusions: tuple[Exclusion, ...] = ()
    time_unit: str = ""
    energy_unit: str = ""
    lattice: str = ""
    singularities: tuple[Singularity, ...] = ()
    kinetic: KineticEnergies | None = None

    def __post_init__(self) -> None:
        _check_even(len(self.coordinates))
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"the names of the coordinates must differ, got {', '.join(self.names)}")
        for exclusion in self.exclusions:
            if any(len(row) != self.state_dim for row in exclusion.matrix):
                raise ValueError(f"the rows of an exclusion's matrix must have {self.state_dim} numbers each")
        if any(len(row) != self.state_dim for one in self.singularities for row in one.matrix):
            raise ValueError(f"the rows of a singularity's matrix must have {self.state_dim} numbers each")
        if self.lattice not in LATTICES:
            raise ValueError(f"lattice={self.lattice!r} is not known; choose 'ring', or leave it empty")
        if self.lattice and any(len({(c.low, c.high, c.kind) for c in half}) > 1 for half in self._halves):
            raise ValueError("the positions of a lattice must have one box and one kind, and so must its momenta")

    @classmethod
    def box(
        cls,
        ends: Mapping[str, tuple[Number, Number]] | Sequence[Number],
        angles: Sequence[str] = (),
        units: Mapping[str, str] | None = None,
        logarithms: Sequence[str] = (),
        **more: Any,
    ) -> "Domain":
        """A domain from the ends of its box.

        **Arguments:**

        - `ends`: the ends of each coordinate by name, positions first; or half-widths around 0, named q and p, or
            q1 … qn and p1 … pn.
        - `angles`: the names of those that are angles.
        - `units`: by name, where they are not dimensionless; angles are in rad.
        - `logarithms`: the names of those that are logarithms of positive quantities.
        - `more`: other arguments of a [`Domain`][].
        """
        if not isinstance(ends, Mapping):
            _check_even(len(ends))
            ends = {name: (-half, half) for name, half in zip(canonical_names(len(ends)), ends, strict=True)}
        if unknown := {*angles, *logarithms, *(units or {})} - set(ends):
            raise ValueError(f"{', '.join(sorted(unknown))} is no coordinate; choose from {', '.join(ends)}")
        units = dict.fromkeys(angles, "rad") | dict(units or {})
        kinds = dict.fromkeys(ends, "length") | dict.fromkeys(logarithms, "logarithm") | dict.fromkeys(angles, "angle")
        return cls(
            tuple(
                Coordinate(name, float(low), float(high), kinds[name], units.get(name, ""))
                for name, (low, high) in ends.items()
            ),
            **more,
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Domain":
        """The domain that a checkpoint keeps as plain values."""
        return cls(
            tuple(Coordinate(**coordinate) for coordinate in settings["coordinates"]),
            tuple(
                Exclusion(tuple(map(tuple, e["matrix"])), tuple(e["centre"]), e["radius"])
                for e in settings["exclusions"]
            ),
            settings["time_unit"],
            settings["energy_unit"],
            settings.get("lattice", ""),  # checkpoints of earlier versions have neither
            tuple(
                Singularity(tuple(map(tuple, e["matrix"])), tuple(e["centre"]), tuple(e["reach"]), e["radius"])
                for e in settings.get("singularities", ())
            ),
            KineticEnergies.from_settings(kept) if (kept := settings.get("kinetic")) else None,
        )

    def settings(self) -> dict[str, Any]:
        """The domain as plain values, for a checkpoint."""
        return dataclasses.asdict(self) | {"kinetic": None if self.kinetic is None else self.kinetic.settings()}

    @property
    def _halves(self) -> tuple[tuple[Coordinate, ...], tuple[Coordinate, ...]]:
        n = len(self.coordinates) // 2
        return self.coordinates[:n], self.coordinates[n:]

    @property
    def time_label(self) -> str:
        """`t` with its unit."""
        return labelled("t", self.time_unit)

    def duration(self, time: float) -> str:
        """A time in words, such as `20 time units`, or `20 s`."""
        return f"{time:g} {self.time_unit or 'time units'}"

    @property
    def energy_label(self) -> str:
        """`H` with its unit."""
        return labelled("H", self.energy_unit)

    @property
    def defines_momenta(self) -> bool:
        """Whether momenta were not recorded, but are M(q) dq/dt by definition, with mass matrices that motions tell."""
        return self.kinetic is not None and not self.kinetic.recorded

    @functools.cached_property
    def half_widths(self) -> tuple[float, ...]:
        """Half the length of the box along each coordinate."""
        return tuple((coordinate.high - coordinate.low) / 2 for coordinate in self.coordinates)

    @functools.cached_property
    def sizes(self) -> tuple[float, ...]:
        """The unit of the absolute error of each coordinate of an orbit: the half-widths, but at most 1."""
        return tuple(min(1.0, half) for half in self.half_widths)

    @functools.cached_property
    def error_scales(self) -> tuple[float, ...]:
        """The divisor of the error of each coordinate's rate where errors are added up, `[2n]`.

        In a box that is about as wide in every coordinate it is 1 for all, as equation (2) has it. In another box, such
        as one of millimetres and of kg m/s, the widest coordinate would decide alone: there it is the half-width,
        relative to the largest.
        """
        widest, narrowest = max(self.half_widths), min(self.half_widths)
        if widest <= _ALIKE * narrowest:
            return (1.0,) * self.state_dim
        return tuple(half / widest for half in self.half_widths)

    @functools.cached_property
    def energy_scale(self) -> float:
        """The unit of an energy whose rates, in units of [`error_scales`][], are about 1: 1 unless they would be so far
        from it that single precision does not hold their squares, as for a molecule in kilogrammes and metres.
        """
        n = self.degrees_of_freedom
        areas = [q * p for q, p in zip(self.half_widths[:n], self.half_widths[n:], strict=True)]
        size = min(areas) / max(self.half_widths)
        return 1.0 if 1 / _FAR < size < _FAR else size

    @functools.cached_property
    def centre(self) -> tuple[float, ...]:
        """The middle of the box."""
        return tuple((coordinate.high + coordinate.low) / 2 for coordinate in self.coordinates)

    def excluded(self, x: Float[Tensor, "*batch state"], reach: float = 1.0) -> Bool[Tensor, "*batch"]:
        """Which states lie in one of the exclusions, each with 1/reach of its radius."""
        found = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
        for exclusion in self.exclusions:
            found = found | (exclusion.distance(x) < exclusion.radius / reach)
        return found

    def outside(
        self, x: Float[Tensor, "*batch state"], reach: float = 1.0, angles: bool = False
    ) -> Bool[Tensor, "*batch"]:
        """Which states lie beyond `reach` boxes, or too near to what is excluded.

        **Arguments:** `angles`: whether the box bounds those angles too that may go round and round.
        """
        half = x.new_tensor(self.half_widths)
        if not angles:
            free = torch.tensor([coordinate.turns for coordinate in self.coordinates], device=x.device)
            half = half.masked_fill(free, math.inf)
        return ((x - x.new_tensor(self.centre)).abs() > reach * half).any(-1) | self.excluded(x, reach)

    def wrap(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """The same states with every angle that left the box at most half a turn from its centre.

        States inside the box stay as they are.
        """
        if not self._turn:
            return x
        half = x.new_tensor(self._turn)
        away = x - x.new_tensor(self.centre)
        turn = x.new_tensor(2 * math.pi)  # a Python number would be one of float32 in an exported program
        return torch.where(away.abs() > half, x - turn * (away / turn).round(), x)

    @functools.cached_property
    def _turn(self) -> tuple[float, ...]:
        """The half-widths of angles that may go round, infinite for other coordinates; empty without such angles."""
        found = [c.turns for c in self.coordinates]
        return tuple(h if turns else math.inf for h, turns in zip(self.half_widths, found, strict=True)) * any(found)

    def draw(
        self,
        seed: int,
        labels: tuple[str | int, ...],
        tasks: range,
        count: int,
        admits: Callable[[Float[Tensor, "tasks points state"]], Bool[Tensor, "tasks points"]] | None = None,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "tasks points state"]:
        """Random states of many tasks, uniform in the box without what is excluded, in float64.

        Point k of task i is a function of `(seed, labels, i, k)` alone.

        **Arguments:**

        - `seed`, `labels`, `tasks`: as for [`uniform`][].
        - `count`: points of each task.
        - `admits`: which states a task may have, where it may not have all of them; the others are drawn anew.
        - `device`: where they are drawn; the states are the same on all devices.

        **Raises:** `ValueError` if next to no state is allowed.
        """
        centre, half = (torch.tensor(v, dtype=torch.float64, device=device) for v in (self.centre, self.half_widths))

        def candidates(labels: tuple[str | int, ...]) -> tuple[Tensor, Tensor]:
            unit = uniform(seed, labels, tasks, (count, self.state_dim), device)
            x = centre + half * (2 * unit - 1)
            refused = self.excluded(x)
            return x, refused if admits is None else refused | ~admits(x)

        x, refused = candidates(labels)
        for again in range(1, _MOST_DRAWS):
            if not refused.any():
                return x
            others, refused_too = candidates((*labels, "again", again))
            x = torch.where((refused & ~refused_too).unsqueeze(-1), others, x)
            refused = refused & refused_too
        raise ValueError(f"{_MOST_DRAWS} draws found no state that is allowed; widen the box, or exclude less of it")

    def sobol(self, count: int) -> Float[Tensor, "points state"]:
        """`count` states, evenly spread over the box without what is excluded, the same at every call, in float64.

        ??? cite "Reference"

            Owen: Scrambling Sobol' and Niederreiter-Xing points. Journal of Complexity 14, 1998.
        """
        return _sobol(self, count)

    def grid(self, per_axis: int = 50) -> Float[Tensor, "points state"]:
        """States at which fields are compared, in float64.

        For one degree of freedom they are a grid of `per_axis` × `per_axis` points, whose edges are those of the box,
        without what is excluded. For several they are 2,500 points of [`sobol`][], whatever the dimension.
        """
        if self.degrees_of_freedom > 1:
            return self.sobol(SOBOL_POINTS)
        axes = [torch.linspace(c.low, c.high, per_axis, dtype=torch.float64) for c in self.coordinates]
        points = torch.cartesian_prod(*axes)
        return points[~self.excluded(points)]


@functools.lru_cache(maxsize=8)
def _sobol(domain: Domain, count: int) -> Tensor:
    engine = torch.quasirandom.SobolEngine(domain.state_dim, scramble=True, seed=0)
    centre, half = (torch.tensor(v, dtype=torch.float64) for v in (domain.centre, domain.half_widths))
    kept = torch.empty(0, domain.state_dim, dtype=torch.float64)
    for _ in range(_MOST_DRAWS):
        x = centre + half * (2 * engine.draw(count, dtype=torch.float64) - 1)
        kept = torch.cat([kept, x[~domain.excluded(x)]])
        if len(kept) >= count:
            return kept[:count]
    raise ValueError("next to nothing is left of the box; exclude less of it")


def _check_even(count: int) -> None:
    if count < 2 or count % 2:
        raise ValueError(
            f"a domain has an even number of coordinates, the positions and then their momenta, got {count}"
        )
