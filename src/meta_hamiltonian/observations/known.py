"""What is known of the members of a family besides their recordings."""

import csv
from collections.abc import Mapping
from pathlib import Path

from meta_hamiltonian.observations.forms import ObservationError

KNOWN = "members.csv"
"""The file that says it, in the folder of the recordings."""

# Numbers are shown in so many digits.
_DIGITS = 3


def known_of(path: Path) -> dict[str, dict[str, str]]:
    """What `members.csv` in the folder, or beside the table, says of each member: its first column names them.

    **Raises:** [`ObservationError`][] for a table that has no such form.
    """
    file = (path if path.is_dir() else path.parent) / KNOWN
    if not file.is_file() or file == path:
        return {}
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    if not rows or len(rows[0]) < 2:
        raise ObservationError(f"{file}: it needs a column of members, the first, and one of what is known of them")
    header = [cell.strip() for cell in rows[0]]
    if short := next((i for i, row in enumerate(rows[1:], 2) if len(row) != len(header)), None):
        raise ObservationError(f"{file}: row {short} has not as many cells as the header; give one to each column")
    return {row[0].strip(): {k: v.strip() for k, v in zip(header[1:], row[1:], strict=True)} for row in rows[1:]}


def known_words(known: Mapping[str, str]) -> str:
    """What is known in words such as `m = 0.812, l = 1.1`; empty where nothing is."""
    return ", ".join(f"{name} = {_short(value)}" for name, value in known.items() if value)


def _short(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        return value
    return f"{number:.{_DIGITS}g}"
