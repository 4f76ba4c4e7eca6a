"""A user's observations of one system, read from files as instruments and people write them.

| quantities | what they are |
|---|---|
| `q,p,dq,dp` | states and their time derivatives; a column `t` or `trajectory` beside them does not matter |
| `t,q,p` | trajectories with momenta |
| `t,q,v` | trajectories with velocities |
| `t,q` | trajectories of positions alone |
| `t,v` | trajectories of velocities alone, such as those of a gyroscope |

With n > 1 degrees of freedom, `q` is `q1..qn` and so on (as arrays also one of shape `[K, n]`). Several trajectories
have a column `trajectory`, any text or number; files of their own; or times that start again. Beside a trajectory,
`u` or `u1..uk` are measured inputs. The order of the columns is free, and so are their names, as far as they are clear:
`Time (s)` is t, and `angle [deg]` is q.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from meta_hamiltonian.dynamics.space import Axes, Space
from meta_hamiltonian.observations.angles import look_like_degrees, unwrapped
from meta_hamiltonian.observations.columns import find_columns
from meta_hamiltonian.observations.forms import Derivatives, ObservationError, Trajectory, at_place, counted, shown
from meta_hamiltonian.observations.gaps import Rows, groups, inputs_of, merged, observed, pieces, span
from meta_hamiltonian.observations.kinds import data_files, kinds_words, read_sheet, stem
from meta_hamiltonian.observations.layout import FORMS, missing_words
from meta_hamiltonian.observations.motion import without_rest
from meta_hamiltonian.observations.names import Vocabulary, vocabulary_of
from meta_hamiltonian.observations.rates import integrated, mismatch
from meta_hamiltonian.observations.sheet import Sheet
from meta_hamiltonian.observations.table import Table, read_table
from meta_hamiltonian.observations.tracks import angle_around_pivot, is_polar


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read.

    - `notes`: how, in sentences: what each column was taken for, what was converted, merged, split or left out.
    """

    observations: Derivatives | list[Trajectory]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class _Wishes:
    """What the user says of the files."""

    domain: Space
    columns: Mapping[str, str]
    units: Mapping[str, str]
    from_time: float | None
    to_time: float | None
    released: bool


def read(
    paths: Sequence[str | os.PathLike[str]],
    domain: Space,
    columns: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    from_time: float | None = None,
    to_time: float | None = None,
) -> Reading:
    """The observations in files; which form they have follows from their columns.

    **Arguments:**

    - `paths`: files, or folders of files; several hold trajectories each, or derivatives each.
    - `domain`: the coordinates of the observed system: how many, which of them are angles, and their units.
    - `columns`: quantity -> the name of its column, or its position from 1 on, where the names do not tell it.
    - `units`: quantity or column -> its unit, where the file does not tell it, or tells another one.
    - `from_time`, `to_time`: states are taken between them; inputs are taken at all times.

    **Raises:** [`ObservationError`][], which names the file, the line, the column, and what to do. Nothing in a file
    is run.
    """
    wishes = _Wishes(domain, columns or {}, units or {}, from_time, to_time, released=True)
    files, notes = _files([Path(path) for path in paths])
    readings = [_read_file(path, wishes, len(files) > 1) for path in files]
    notes += _said(files, [reading.notes for reading in readings])
    return Reading(_together([reading.observations for reading in readings], files), notes)


def read_observations(path: str | os.PathLike[str], state_dim: int) -> Derivatives | list[Trajectory]:
    """The observations in one file, with every number as it stands there.

    **Arguments:** `state_dim`: 2n of the model that they are for.

    **Raises:** as [`read`][].
    """
    path = Path(path)
    if _is_folder(path):
        raise ObservationError(f"{path}: this is a folder; give a {kinds_words()} file")
    wishes = _Wishes(Axes.plain(state_dim), {}, {}, None, None, released=False)
    return _read_file(path, wishes, several=False).observations


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # such as a name that is too long
        raise ObservationError(f"{path}: it cannot be read: {error.strerror or error}") from error


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """All files, those of folders among them."""
    files: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if not _is_folder(path):
            files.append(path)
            continue
        try:
            found, others = data_files(path)
        except OSError as error:
            raise ObservationError(f"{path}: it cannot be read: {error.strerror or error}") from error
        if not found:
            raise ObservationError(f"{path}: the folder holds no {kinds_words()} file; give some")
        files += found
        notes += [f"{other.name} is no file of observations and is not read" for other in others]
    if not files:
        raise ObservationError(f"no file is given; give a {kinds_words()} file of observations")
    return files, notes


