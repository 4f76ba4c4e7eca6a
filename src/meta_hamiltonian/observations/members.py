"""Recordings of many members of a family: a folder with a file or a folder for each, or one table for all."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from meta_hamiltonian.dynamics.domain import Domain
from meta_hamiltonian.observations.forms import Derivatives, ObservationError, Trajectory, counted, named, shown
from meta_hamiltonian.observations.kinds import data_files, read_sheet, stem
from meta_hamiltonian.observations.known import KNOWN, known_of
from meta_hamiltonian.observations.layout import missing_words
from meta_hamiltonian.observations.names import same_name, usual_meaning
from meta_hamiltonian.observations.places import check_there, in_folder
from meta_hamiltonian.observations.read import of_sheet, read
from meta_hamiltonian.observations.shape import Asked, Shape, shape_of
from meta_hamiltonian.observations.sheet import Sheet


@dataclasses.dataclass(frozen=True)
class Member:
    """What was observed of one member.

    - `name`: its file or folder without the ending, or its value in the column of members.
    - `known`: what `members.csv` says of it, as text.
    """

    name: str
    observations: Derivatives | Sequence[Trajectory]
    known: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Members:
    """The members of a family that could be read.

    - `domain`: their coordinates, in a box of half-widths 1.
    - `members`: in the order of their names in the folder or table.
    - `refused`: the names of those that could not be read, and why.
    - `notes`: how they were read, in sentences.
    """

    domain: Domain
    members: Sequence[Member]
    refused: Mapping[str, str]
    notes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where a member is: paths, or a part of a table."""

    name: str
    path: Path
    sheet: Sheet | None = None


def read_members(path: Path, member: str | None, asked: Asked) -> Members:
    """Reads every member.

    **Arguments:**

    - `path`: a folder, or one table.
    - `member`: in tables that hold several members, the column that names them.
    - `asked`: what the names of columns leave open.

    **Raises:** [`ObservationError`][], where there is nothing to be read, or none of it can be.
    """
    sources = list(_sources(path, member, asked))
    shapes: dict[str, Shape] = {}
    refused: dict[str, str] = {}
    for source in sources:
        try:
            found = shape_of(source.sheet or _first_sheet(source.path, asked), asked)
            # Columns may stand in another order in each file.
            shapes[source.name] = found.in_order(next(iter(shapes.values()), found).names)
        except ObservationError as error:
            refused[source.name] = str(error)
    if not shapes:
        name, why = next(iter(refused.items()))
        others = f" (and {counted(len(refused) - 1, 'other member')} likewise)" if len(refused) > 1 else ""
        raise ObservationError(f"{path}: no member can be read: {name}: {why}{others}")
    shape = _common(list(shapes.values()))
    known = known_of(path)
    members, notes = [], []
    for source in sources:
        if source.name in refused:
            continue
        try:
            if different := _different(shapes[source.name], shape):
                raise ObservationError(different)
            if source.sheet is not None:
                reading = of_sheet(source.sheet, shape.domain, asked.columns, asked.units)
            else:
                reading = read([source.path], shape.domain, asked.columns, asked.units)
        except ObservationError as error:
            refused[source.name] = str(error).removeprefix(f"{source.path}: ")
            continue
        members.append(Member(source.name, reading.observations, known.get(source.name, {})))
        notes.append(reading.notes)
    if unknown := set(known) - {source.name for source in sources}:
        raise ObservationError(f"{KNOWN} names {named('member', sorted(unknown))}, of which there is no recording")
    return Members(shape.domain, members, refused, _said([m.name for m in members], notes))


def _sources(path: Path, member: str | None, asked: Asked) -> Iterator[_Source]:
    check_there(path, member)
    if path.is_dir():
        files, folders = in_folder(path)
        for file in files:
            yield from [_Source(stem(file), file)] if member is None else _parts(file, member, asked)
        yield from (_Source(folder.name, folder) for folder in folders)
    else:
        assert member is not None
        yield from _parts(path, member, asked)


