"""A user's observations of one system, read from a `.csv` or an `.npz` file.

| columns | what they are |
|---|---|
| `q,p,dq,dp` | states and their time derivatives; a column `t` or `trajectory` beside them does not matter |
| `t,q,p` | trajectories with momenta |
| `t,q,v` | trajectories with velocities |
| `t,q` | trajectories of positions alone |

With n > 1 degrees of freedom, `q` is `q1..qn` and so on (in an `.npz` also one array `q` of shape `[K, n]`). Several
trajectories have a column `trajectory`, any text or number. The order of the columns is free.
"""

import contextlib
import csv
import dataclasses
import io
import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

FORMS = {("q", "p", "dq", "dp"): 1, ("t", "q", "p"): 3, ("t", "q", "v"): 3, ("t", "q"): 4}
"""The quantities that a file may hold, and how many rows it (for trajectories: each of them) needs at least."""

_LABEL = "trajectory"
_NAME = re.compile(r"t|trajectory|(?:q|p|v|dq|dp)([1-9][0-9]{0,5})?")
# Not what Python's float() takes beyond it, such as 1_000 or digits of other scripts.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")
# Spaces between a closing quote and the end of its cell, which the csv module does not forgive.
_AFTER_QUOTE = re.compile(r'(?<!")"[ \t]+(?=[,;]|$)')


class ObservationError(ValueError):
    """Observations that cannot be used. The message is one line, whatever a file or its name holds."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


@dataclasses.dataclass(frozen=True)
class Derivatives:
    """States (q1..qn, p1..pn) and their time derivatives, in float64."""

    x: Float[np.ndarray, "points state"]
    dxdt: Float[np.ndarray, "points state"]


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One orbit at increasing times, in float64.

    - `p`, `v`: momenta or velocities, one of them at most.
    - `name`: its value in the column `trajectory`, empty without one.
    """

    t: Float[np.ndarray, " instants"]
    q: Float[np.ndarray, "instants n"]
    p: Float[np.ndarray, "instants n"] | None
    v: Float[np.ndarray, "instants n"] | None
    name: str


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Which columns hold what: quantity -> its columns, one a degree of freedom."""

    columns: Mapping[str, Sequence[str]]
    labelled: bool


@dataclasses.dataclass(frozen=True)
class _Table:
    """What was read, from either kind of file.

    - `values`: quantity -> its values.
    - `labels`: of the rows, where there is a column `trajectory`.
    - `places`: where each row stands, for errors.
    """

    values: Mapping[str, Float[np.ndarray, "rows _"]]
    labels: Sequence[str] | None
    places: Sequence[str]


def read_observations(path: str | os.PathLike[str], state_dim: int) -> Derivatives | list[Trajectory]:
    """The observations in a file; which form they have follows from their columns.

    **Arguments:**

    - `path`: a `.csv` (UTF-8, with a header, cells separated by commas, or by semicolons if the header has no comma;
        blank lines and lines that start with `#` are skipped) or an `.npz` with arrays of the same names.
    - `state_dim`: 2n of the model that they are for.

    **Returns:**

    [`Derivatives`][], or the trajectories in the order of their first rows.

    **Raises:**

    [`ObservationError`][], which names the file, the line, the column, and what to do. Nothing in a file is run.
    """
    path = Path(path)
    with _at(str(path)):
        try:
            table = _read(path, state_dim // 2)
        except OSError as error:
            raise ObservationError(f"it cannot be read: {error.strerror or error}") from error
        values = table.values
        if "dq" in values:
            return Derivatives(np.hstack([values["q"], values["p"]]), np.hstack([values["dq"], values["dp"]]))
        return _trajectories(table)


@contextlib.contextmanager
def _at(place: str) -> Iterator[None]:
    """Errors inside begin with the place."""
    try:
        yield
    except ObservationError as error:
        raise ObservationError(f"{place}: {error}") from error


def _read(path: Path, n: int) -> _Table:
    if path.is_dir():
        raise ObservationError("this is a folder; give a .csv or .npz file")
    if not path.is_file():
        raise ObservationError("there is no such file; give a .csv or .npz file of observations")
    kind = path.suffix.lower()
    if kind not in (".csv", ".npz"):
        raise ObservationError(f"a file that ends in {kind or 'nothing'} is not read; save it as .csv or .npz")
    if path.stat().st_size == 0:
        raise ObservationError(f"the file is empty; give {_forms(n)}")
    table = _read_csv(path, n) if kind == ".csv" else _read_npz(path, n)
    if not table.places:
        raise ObservationError("it names its columns and has no rows; add at least one observation")
    return table


# CSV


def _read_csv(path: Path, n: int) -> _Table:
    lines = _lines(path.read_bytes())
    if not lines:
        raise ObservationError(f"it has no header, only blank lines and comments; give {_forms(n)}")
    number, header = lines[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    with _at(f"line {number}"):
        names = _cells(header, delimiter)
        layout = _layout(names, n, "column")
        _check_dimension(len(layout.columns["q"]), n)
    position = {name: i for i, name in enumerate(names)}
    wanted = _flat(layout.columns)
    rows: list[list[float]] = []
    labels: list[str] = []
    for number, line in lines[1:]:
        with _at(f"line {number}"):
            cells = _cells(line, delimiter)
            if len(cells) != len(names):
                raise ObservationError(
                    f"it has {_count(len(cells), 'cell')}, the header {len(names)}; give one value a column"
                )
            rows.append([_number(cells[position[name]], name) for name in wanted])
            if layout.labelled:
                labels.append(_filled(cells[position[_LABEL]], _LABEL))
    by_name = dict(zip(wanted, np.array(rows).reshape(-1, len(wanted)).T, strict=True))
    return _Table(
        {quantity: np.stack([by_name[name] for name in columns], 1) for quantity, columns in layout.columns.items()},
        labels if layout.labelled else None,
        [f"line {number}" for number, _ in lines[1:]],
    )


def _lines(content: bytes) -> list[tuple[int, str]]:
    """The lines that are neither blank nor comments, with their numbers."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(error.object[: error.start].decode("latin-1"))) + 1
        byte = error.object[error.start]
        raise ObservationError(f"line {line}: byte 0x{byte:02x} is not UTF-8 text; save it as UTF-8 CSV") from error
    if (nul := text.find("\0")) >= 0:
        line = len(_LINE_END.findall(text[:nul])) + 1
        raise ObservationError(f"line {line}: it holds a NUL byte, so it is no text; save it as UTF-8 CSV")
    lines = enumerate(_LINE_END.split(text), 1)
    return [(number, line) for number, line in lines if line.strip() and not line.lstrip().startswith("#")]