def _said(files: Sequence[Path], notes: Sequence[Sequence[str]]) -> list[str]:
    """The notes about all files; what holds for each of them is said once."""
    if len(files) == 1:
        return list(notes[0])
    common = [note for note in notes[0] if all(note in others for others in notes)]
    return common + [
        f"{path.name}: {note}" for path, own in zip(files, notes, strict=True) for note in own if note not in common
    ]


def _together(parts: Sequence[Derivatives | list[Trajectory]], files: Sequence[Path]) -> Derivatives | list[Trajectory]:
    derivatives = [part for part in parts if isinstance(part, Derivatives)]
    if len(derivatives) == len(parts):
        return Derivatives(np.vstack([d.x for d in derivatives]), np.vstack([d.dxdt for d in derivatives]))
    if derivatives:
        path = next(path for path, part in zip(files, parts, strict=True) if isinstance(part, Derivatives))
        raise ObservationError(f"{path}: it holds derivatives, other files hold trajectories; give one kind of them")
    return [trajectory for part in parts if not isinstance(part, Derivatives) for trajectory in part]


def _read_file(path: Path, wishes: _Wishes, several: bool) -> Reading:
    with at_place(str(path)):
        vocabulary = vocabulary_of(wishes.domain)
        n = wishes.domain.degrees_of_freedom
        try:
            sheet = read_sheet(path, _known(vocabulary, wishes.columns), missing_words(n))
        except OSError as error:
            raise ObservationError(f"it cannot be read: {error.strerror or error}") from error
        return _of_sheet(sheet, wishes, stem(path) if several else "")


def of_sheet(
    sheet: Sheet, domain: Space, columns: Mapping[str, str] | None = None, units: Mapping[str, str] | None = None
) -> Reading:
    """The observations in a table that is read already; arguments and errors as those of [`read`][]."""
    return _of_sheet(sheet, _Wishes(domain, columns or {}, units or {}, None, None, released=True), "")


def _of_sheet(sheet: Sheet, wishes: _Wishes, name: str) -> Reading:
    columns = find_columns(sheet, wishes.domain, vocabulary_of(wishes.domain), wishes.columns)
    table = read_table(sheet, columns, wishes.domain, wishes.units)
    if not table.rows:
        raise ObservationError("it names its columns and has no rows; add at least one observation")
    table = _with_angle(table)
    if "dq" in table.values:
        return _derivatives(table)
    return _trajectories(table, wishes, name)


def _known(vocabulary: Vocabulary, columns: Mapping[str, str]) -> Callable[[str], bool]:
    """Which names columns may have, those that the user says among them."""
    names = {name.strip().lower() for name in columns.values()}
    return lambda name: vocabulary.known(name) or name.strip().lower() in names


def _with_angle(table: Table) -> Table:
    """Positions around a pivot as an angle, where none was observed, or where it is that from the x axis."""
    values = dict(table.values)
    if "x" not in values:
        return table
    x, y = values.pop("x")[:, 0], values.pop("y")[:, 0]
    notes = list(table.notes)
    if "q" in values and not is_polar(values["q"][:, 0], x, y):
        return dataclasses.replace(table, values=values, notes=[*notes, "x and y are not used beside q"])
    if "q" in values:
        notes.append("q was measured from the x axis; it is recomputed from the downward vertical")
    angle, note = angle_around_pivot(x, y)
    values |= {"q": angle[:, None]}
    values.pop("v", None) if "q" not in table.values else None
    return dataclasses.replace(table, values=values, notes=[*notes, note], unknown_unit=False)


