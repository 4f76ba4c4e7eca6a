"""What a table says of its system: how many coordinates there are, which of them are angles, and their units."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from meta_hamiltonian.dynamics.domain import Coordinate, Domain, canonical_names
from meta_hamiltonian.observations.columns import Columns, ambiguous, find_columns, option
from meta_hamiltonian.observations.forms import ObservationError
from meta_hamiltonian.observations.names import usual_meaning, vocabulary_of
from meta_hamiltonian.observations.pairs import own_names
from meta_hamiltonian.observations.sheet import Sheet
from meta_hamiltonian.observations.units import NONE, conversion

_COORDINATES = ("q", "p", "v", "rate", "dp")


class Asked(NamedTuple):
    """What a user says of tables whose names leave something open.

    - `columns`: quantity -> name or position of its column.
    - `units`: quantity or column -> unit.
    - `angles`: which positions are angles, such as `q` or `q2`; None is those that are named or measured as angles.
    - `dofs`: how many degrees of freedom; None is as many as are named.
    """

    columns: Mapping[str, str] = {}
    units: Mapping[str, str] = {}
    angles: Sequence[str] | None = None
    dofs: int | None = None


class Shape(NamedTuple):
    """The coordinates of a system.

    - `names`: of the positions and then of the momenta.
    - `angles`: whether each position is one.
    - `logarithms`: whether each coordinate is that of a positive quantity, the positions first.
    - `positions`, `momenta`: their units; empty where nothing is said.
    - `time`: the unit of time.
    - `observed`: the quantities of the table.
    """

    names: tuple[str, ...]
    angles: tuple[bool, ...]
    logarithms: tuple[bool, ...]
    positions: tuple[str, ...]
    momenta: tuple[str, ...]
    time: str
    observed: tuple[str, ...]

    @property
    def dofs(self) -> int:
        """n."""
        return len(self.angles)

    def in_order(self, names: Sequence[str]) -> "Shape":
        """The same coordinates in this order, if these are their names."""
        if set(names) != set(self.names):
            return self
        place = [self.names.index(name) for name in names]
        of_positions = place[: self.dofs]
        return self._replace(
            names=tuple(names),
            angles=tuple(self.angles[i] for i in of_positions),
            logarithms=tuple(self.logarithms[i] for i in place),
            positions=tuple(self.positions[i] for i in of_positions),
            momenta=tuple(self.momenta[i] for i in of_positions),
        )

    @property
    def domain(self) -> Domain:
        """The coordinates in a box of half-widths 1: where they live is not known yet."""
        angles = [*self.angles, *[False] * self.dofs]
        kinds = [
            "angle" if angle else "logarithm" if logarithm else "length"
            for angle, logarithm in zip(angles, self.logarithms, strict=True)
        ]
        units = [*self.positions, *self.momenta]
        each = zip(self.names, kinds, units, strict=True)
        return Domain(tuple(Coordinate(name, -1.0, 1.0, kind, unit) for name, kind, unit in each), (), self.time)


def shape_of(sheet: Sheet, asked: Asked) -> Shape:
    """The shape that the names and units of a table tell.

    **Raises:** [`ObservationError`][], where they leave it open, with what to say.
    """
    names, around = _names(sheet, asked)
    space = _any(names, around)
    n = space.degrees_of_freedom
    columns = find_columns(sheet, space, vocabulary_of(space), asked.columns)
    units = [_unit(sheet, columns, asked, "q", i, n) for i in range(n)]
    if asked.angles is not None:
        if unknown := set(asked.angles) - set(names[:n]):
            raise ObservationError(
                f"data.angles: {', '.join(sorted(unknown))} is no position; choose from {', '.join(names[:n])}"
            )
        angles = [name in asked.angles for name in names[:n]]
    else:
        angles = [around or _is_angle(sheet, columns, asked, i, n) for i in range(n)]
    logarithms = [(quantity, i) in columns.of_positives for quantity in "qp" for i in range(n)]
    time = _unit(sheet, columns, asked, "t", 0, 1)
    positions = ["rad" if angle else unit for angle, unit in zip(angles, units, strict=True)]
    if "p" in columns.form:
        momenta = [_unit(sheet, columns, asked, "p", i, n) for i in range(n)]
    else:  # p = inertia · dq/dt with an inertia without a unit
        momenta = [f"{unit}/{time}" if unit and time else "" for unit in positions]
    return Shape(
        tuple(names), tuple(angles), tuple(logarithms), tuple(positions), tuple(momenta), time, tuple(columns.form)
    )


def _any(names: Sequence[str], around: bool) -> Domain:
    """A domain that takes positions for whatever they are; angles where they are to be found around a pivot."""
    positions = names[: len(names) // 2]
    angles = [name for name in positions if around or ((m := usual_meaning(name)) is not None and m.kind == "angle")]
    return Domain.box(dict.fromkeys(names, (-1.0, 1.0)), angles=angles)


def _names(sheet: Sheet, asked: Asked) -> tuple[Sequence[str], bool]:
    """The names of the coordinates, and whether the only position is an angle around a pivot, found from x and y."""
    meanings = [m for name in sheet.names if (m := usual_meaning(name)) is not None]
    chosen = [name for name in asked.columns if name[:1] in "qpvd"]
    indices = [m.index for m in meanings if m.index and m.quantity in _COORDINATES]
    indices += [int(name.lstrip("qpvd")) for name in chosen if name[-1:].isdigit()]
    own = () if chosen else own_names(sheet.names)
    if own and asked.dofs in (None, len(own)):
        return [*own, *(f"p_{name}" for name in own)], False
    axes = {m.axis for m in meanings if m.axis and m.quantity in ("q", "y", "z")}
    plane = {"x", "y"} <= axes and "q" not in asked.columns and not indices
    plane = plane and not any(m.quantity == "q" and not m.axis for m in meanings)
    if asked.dofs is not None:
        return canonical_names(2 * asked.dofs), plane and asked.dofs == 1
    if plane:
        moving = {m.axis for m in meanings if m.axis and m.quantity in ("rate", "p")}
        if axes <= moving:
            return canonical_names(2 * len(axes)), False
        raise ObservationError(
            "x and y may be two coordinates, or one angle around a pivot; type data.dofs=2 or data.dofs=1"
        )
    positions = [
        i for i, name in enumerate(sheet.names) if (m := usual_meaning(name)) is not None and m.quantity == "q"
    ]
    if len(positions) > 1 and not indices and not chosen:
        both = dict(enumerate(positions, 1))
        raise ObservationError(
            f"{ambiguous(sheet, 'q', positions)}; or, where all of them are coordinates, number them: "
            + option(sheet, {f"q{i}": position for i, position in both.items()})
        )
    return canonical_names(2 * max(indices, default=1)), False


def _text(sheet: Sheet, columns: Columns, asked: Asked, quantity: str, i: int, n: int) -> str:
    """The unit as it is written."""
    positions = columns.of.get(quantity, ())
    name = sheet.names[positions[min(i, len(positions) - 1)]] if positions else ""
    for key in (quantity if n == 1 else f"{quantity}{i + 1}", quantity, name):
        if key in asked.units:
            return str(asked.units[key])
    return columns.units.get(positions[min(i, len(positions) - 1)], "") if positions else ""


def _unit(sheet: Sheet, columns: Columns, asked: Asked, quantity: str, i: int, n: int) -> str:
    """The unit that it is converted to."""
    if (quantity, i) in columns.of_positives:
        return ""
    text = _text(sheet, columns, asked, quantity, i, n)
    return "" if text.strip().lower() in NONE else conversion(text, "", quantity)[1]


def _is_angle(sheet: Sheet, columns: Columns, asked: Asked, i: int, n: int) -> bool:
    """By its name, by its unit, or by that of its velocity."""
    positions = columns.of.get("q", ())
    if positions:
        meaning = usual_meaning(sheet.names[positions[min(i, len(positions) - 1)]])
        if meaning is not None and meaning.kind == "angle":
            return True
        return _unit(sheet, columns, asked, "q", i, n) == "rad"
    return bool(columns.gyroscopes) or _unit(sheet, columns, asked, "v", i, n) == "rad/s"