def _cells(line: str, delimiter: str) -> list[str]:
    """One line alone, so that a quote left open does not swallow those after it."""
    line = _AFTER_QUOTE.sub('"', line)
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ObservationError(f"it cannot be split into cells ({error}); check its quotes") from error
    return [cell.strip() for cell in cells]


def _filled(cell: str, name: str) -> str:
    if not cell:
        raise ObservationError(f"column {name}: the cell is empty; fill it, or leave out the line")
    return cell


def _number(cell: str, name: str) -> float:
    if not _NUMBER.fullmatch(_filled(cell, name)):
        if _NOT_FINITE.fullmatch(cell):
            raise ObservationError(f"column {name}: {cell} is not a finite number; leave out the line")
        hint = "decimals have a point" if "," in cell else "write numbers as 1.5 or -2e-3"
        raise ObservationError(f"column {name}: {_shown(cell)} is not a number; {hint}")
    value = float(cell)
    if math.isinf(value):
        raise ObservationError(f"column {name}: {_shown(cell)} is infinite as a 64-bit number; leave out the line")
    return value


# NPZ


def _read_npz(path: Path, n: int) -> _Table:
    with _open(path) as archive:
        members = archive.namelist()
        names = [member.removesuffix(".npy") for member in members]
        if not names:
            raise ObservationError(f"it holds no arrays; give {_forms(n)}")
        layout = _layout(names, n, "array")
        member_of = dict(zip(names, members, strict=True))
        arrays = {name: _load(archive, member_of[name], name) for name in _flat(layout.columns)}
        labels = _load(archive, member_of[_LABEL], _LABEL) if layout.labelled else None

    values = {quantity: _stacked(arrays, columns) for quantity, columns in layout.columns.items()}
    rows, dofs = values["q"].shape
    for quantity, value in values.items():
        allowed = (rows, 1) if quantity == "t" else (rows, dofs)
        if value.shape != allowed:
            here, other = _shape(arrays, layout, quantity), _shape(arrays, layout, "q")
            raise ObservationError(f"array {here}, but {other}; give each the same number of rows and coordinates")
    _check_dimension(dofs, n)
    if labels is not None and labels.shape != (rows,):
        raise ObservationError(f"array {_LABEL} has shape {labels.shape}; give one label for each of the {rows} rows")
    return _Table(values, None if labels is None else _labels(labels), [f"index {i}" for i in range(rows)])


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:  # zipfile raises nearly anything over a damaged archive
        raise ObservationError("it is no readable .npz: damaged, truncated, or another kind of file") from error


