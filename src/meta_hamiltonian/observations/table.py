"""The numbers of a file, in the units of the model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from meta_hamiltonian.dynamics.space import Space
from meta_hamiltonian.observations.arrays import array_labels, array_numbers
from meta_hamiltonian.observations.cells import numbers
from meta_hamiltonian.observations.columns import Columns
from meta_hamiltonian.observations.forms import ObservationError, at_place, counted, named, shown
from meta_hamiltonian.observations.layout import LABEL, check_dimension
from meta_hamiltonian.observations.names import same_name
from meta_hamiltonian.observations.sheet import Sheet
from meta_hamiltonian.observations.times import are_times, seconds
from meta_hamiltonian.observations.units import NONE, conversion

# From so many seconds on, times count from 1970 or earlier.
_EPOCH = 1e8
# From so many on, they are in another unit.
_TOO_MANY_SECONDS = 1e11
# The axis that a pendulum turns around has at least so many times the variance of the others.
_CLEAR_AXIS = 10.0


@dataclasses.dataclass(frozen=True)
class Table:
    """What was measured, not a number where nothing was.

    - `values`: quantity -> its values.
    - `labels`: those of the rows, where there is a column `trajectory`.
    - `place`: says where a row stands, for errors.
    - `unknown_unit`: whether nothing was said of the unit of q.
    - `notes`: how each column was read.
    """

    values: Mapping[str, Float[np.ndarray, "rows _"]]
    labels: Sequence[str] | None
    place: Callable[[int], str]
    unknown_unit: bool
    notes: Sequence[str]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(next(iter(self.values.values())))


def read_table(sheet: Sheet, columns: Columns, domain: Space, units: Mapping[str, str]) -> Table:
    """Reads the columns that are needed, and converts their units.

    **Arguments:** `units`: by quantity or by name of the column; they go before what a file says.

    **Raises:** [`ObservationError`][], which names the cell, or the unit, at fault.
    """
    notes: list[str] = list(sheet.notes)
    loaded: dict[str, list[np.ndarray]] = {}
    stamped = ""
    raw = {q: [sheet.cells(i) for i in positions] for q, positions in columns.of.items()}
    gyroscopes = [sheet.cells(i) for i in columns.gyroscopes]
    for quantity, positions in columns.of.items():
        loaded[quantity] = []
        for cells, position in zip(raw[quantity], positions, strict=True):
            name = sheet.names[position]
            if quantity == "t" and isinstance(cells, list) and are_times(cells):
                times, first = seconds(cells, name, sheet.place)
                loaded[quantity].append(times[:, None])
                stamped = first
            else:
                matrix = quantity in ("q", "p", "v", "dq", "dp", "u") and len(positions) == 1
                loaded[quantity].append(_numbers(sheet, cells, name, matrix))
    of = dict(columns.of)
    if columns.gyroscopes:
        axes = [
            _numbers(sheet, cells, sheet.names[i], False)
            for cells, i in zip(gyroscopes, columns.gyroscopes, strict=True)
        ]
        best = _clear_axis(sheet, columns.gyroscopes, axes)
        of["v"], loaded["v"] = [columns.gyroscopes[best]], [axes[best]]
        others = [sheet.names[i] for k, i in enumerate(columns.gyroscopes) if k != best]
        notes.append(f"{named(sheet.noun, map(shown, others))} vary little and are not used")
    if sheet.noun == "array":
        _check_shapes(sheet, of, loaded, domain.degrees_of_freedom)
    values = {q: np.hstack(parts) for q, parts in loaded.items()}
    labels = None
    if columns.label is not None:
        labels = _labels(sheet, columns.label, len(next(iter(values.values()))))
    unknown = _convert(values, of, sheet, columns, domain, units, stamped, notes)
    _take_logarithms(values, of, sheet, columns, notes)
    if columns.ignored:
        listed = named(sheet.noun, map(shown, columns.ignored))
        notes.append(f"{listed} {'is' if len(columns.ignored) == 1 else 'are'} not used")
    return Table(values, labels, sheet.place, unknown, notes)


def _check_shapes(
    sheet: Sheet, of: Mapping[str, Sequence[int]], loaded: Mapping[str, Sequence[Float[np.ndarray, "_ _"]]], n: int
) -> None:
    """**Raises:** [`ObservationError`][], where arrays have not as many rows, or coordinates, as others."""
    for quantity, positions in of.items():
        first = loaded[quantity][0]
        for position, array in zip(positions, loaded[quantity], strict=True):
            if len(array) != len(first):
                here, other = sheet.names[position], sheet.names[positions[0]]
                held = f"has {counted(len(array), 'row')}, but {other} {len(first)}"
                raise ObservationError(f"array {here} {held}; give each the same number")
    reference = "q" if "q" in of else next(quantity for quantity in of if quantity != "t")
    rows, width = len(loaded[reference][0]), sum(array.shape[1] for array in loaded[reference])
    for quantity, positions in of.items():
        coordinates = sum(array.shape[1] for array in loaded[quantity])
        if len(loaded[quantity][0]) != rows or (quantity in ("p", "v", "dq", "dp") and coordinates != width):
            here, other = (
                f"{sheet.names[i]} has shape {np.shape(sheet.cells(i))}" for i in (positions[0], of[reference][0])
            )
            raise ObservationError(f"array {here}, but {other}; give each the same number of rows and coordinates")
    if reference in ("q", "v"):
        check_dimension(width, n)


def _numbers(sheet: Sheet, cells: "list[str] | np.ndarray", name: str, matrix: bool) -> Float[np.ndarray, "rows _"]:
    if isinstance(cells, list):
        return numbers(cells, name, sheet.place, sheet.decimal)[:, None]
    return array_numbers(cells, name, matrix)


def _labels(sheet: Sheet, position: int, rows: int) -> list[str]:
    cells, name = sheet.cells(position), sheet.names[position]
    if not isinstance(cells, list):
        return array_labels(cells, name, rows)
    if "" in cells:
        place = sheet.place(cells.index(""))
        raise ObservationError(f"{place}: column {LABEL}: the cell is empty; fill it, or leave out the line")
    return cells


def _clear_axis(sheet: Sheet, positions: Sequence[int], axes: Sequence[Float[np.ndarray, "rows 1"]]) -> int:
    """The axis of a gyroscope around which it turns."""
    variances = [float(np.nanvar(axis)) if np.isfinite(axis).any() else 0.0 for axis in axes]
    best = int(np.argmax(variances))
    if any(_CLEAR_AXIS * other > variances[best] for k, other in enumerate(variances) if k != best):
        names = [sheet.names[i] for i in positions]
        raise ObservationError(
            f"it turns around several axes, {', '.join(map(shown, names))}; say which is the pendulum's by its "
            f"position: {' or '.join(f'--columns v={i + 1}' for i in positions)}"
        )
    return best


def _targets(domain: Space, quantity: str, i: int) -> tuple[str, str]:
    """The unit that a quantity should have, empty where any will do, and what it must be then."""
    n, time = domain.degrees_of_freedom, domain.time_unit or "s"
    if quantity == "t":
        return time, ""
    if quantity in ("x", "y"):
        return "", "length"
    if quantity == "u" or i >= n:
        return "", ""
    position, momentum = domain.coordinates[i], domain.coordinates[n + i]
    unit = position.unit or ("rad" if position.kind == "angle" else "")
    targets = {"q": unit, "v": f"({unit})/({time})", "dq": f"({unit})/({time})"}
    targets |= {"p": momentum.unit, "dp": f"({momentum.unit})/({time})"}
    target = targets[quantity].replace("(rad)/(s)", "rad/s").replace("(m)/(s)", "m/s")
    return "" if target.startswith(
        "()"
    ) else target, position.kind if quantity == "q" and position.kind == "angle" else ""


def _convert(
    values: dict[str, np.ndarray],
    of: Mapping[str, Sequence[int]],
    sheet: Sheet,
    columns: Columns,
    domain: Space,
    units: Mapping[str, str],
    stamped: str,
    notes: list[str],
) -> bool:
    """Converts the values in place and notes it; says whether nothing was said of the unit of q."""
    left = dict(units)
    factors: dict[str, list[float]] = {}
    said: dict[str, bool] = {}
    for quantity, positions in of.items():
        width = values[quantity].shape[1]
        factors[quantity] = []
        for i in range(width):
            position = positions[min(i, len(positions) - 1)]
            name = sheet.names[position]
            ours = quantity if width == 1 else f"{quantity}{i + 1}"
            keys = [key for key in units if key in (ours, quantity, f"{quantity}{i + 1}") or same_name(key, name)]
            for key in keys:
                left.pop(key, None)
            text = units[keys[0]] if keys else columns.units.get(position, "")
            pure = (quantity, i) in columns.of_positives
            if pure:
                text = ""
            target, kind = _targets(domain, quantity, i)
            which = f"{sheet.noun} {shown(name)} is {ours}"
            if quantity == "t" and stamped:
                factors[quantity].append(1.0)
                said[quantity] = True
                notes.append(f"{which}, times counted in s from the first one, {stamped}")
                if target != "s":
                    factor, unit = conversion("s", target, "t")
                    values[quantity][:, i] *= factor
                continue
            if not text:
                factors[quantity].append(1.0)
                said.setdefault(quantity, pure)
                taken = {"t": "s" if not domain.time_unit else domain.time_unit}.get(quantity, target)
                needs = bool(domain.time_unit or domain.coordinates[0].unit)
                notes.append(
                    f"{which}, without a unit" + (f", taken as {taken}" if taken and (needs or quantity != "t") else "")
                )
                continue
            if quantity == "u":
                factor, unit = _input_unit(text)
            else:
                with at_place(f"{sheet.noun} {shown(name)}"):
                    factor, unit = conversion(text, target, ours, kind)
            said[quantity] = True
            factors[quantity].append(factor)
            if factor != 1.0:
                values[quantity][:, i] *= factor
                notes.append(f"{which}, {text} converted to {unit}")
            elif text in NONE:
                notes.append(f"{which}, without a unit")
            else:
                notes.append(f"{which}, in {unit}" + (", which is no physical unit" if unit == "px" else ""))
    if left:
        unused = ", ".join(f"{key}={value}" for key, value in left.items())
        raise ObservationError(
            f"--units {unused}: nothing is read by this name; name one of {', '.join(of)}, or a column"
        )
    _check_consistent(factors, said, of)
    if "t" in values and not stamped:
        _check_times(values, said, notes)
    return not said.get("q", True)


def _take_logarithms(
    values: Mapping[str, np.ndarray],
    of: Mapping[str, Sequence[int]],
    sheet: Sheet,
    columns: Columns,
    notes: list[str],
) -> None:
    """Puts the logarithms of positive quantities in their place, where they are wanted.

    **Raises:** [`ObservationError`][] for a number that has none.
    """
    for quantity, positions in of.items():
        for i, position in enumerate(positions):
            if position not in columns.logarithms:
                continue
            name, column = shown(sheet.names[position]), values[quantity][:, i]
            if (bad := np.flatnonzero(column <= 0)).size:
                raise ObservationError(
                    f"{sheet.place(int(bad[0]))}: {sheet.noun} {name}: {column[bad[0]]:g} has no logarithm; "
                    "leave out the row, or give the column itself"
                )
            values[quantity][:, i] = np.log(column)
            notes.append(f"{quantity} is the logarithm of {sheet.noun} {name}")


def _input_unit(text: str) -> tuple[float, str]:
    """Inputs may have any unit; one that is not known stays."""
    try:
        return conversion(text, "", "u")
    except ObservationError:
        return 1.0, text


def _check_consistent(
    factors: Mapping[str, Sequence[float]], said: Mapping[str, bool], of: Mapping[str, Sequence[int]]
) -> None:
    """**Raises:** [`ObservationError`][], where a quantity is converted and a related one has no unit."""
    changed = {q: any(factor != 1.0 for factor in factors.get(q, ())) for q in of}
    for quantity, related in {"v": "qt", "dq": "qt", "p": "qt", "dp": "pt"}.items():
        if quantity not in of:
            continue
        for other in related:
            if changed.get(other) and not said[quantity]:
                raise ObservationError(
                    f"{quantity} has no unit, but {other} is converted; say the unit: --units {quantity}=UNIT, "
                    f"or {quantity}=1 if it needs no conversion"
                )
        if quantity in ("v", "dq") and changed[quantity] and "q" in of and not said["q"]:
            raise ObservationError(
                f"q has no unit, but {quantity} is converted; say the unit: --units q=UNIT, such as q=deg or q=rad"
            )


def _check_times(values: dict[str, np.ndarray], said: Mapping[str, bool], notes: list[str]) -> None:
    """Times since 1970 count from the first one."""
    known = values["t"][np.isfinite(values["t"])]
    if not len(known):
        return
    if np.abs(known).min() > _TOO_MANY_SECONDS and not said["t"]:
        raise ObservationError(
            f"times such as {known[0]:.15g} are no seconds; say their unit: --units t=ms, t=us or t=ns"
        )
    if np.abs(known).min() > _EPOCH:
        values["t"] = values["t"] - known[0]
        notes.append(f"times count from the first one, {known[0]:.15g}")