def _parts(path: Path, member: str, asked: Asked) -> Iterator[_Source]:
    """The rows of each member of a table."""
    sheet = _sheet(path, asked, (member,))
    columns = [i for i, name in enumerate(sheet.names) if same_name(name, member)]
    if len(columns) != 1:
        names = named(sheet.noun, map(shown, filter(None, sheet.names)), 12)
        raise ObservationError(f"{path}: data.member={member}: there is no such {sheet.noun}; choose from {names}")
    cells = [str(cell).strip() for cell in sheet.cells(columns[0])]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(cells):
        rows.setdefault(name, []).append(row)
    if "" in rows:
        raise ObservationError(f"{path}: {sheet.place(rows[''][0])}: the cell of {member} is empty; fill it")
    for name, own in rows.items():
        yield _Source(name, path, _part(sheet, columns[0], own))


def _part(sheet: Sheet, column: int, rows: Sequence[int]) -> Sheet:
    """Some rows of a table, without the column of members."""
    kept = [i for i in range(len(sheet.names)) if i != column]

    def cells(i: int) -> "list[str] | np.ndarray":
        all_rows = sheet.cells(kept[i])
        return [all_rows[row] for row in rows] if isinstance(all_rows, list) else np.asarray(all_rows)[list(rows)]

    return dataclasses.replace(
        sheet,
        names=[sheet.names[i] for i in kept],
        units=[sheet.units[i] for i in kept],
        cells=cells,
        place=lambda row: sheet.place(rows[row]),
    )


def _first_sheet(path: Path, asked: Asked) -> Sheet:
    return _sheet(data_files(path)[0][0] if path.is_dir() else path, asked)


def _sheet(path: Path, asked: Asked, more: Sequence[str] = ()) -> Sheet:
    wanted = {str(name).strip().lower() for name in (*asked.columns.values(), *more)}
    try:
        return read_sheet(
            path,
            lambda name: usual_meaning(name) is not None or name.strip().lower() in wanted,
            missing_words(asked.dofs or 1),
        )
    except OSError as error:
        raise ObservationError(f"it cannot be read: {error.strerror or error}") from error


def _common(shapes: Sequence[Shape]) -> Shape:
    """What most of them are; units are those that the first of these says, where some say nothing."""
    (most, _), *_ = Counter(map(_kind, shapes)).most_common(1)
    alike = [one for one in shapes if _kind(one) == most]

    def first(units: Sequence[str]) -> str:
        return next(filter(None, units), "")

    n = alike[0].dofs
    positions = tuple(first([one.positions[i] for one in alike]) for i in range(n))
    momenta = tuple(first([one.momenta[i] for one in alike]) for i in range(n))
    return alike[0]._replace(positions=positions, momenta=momenta, time=first([one.time for one in alike]))


def _kind(shape: Shape) -> tuple[object, ...]:
    return shape.names, shape.angles, shape.logarithms, "p" in shape.observed


def _different(own: Shape, common: Shape) -> str:
    """In what a member differs from most, in words; empty where it does not."""
    if own.dofs != common.dofs:
        return f"it has {counted(own.dofs, 'coordinate')}, and most members have {common.dofs}"
    if own.angles != common.angles and all(unit for unit in own.positions):
        kinds = {True: "an angle", False: "a length"}
        i = next(i for i in range(own.dofs) if own.angles[i] != common.angles[i])
        return f"its position is {kinds[own.angles[i]]}, and that of most members {kinds[common.angles[i]]}"
    if own.logarithms != common.logarithms:
        return "its columns that hold logarithms are not the same as those of most members; name them alike"
    if ("p" in own.observed) != ("p" in common.observed):
        has, have = ("has no", "have") if "p" in common.observed else ("has", "have no")
        return f"it {has} momenta p, and most members {have}"
    if missing := [
        what
        for what, mine, theirs in (("time", own.time, common.time), ("q", own.positions[0], common.positions[0]))
        if theirs and not mine
    ]:
        return f"it gives no unit of {' and '.join(missing)}, but other members do; write it into its header"
    return ""


def _said(names: Sequence[str], notes: Sequence[Sequence[str]]) -> list[str]:
    """What holds for all members is said once; of what holds for some, how many and one of them."""
    counts = Counter(note for own in notes for note in dict.fromkeys(own))
    first = {note: name for name, own in reversed(list(zip(names, notes, strict=True))) for note in own}
    return [
        note if count == len(names) else f"{counted(count, 'member')}, such as {first[note]}: {note}"
        for note, count in counts.items()
    ]