def _derivatives(table: Table) -> Reading:
    values, seen, notes = table.values, observed(table.values), list(table.notes)
    if not seen.any():
        raise ObservationError("every row has an empty cell; fill some")
    if not seen.all():
        notes.append(_left_out(int((~seen).sum()), len(seen), "an empty cell"))
    x, dxdt = np.hstack([values["q"], values["p"]])[seen], np.hstack([values["dq"], values["dp"]])[seen]
    return Reading(Derivatives(x, dxdt), notes)


def _left_out(some: int, of: int, why: str) -> str:
    has, are = ("has", "is") if some == 1 else ("have", "are")
    return f"{some} of {counted(of, 'row')} {has} {why} and {are} left out"


def _trajectories(table: Table, wishes: _Wishes, name: str) -> Reading:
    """The trajectories of one file."""
    notes = list(table.notes)
    quantities = [quantity for quantity in ("t", "q", "p", "v") if quantity in table.values]
    least = FORMS[tuple(quantities)]
    seen = observed(table.values) & np.isfinite(table.values["t"][:, 0])
    found: list[tuple[str, str, Rows]] = []
    again = 0
    for label, rows in groups(table).items():
        rows, twice = merged(table, rows)
        again += twice
        seen = observed(table.values) & np.isfinite(table.values["t"][:, 0])
        parts = pieces(table, rows, label, least, seen)
        called = " ".join(filter(None, (name, label)))
        if len(parts) > 1:
            notes.append(f"time starts again, so that it holds {len(parts)} trajectories one after another")
        for i, part in enumerate(parts, 1):
            found.append((label, f"{called} part {i}".strip() if len(parts) > 1 else called, part))
    if again:
        stand, are = ("stands", "is") if again == 1 else ("stand", "are")
        notes.append(f"{counted(again, 'row')} that {stand} there twice {are} merged")
    if "u" not in table.values and (
        missing := table.rows - again - int(seen[np.concatenate([r for *_, r in found])].sum())
    ):
        notes.append(_left_out(missing, table.rows, "an empty cell"))
    elif "u" in table.values and not seen.all():
        notes.append(
            f"the state is known in {int(seen.sum())} of {table.rows} rows; from the others only the input is taken"
        )
    windowed = [(label, called, rows, _inside(table, rows[seen[rows]], wishes)) for label, called, rows in found]
    _check_window(table, [rows[seen[rows]] for *_, rows in found], [inside for *_, inside in windowed], wishes)
    trajectories = []
    for label, called, rows, inside in windowed:
        if not len(inside) and len(windowed) > 1 and len(rows[seen[rows]]):
            notes.append(f"trajectory {shown(called)} has no instant in the window of time and is left out")
            continue
        if not len(rows):
            raise ObservationError("no row has a time; fill the column t")
        if len(inside) < least:
            which = f"trajectory {shown(label)}" if label else "the trajectory"
            last = table.place(int((inside if len(inside) else rows)[-1]))
            raise ObservationError(
                f"{last}: {which} ends after {counted(len(inside), 'instant')}; with {','.join(quantities)} "
                f"it needs at least {least}"
            )
        trajectories.append(_trajectory(table, rows, inside, called, notes))
    return Reading(_finished(trajectories, table, wishes, notes), list(dict.fromkeys(notes)))


def _inside(table: Table, rows: Rows, wishes: _Wishes) -> Rows:
    t = table.values["t"][rows, 0]
    low = -np.inf if wishes.from_time is None else wishes.from_time
    high = np.inf if wishes.to_time is None else wishes.to_time
    return rows[(t >= low) & (t <= high)]


def _check_window(table: Table, observed_rows: Sequence[Rows], inside: Sequence[Rows], wishes: _Wishes) -> None:
    """**Raises:** [`ObservationError`][], where the window of time leaves nothing."""
    if (wishes.from_time is None and wishes.to_time is None) or any(map(len, inside)):
        return
    ends = " ".join(
        f"{word} {value:g}" for word, value in (("from", wishes.from_time), ("to", wishes.to_time)) if value is not None
    )
    whole = span([table.values["t"][rows, 0] for rows in observed_rows])
    raise ObservationError(f"nothing was observed {ends}: the recording goes {whole}; give times inside it")


