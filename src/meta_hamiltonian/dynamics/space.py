"""The coordinates of a family by name, kind and unit: what whoever reads a file needs to know, and no more.

Nothing here imports PyTorch, so that a file is refused in a fraction of the time that PyTorch takes to be imported.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

Number = int | float
# Beyond, a positive quantity is no number any more where it is squared.
_LARGEST_LOGARITHM = 300
KINDS = ("angle", "length", "logarithm")


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """One canonical coordinate, a position or a momentum.

    - `name`: as in files and figures, such as `q` or `p2`.
    - `low`, `high`: the ends of the box along it.
    - `kind`: `"angle"` for one that comes back after 2π (radians), `"logarithm"` for that of a positive quantity, such
        as a population, else `"length"`.
    - `unit`: for labels, empty where it is dimensionless.
    """

    name: str
    low: Number
    high: Number
    kind: str = "length"
    unit: str = ""

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"the box of {self.name} must have finite ends low < high, got {self.low} and {self.high}")
        if self.kind == "logarithm" and max(-self.low, self.high) > _LARGEST_LOGARITHM:
            raise ValueError(
                f"{self.name} is a logarithm, and must lie between {-_LARGEST_LOGARITHM} and {_LARGEST_LOGARITHM}, "
                f"got a box from {self.low} to {self.high}"
            )
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} of {self.name} is not known; choose one of {', '.join(KINDS)}")

    @property
    def label(self) -> str:
        """For an axis of a figure, such as `q (rad)`."""
        return labelled(self.name, self.unit)

    @property
    def turns(self) -> bool:
        """Whether it may go round and round: an angle whose box holds a whole turn."""
        return self.kind == "angle" and self.high - self.low >= 2 * math.pi * (1 - 1e-12)


class Space:
    """What [`Domain`][] and [`Axes`][] have in common.

    - `coordinates`: 2n of them, the positions first.
    - `time_unit`: for labels, empty where it is dimensionless.
    """

    coordinates: tuple[Coordinate, ...]
    time_unit: str

    @property
    def state_dim(self) -> int:
        """2n."""
        return len(self.coordinates)

    @property
    def degrees_of_freedom(self) -> int:
        """n."""
        return self.state_dim // 2

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the coordinates, positions first."""
        return tuple(coordinate.name for coordinate in self.coordinates)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the coordinates with their units, for axes."""
        return tuple(coordinate.label for coordinate in self.coordinates)


@dataclasses.dataclass(frozen=True)
class Axes(Space):
    """The coordinates alone."""

    coordinates: tuple[Coordinate, ...]
    time_unit: str = ""

    @classmethod
    def plain(cls, state_dim: int) -> "Axes":
        """Dimensionless lengths with the usual names."""
        return cls(tuple(Coordinate(name, -1.0, 1.0) for name in canonical_names(state_dim)))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Axes":
        """The axes of a domain that a checkpoint keeps as plain values."""
        return cls(tuple(Coordinate(**coordinate) for coordinate in settings["coordinates"]), settings["time_unit"])


def canonical_names(state_dim: int) -> list[str]:
    """`q, p` for one degree of freedom, `q1 … qn, p1 … pn` for n."""
    n = state_dim // 2
    return ["q", "p"] if n == 1 else [f"{kind}{i + 1}" for kind in "qp" for i in range(n)]


def labelled(name: str, unit: str) -> str:
    """For an axis: `t (s)`, or `t (dimensionless)`."""
    return f"{name} ({unit or 'dimensionless'})"
