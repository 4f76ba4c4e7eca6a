"""Where the names of the columns stand among rows of cells, and where the values begin."""

import re
from collections.abc import Callable, Sequence

from meta_hamiltonian.observations.cells import GAP, VALUES
from meta_hamiltonian.observations.forms import ObservationError, counted
from meta_hamiltonian.observations.sheet import Sheet

Row = tuple[int, list[str]]
"""The number of a line, and its cells."""

_LOOKED_AT = 2000
# What stands in a row of units: short, and of letters that units have.
_UNIT = re.compile(r"[\[(]?(?:[A-Za-zµμ°ºΩ%][A-Za-zµμ°ºΩ%·*/^ ⁻¹²³\-0-9]{0,11}|1/[a-z]{1,3})[\])]?")


def find_header(rows: Sequence[Row], decimal: str, known: Callable[[str], bool]) -> tuple[int | None, int | None, int]:
    """The positions of the names, of the units, and of the first values among the rows.

    The names stand in the first row that has no number, is followed by numbers and has two known names; else in the
    row above most of the numbers.
    """
    rows = rows[:_LOOKED_AT]
    values = [sum(VALUES[decimal].fullmatch(cell) is not None for cell in cells) for _, cells in rows]
    named = [
        not count and any(not GAP.fullmatch(cell) for cell in cells)
        for count, (_, cells) in zip(values, rows, strict=True)
    ]
    candidates: list[tuple[int, int | None, int]] = []
    for i in range(len(rows)):
        if not named[i]:
            continue
        if i + 1 < len(rows) and not named[i + 1]:
            candidates.append((i, None, i + 1))
        elif i + 2 < len(rows) and not named[i + 2] and _are_units(rows[i + 1][1], len(rows[i][1])):
            candidates.append((i, i + 1, i + 2))
    recognized = [c for c in candidates if sum(map(known, rows[c[0]][1])) >= 2]
    if recognized:
        return recognized[0]
    if not candidates:
        return (0, None, 1) if rows and named[0] else (None, None, 0)
    first = sum(values[: candidates[0][0]])
    ends = [c[0] for c in candidates[1:]] + [len(rows)]
    weights = [sum(values[start:end]) for (_, _, start), end in zip(candidates, ends, strict=True)]
    best = max(range(len(candidates)), key=lambda k: weights[k])
    return (None, None, 0) if first > weights[best] else candidates[best]


def _are_units(cells: Sequence[str], width: int) -> bool:
    filled = [cell for cell in cells if not GAP.fullmatch(cell)]
    return bool(filled) and len(cells) <= width and all(_UNIT.fullmatch(cell) for cell in filled)


def sheet(
    rows: Sequence[Row], decimal: str, word: str, known: Callable[[str], bool], notes: Sequence[str] = ()
) -> Sheet:
    """The columns of a table.

    **Arguments:**

    - `rows`: those with something in them.
    - `word`: what a row of this kind of file is called, a `line` or a `row`.
    - `known`: whether a name is one that columns may have.

    **Raises:** [`ObservationError`][], where a row has another number of cells than the header.
    """
    notes = list(notes)
    head, unit_row, start = find_header(rows, decimal, known)
    if head is None:
        width = max((len(cells) for _, cells in rows), default=0)
        names, units = [str(i + 1) for i in range(width)], [""] * width
        header = f"{word} {rows[0][0]}" if rows else ""
    else:
        names = rows[head][1]
        width = len(names)
        units = [""] * width
        header = f"{word} {rows[head][0]}"
        if unit_row is not None:
            units = [cell.strip("[]() ") for cell in rows[unit_row][1][:width]]
            units += [""] * (width - len(units))
            notes.append(f"the units stand in {word} {rows[unit_row][0]}")
        if head:
            notes.append(f"the columns are named in {header}, what stands above is not read")
    body = [row for row in rows[start:] if head is None or row[1] != rows[head][1]]
    if (again := len(rows) - start - len(body)) > 0:
        notes.append(
            f"{counted(again, word)} with the names of the columns again {'is' if again == 1 else 'are'} left out"
        )
    least = width if head is None else max((i + 1 for i, name in enumerate(names) if name), default=0)
    for number, cells in body:
        if len(cells) < least or any(cells[width:]):
            raise ObservationError(
                f"{word} {number}: it has {counted(len(cells), 'cell')}, the header {least}; give one for each column"
            )
    numbers = [number for number, _ in body]
    texts = [cells if len(cells) >= width else cells + [""] * (width - len(cells)) for _, cells in body]
    return Sheet(
        names,
        units,
        lambda i: [cells[i] for cells in texts],
        lambda row: f"{word} {numbers[row]}",
        header=header,
        decimal=decimal,
        named=head is not None,
        notes=notes,
    )