def _load(archive: zipfile.ZipFile, member: str, name: str) -> Shaped[np.ndarray, "..."]:
    try:
        # All of it first, which checks its checksum.
        return np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)
    except Exception as error:  # zipfile and NumPy raise nearly anything over a damaged array
        if "allow_pickle" in str(error):
            problem = "it holds Python objects, which are not read; save plain numbers, or text with dtype=str"
        else:
            problem = "it is no readable array: damaged, or not made by numpy.savez"
        raise ObservationError(f"array {name}: {problem}") from error


def _stacked(arrays: Mapping[str, Shaped[np.ndarray, "..."]], names: Sequence[str]) -> Float[np.ndarray, "rows _"]:
    """One quantity, from an array `[K]` or `[K, n]` called `q`, or from arrays `[K]` called `q1`, `q2`, ..."""
    for name in names:
        array = arrays[name]
        if array.dtype.kind not in "iuf":
            raise ObservationError(f"array {name}: it holds {array.dtype}, not numbers; save it as float64")
        matrix = array.ndim == 2 and array.shape[1] > 0 and name in ("q", "p", "v", "dq", "dp")
        if array.ndim != 1 and not matrix:
            raise ObservationError(f"array {name} has shape {array.shape}; give one value a row")
        with np.errstate(over="ignore"):  # of long doubles
            numbers = array.astype(np.float64)
        bad = np.argwhere(~np.isfinite(numbers))
        if len(bad):
            index = tuple(bad[0].tolist())
            place = str(index[0]) if array.ndim == 1 else str(list(index))
            raise ObservationError(f"array {name}: index {place}: {numbers[index]} is not finite; leave out the row")
        if len(array) != len(arrays[names[0]]):
            raise ObservationError(
                f"array {name} has {_count(len(array), 'row')}, but {names[0]} {len(arrays[names[0]])}; "
                "give each the same number"
            )
    return np.column_stack([arrays[name] for name in names]).astype(np.float64)


def _shape(arrays: Mapping[str, Shaped[np.ndarray, "..."]], layout: _Layout, quantity: str) -> str:
    name = layout.columns[quantity][0]
    return f"{name} has shape {arrays[name].shape}"


def _labels(array: Shaped[np.ndarray, " rows"]) -> list[str]:
    if array.dtype.kind not in "iufU":
        raise ObservationError(f"array {_LABEL}: it holds {array.dtype}; save text (dtype=str) or numbers")
    labels = [str(label).strip() for label in array.tolist()]
    for i, label in enumerate(labels):
        if not label or (array.dtype.kind == "f" and not np.isfinite(array[i])):
            raise ObservationError(f"array {_LABEL}: index {i}: {_shown(label)} is no label; give one to every row")
    return labels


# What both have in common