def _trajectory(table: Table, rows: Rows, inside: Rows, called: str, notes: list[str]) -> Trajectory:
    """One trajectory as it stands in the file, with its inputs."""
    inputs, note = inputs_of(table, rows)
    if note:
        notes.append(note)
    parts = {quantity: table.values[quantity][inside] for quantity in "tqpv" if quantity in table.values}
    if inputs is not None:
        t = parts["t"][:, 0]
        known = (t >= inputs.t[0]) & (t <= inputs.t[-1])
        if not known.all():
            notes.append(
                f"{counted(int((~known).sum()), 'instant')} without a known input before or after are left out"
            )
            parts = {quantity: value[known] for quantity, value in parts.items()}
        if known.sum() < FORMS[tuple(q for q in ("t", "q", "p", "v") if q in parts)]:
            raise ObservationError("too few states have a known input; give u at the times of the states")
    q = parts.get("q")
    return Trajectory(
        parts["t"][:, 0],
        np.zeros_like(parts["v"]) if q is None else q,
        parts.get("p"),
        parts.get("v"),
        called,
        inputs,
        integrated=q is None,
    )


def _finished(trajectories: list[Trajectory], table: Table, wishes: _Wishes, notes: list[str]) -> list[Trajectory]:
    """Angles made continuous, rest left out, and velocities integrated."""
    done = []
    for one in trajectories:
        named = f"trajectory {shown(one.name)}: " if one.name and len(trajectories) > 1 else ""
        with at_place(named.removesuffix(": ")) if named else contextlib.nullcontext():
            if wishes.released:
                one = _continuous(one, table, wishes.domain, named, notes)
                one, note = without_rest(one)
                notes += [named + note] if note else []
                if one.v is not None and not one.integrated and (wrong := _mismatch(one)):
                    raise ObservationError(
                        f"v does not belong to q: {wrong}; say the units: --units q=UNIT,v=UNIT,t=UNIT, "
                        "or leave v out: --columns t=NAME,q=NAME"
                    )
            if one.integrated:
                one = _integrated(one, named, notes)
        done.append(one)
    return done


def _continuous(one: Trajectory, table: Table, domain: Space, named: str, notes: list[str]) -> Trajectory:
    """Angles without the steps from one end of a turn to the other."""
    if one.integrated:
        return one
    q = one.q.copy()
    for i, coordinate in enumerate(domain.coordinates[: domain.degrees_of_freedom]):
        if coordinate.kind != "angle":
            continue
        name = "q" if q.shape[1] == 1 else f"q{i + 1}"
        if table.unknown_unit and look_like_degrees(q[:, i]):
            raise ObservationError(
                f"{name} swings {np.ptp(q[:, i]):.3g} wide, more than an angle in rad does; "
                f"say its unit: --units {name}=deg or --units {name}=rad"
            )
        q[:, i], steps = unwrapped(q[:, i])
        if steps:
            notes.append(f"{named}{name} is made continuous at {counted(steps, 'step')} across the end of a turn")
    return dataclasses.replace(one, q=q)


def _mismatch(one: Trajectory) -> str:
    """What is wrong with the velocities, in words; empty where nothing clearly is."""
    assert one.v is not None
    columns = [mismatch(one.t, q, v) for q, v in zip(one.q.T, one.v.T, strict=True)]
    return next(filter(None, columns), "")


def _integrated(one: Trajectory, named: str, notes: list[str]) -> Trajectory:
    """Positions from velocities."""
    assert one.v is not None
    parts = [integrated(one.t, v) for v in one.v.T]
    notes.append(f"{named}q was not observed; it is the integral of v, known up to a constant")
    for _, _, offset in parts:
        if offset:
            notes.append(f"{named}an offset of {offset:.3g} is taken from v, by which its integral drifts")
    q, v = (np.stack([part[k] for part in parts], -1) for k in (0, 1))
    return dataclasses.replace(one, q=q, v=v)
