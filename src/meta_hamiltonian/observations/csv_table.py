"""Tables as text."""

import csv
import math
import re
from pathlib import Path

import numpy as np

from meta_hamiltonian.observations.forms import ObservationError, at_place, counted, shown
from meta_hamiltonian.observations.layout import (
    LABEL,
    NUMBER,
    Table,
    check_dimension,
    find_layout,
    flat,
    forms_words,
)

_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")
# Spaces between a closing quote and the end of its cell, which the csv module does not forgive.
_AFTER_QUOTE = re.compile(r'(?<!")"[ \t]+(?=[,;]|$)')


def read_csv(path: Path, n: int) -> Table:
    """Reads a table with a header, whose cells are separated by commas or by semicolons.

    **Arguments:**

    - `n`: degrees of freedom of the model.

    **Raises:** [`ObservationError`][], which names the line at fault.
    """
    lines = _lines(path.read_bytes())
    if not lines:
        raise ObservationError(f"it has no header, only blank lines and comments; give {forms_words(n)}")
    number, header = lines[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    with at_place(f"line {number}"):
        names = _cells(header, delimiter)
        layout = find_layout(names, n, "column")
        check_dimension(len(layout.columns["q"]), n)
    position = {name: i for i, name in enumerate(names)}
    wanted = flat(layout.columns)
    rows: list[list[float]] = []
    labels: list[str] = []
    for number, line in lines[1:]:
        with at_place(f"line {number}"):
            cells = _cells(line, delimiter)
            if len(cells) != len(names):
                raise ObservationError(
                    f"it has {counted(len(cells), 'cell')}, the header {len(names)}; give one value a column"
                )
            rows.append([_number(cells[position[name]], name) for name in wanted])
            if layout.labelled:
                labels.append(_filled(cells[position[LABEL]], LABEL))
    by_name = dict(zip(wanted, np.array(rows).reshape(-1, len(wanted)).T, strict=True))
    return Table(
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
    if not NUMBER.fullmatch(_filled(cell, name)):
        if _NOT_FINITE.fullmatch(cell):
            raise ObservationError(f"column {name}: {cell} is not a finite number; leave out the line")
        hint = "decimals have a point" if "," in cell else "write numbers as 1.5 or -2e-3"
        raise ObservationError(f"column {name}: {shown(cell)} is not a number; {hint}")
    value = float(cell)
    if math.isinf(value):
        raise ObservationError(f"column {name}: {shown(cell)} is infinite as a 64-bit number; leave out the line")
    return value
