"""Tables that pandas reads: spreadsheets, JSON and Parquet."""

import datetime
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from meta_hamiltonian.observations.cells import VALUES
from meta_hamiltonian.observations.forms import ObservationError, named, shown
from meta_hamiltonian.observations.header import sheet
from meta_hamiltonian.observations.sheet import Sheet

if TYPE_CHECKING:
    pass


def read_spreadsheet(content: bytes, known: Callable[[str], bool], missing: str) -> Sheet:
    """Reads the first sheet of an Excel file that has numbers.

    **Raises:** [`ObservationError`][], where there is none.
    """
    import pandas

    try:
        sheets = pandas.read_excel(io.BytesIO(content), sheet_name=None, header=None, dtype=object)
    except Exception as error:  # the readers raise nearly anything over a damaged file
        raise ObservationError("it is no readable Excel file: damaged, locked, or another kind of file") from error
    for title, table in sheets.items():
        texts = [[_text(value) for value in row] for row in table.to_numpy().tolist()]
        rows = [(number, cells) for number, cells in enumerate(texts, 1) if any(cells)]
        if sum(any(VALUES["."].fullmatch(cell) for cell in cells) for _, cells in rows) >= 2:
            others = [str(other) for other in sheets if other != title]
            note = f"sheet {shown(str(title))} is read" + (
                f", not {named('sheet', map(shown, others))}" if others else ""
            )
            return sheet(rows, ".", "row", known, [note] if others else [])
    raise ObservationError(f"no sheet of it holds numbers; {missing}")


def read_parquet(content: bytes, known: Callable[[str], bool], missing: str) -> Sheet:
    """Reads an Apache Parquet file."""
    import pandas

    try:
        table = pandas.read_parquet(io.BytesIO(content))
    except Exception as error:
        raise ObservationError("it is no readable Parquet file: damaged, or another kind of file") from error
    if any(table.index.names):
        table = table.reset_index()
    return _columns({str(name): table.iloc[:, i].tolist() for i, name in enumerate(table.columns)}, missing)


def read_json(content: bytes, known: Callable[[str], bool], missing: str) -> Sheet:
    """Reads records, or a list for each column; either may lie under one name, such as `data`."""
    return _columns(_json_columns(_parsed(content)), missing)


def read_json_lines(content: bytes, known: Callable[[str], bool], missing: str) -> Sheet:
    """Reads a record a line."""
    lines = enumerate(content.splitlines(), 1)
    records = [_parsed(line, f"line {number}: ") for number, line in lines if line.strip()]
    return _columns(_json_columns(records), missing)


def _parsed(content: bytes, place: str = "") -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        detail = (
            f"line {error.lineno}, {error.msg}" if isinstance(error, json.JSONDecodeError) else "another kind of file"
        )
        raise ObservationError(f"{place}it is no readable JSON ({detail})") from error


def _json_columns(found: Any) -> Mapping[str, Sequence[Any]]:
    """The columns in what was parsed."""
    if isinstance(found, list) and found and all(isinstance(record, dict) for record in found):
        names = list(dict.fromkeys(name for record in found for name in record))
        return {name: [record.get(name) for record in found] for name in names}
    if isinstance(found, dict):
        columns = {name: values for name, values in found.items() if isinstance(values, list)}
        flat = {name: values for name, values in columns.items() if not any(isinstance(v, dict) for v in values)}
        if len(flat) > 1:
            rows = max(map(len, flat.values()))
            return {name: values for name, values in flat.items() if len(values) == rows}
        inside = [value for value in found.values() if isinstance(value, list | dict)]
        for value in [found["data"]] if "data" in found else inside if len(inside) == 1 else []:
            return _json_columns(value)
    raise ObservationError(
        'it holds no table; give records, [{"t": 0, "q": 1}, ...], or columns, {"t": [...], "q": [...]}'
    )


def _columns(columns: Mapping[str, Sequence[Any]], missing: str) -> Sheet:
    """A table from its columns; one whose values are lists becomes several, which are numbered."""
    flat: dict[str, list[str]] = {}
    for name, values in columns.items():
        lists = [value for value in values if isinstance(value, list | tuple)]
        if lists and len(lists) == len(values) and len({len(value) for value in lists}) == 1:
            for i in range(len(lists[0])):
                flat[f"{name}{i + 1}"] = [_text(value[i]) for value in lists]
        else:
            flat[name] = [_text(value) for value in values]
    if not flat:
        raise ObservationError(f"it names no columns; {missing}")
    names = list(flat)
    return Sheet(names, [""] * len(names), lambda i: flat[names[i]], lambda row: f"row {row + 1}")


def _text(value: Any) -> str:
    """A cell as text, with every digit."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, datetime.datetime | datetime.time):
        return value.isoformat()
    return str(value).strip()