def _layout(names: Sequence[str], n: int, noun: str) -> _Layout:
    """Finds the form, or says what is wrong with the names.

    **Arguments:** `n`: degrees of freedom of the model, in which the forms are spelled; `noun`: what has these names.
    """
    if "" in names:
        raise ObservationError(f"{noun} {names.index('') + 1} has no name; name it or leave it out; give {_forms(n)}")
    if all(_NUMBER.fullmatch(name) for name in names):
        raise ObservationError(f"it holds numbers where the {noun}s should be named; begin with {_forms(n)}")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ObservationError(f"repeated {_named(noun, map(_shown, repeated))}; keep one of each")
    unknown = [name for name in names if not _NAME.fullmatch(name)]
    if unknown:
        hint = "; separate columns by commas" if len(names) == 1 and noun == "column" else ""
        raise ObservationError(f"unknown {_named(noun, map(_shown, unknown))}{hint}; give {_forms(n)}")

    coordinates = [name for name in names if name not in ("t", _LABEL)]
    numbered = {name: int(match[1]) for name in coordinates if (match := _NAME.fullmatch(name)) and match[1]}
    plain = [name for name in coordinates if name not in numbered]
    if plain and numbered:
        raise ObservationError(f"{noun}s {plain[0]} and {next(iter(numbered))} do not fit; number all, or none")
    last = max(numbered, key=lambda name: numbered[name], default=None)
    dofs = 1 if last is None else numbered[last]
    if dofs > len(names):
        raise ObservationError(f"{noun} {last} skips numbers; number from 1 on")

    present = set(names)
    columns = {form: _columns(form, dofs if numbered else None) for form in FORMS}
    missing = {form: [name for name in _flat(columns[form]) if name not in present] for form in FORMS}
    extra = {form: _superfluous(names, _flat(columns[form])) for form in FORMS}
    nearest = min(FORMS, key=lambda form: len(missing[form]) + 2 * len(extra[form]))
    if missing[nearest] or extra[nearest]:
        quantities = {name.rstrip("0123456789") for name in coordinates}
        if quantities == {"q", "p", "v"}:
            raise ObservationError(f"p and v together are no form; leave one of them out: give {_forms(n)}")
        wrong = [f"lacks {_named(noun, missing[nearest])}"] if missing[nearest] else []
        wrong += [f"has superfluous {_named(noun, extra[nearest])}"] if extra[nearest] else []
        hint = "; call velocities v" if quantities == {"q", "dq"} else ""
        spelled = _spelled(nearest, dofs if numbered else None)
        raise ObservationError(f"it {' and '.join(wrong)} for the nearest form {spelled}{hint}; give {_forms(n)}")
    return _Layout(columns[nearest], _LABEL in names and "t" in nearest)


def _columns(form: Sequence[str], dofs: int | None) -> dict[str, list[str]]:
    """The columns of each quantity of a form; they are not numbered if `dofs` is None."""
    return {
        quantity: [quantity] if dofs is None or quantity == "t" else [f"{quantity}{i + 1}" for i in range(dofs)]
        for quantity in form
    }


def _flat(columns: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for names in columns.values() for name in names]


def _superfluous(names: Iterable[str], columns: Iterable[str]) -> list[str]:
    """What does not belong to a form. Derivatives need no time, and no orbit that they were observed on."""
    allowed = {*columns, "t", _LABEL}
    return [name for name in names if name not in allowed]


def _check_dimension(dofs: int, n: int) -> None:
    if dofs != n:
        raise ObservationError(
            f"the file has n={dofs} degrees of freedom, the model n={n}; "
            "give observations of a system of the model's family"
        )


def _trajectories(table: _Table) -> list[Trajectory]:
    groups: dict[str, list[int]] = {}
    for row, label in enumerate(table.labels or [""] * len(table.places)):
        groups.setdefault(label, []).append(row)
    return [_trajectory(table, rows, label) for label, rows in groups.items()]


def _trajectory(table: _Table, rows: list[int], label: str) -> Trajectory:
    t = table.values["t"][rows, 0]
    which = f"trajectory {_shown(label)}" if label else "the trajectory"
    late = np.flatnonzero(t[1:] <= t[:-1])
    if len(late):
        i = late[0].item()
        before, here = f"{t[i].item()!r} ({table.places[rows[i]]})", f"{t[i + 1].item()!r}"
        hint = "sort by time" if label else f"sort by time, or name each trajectory in a column {_LABEL}"
        raise ObservationError(
            f"{table.places[rows[i + 1]]}: column t: {here} is not after {before} in {which}; {hint}"
        )
    form = tuple(table.values)
    least = FORMS[form]
    if len(rows) < least:
        held = _count(len(rows), "instant")
        raise ObservationError(
            f"{table.places[rows[-1]]}: {which} ends after {held}; with {','.join(form)} it needs at least {least}"
        )
    parts = {quantity: value[rows] for quantity, value in table.values.items()}
    return Trajectory(t, parts["q"], parts.get("p"), parts.get("v"), label)


def _forms(n: int) -> str:
    return " or ".join(_spelled(form, None if n == 1 else n) for form in FORMS)


def _spelled(form: Sequence[str], dofs: int | None) -> str:
    names = _columns(form, dofs).values()
    return ",".join(",".join(columns) if len(columns) < 3 else f"{columns[0]}..{columns[-1]}" for columns in names)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _named(noun: str, names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{noun}{'' if len(names) == 1 else 's'} {', '.join(names[:most])}{more}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
