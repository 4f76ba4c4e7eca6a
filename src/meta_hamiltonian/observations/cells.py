"""Cells of text: which are numbers, which are times, and which are gaps."""

import math
import re
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from meta_hamiltonian.observations.forms import ObservationError, shown

# Stricter than Python's float(), which also takes 1_000, and digits of other scripts.
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA_NUMBER = re.compile(NUMBER.pattern.replace(r"\.", ","))
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
GAP = re.compile(r"|[-–—]{1,3}|[+-]?nan|na|n/a|#n/a|<na>|nat|null|none", re.IGNORECASE)
_DATE = r"(?:(\d{4})[-/.](\d\d?)[-/.](\d\d?)|(\d\d?)\.(\d\d?)\.(\d{4}))"
_CLOCK = r"(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
STAMP = re.compile(rf"{_DATE}[ T]+{_CLOCK} ?(Z|UTC|[+-]\d\d:?\d\d)?", re.ASCII)
CLOCK = re.compile(r"(\d\d?):(\d\d):(\d\d)(?:[.,](\d{1,9}))?", re.ASCII)

NUMBERS = {".": NUMBER, ",": _COMMA_NUMBER}
"""What a number is, by what separates its decimals."""

VALUES = {
    decimal: re.compile(
        "|".join(f"(?:{one.pattern})" for one in (pattern, _INFINITE, CLOCK, STAMP)), re.IGNORECASE | re.ASCII
    )
    for decimal, pattern in NUMBERS.items()
}
"""What a number or a time is. Patterns are used as they are, since cells are many."""


def numbers(cells: list[str], name: str, place: Callable[[int], str], decimal: str = ".") -> Float[np.ndarray, " rows"]:
    """The numbers of a column, not a number at its gaps.

    **Raises:** [`ObservationError`][], which names the line and the column of a cell that is no number.
    """
    pattern = NUMBERS[decimal]
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        if pattern.fullmatch(cell):
            values[i] = float(cell if decimal == "." else cell.replace(",", "."))
        elif GAP.fullmatch(cell):
            values[i] = math.nan
        else:
            raise ObservationError(f"{place(i)}: column {name}: {_wrong(cell, decimal)}")
    if len(bad := np.flatnonzero(np.isinf(values))):
        i = bad[0].item()
        raise ObservationError(
            f"{place(i)}: column {name}: {shown(cells[i])} is infinite as a 64-bit number; leave out the line"
        )
    return values


def _wrong(cell: str, decimal: str) -> str:
    if _INFINITE.fullmatch(cell):
        return f"{cell} is not a finite number; leave out the line"
    if decimal == ",":
        hint = "decimals have a comma in this file" if NUMBER.fullmatch(cell) else "write numbers as 1,5 or -2e-3"
    else:
        hint = "decimals have a point" if "," in cell else "write numbers as 1.5 or -2e-3"
    return f"{shown(cell)} is not a number; {hint}"
