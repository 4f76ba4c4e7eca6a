"""Tables as text: how they are encoded, and what separates their cells and their decimals."""

import csv
import re
from collections.abc import Callable, Sequence

from meta_hamiltonian.observations.cells import GAP, VALUES
from meta_hamiltonian.observations.forms import ObservationError
from meta_hamiltonian.observations.header import Row, sheet
from meta_hamiltonian.observations.sheet import Sheet

_LINE_END = re.compile(r"\r\n|\r|\n")
_COMMENT = re.compile(r"\s*(?:#|%|//)")
# Spaces between a closing quote and the end of its cell, which the csv module does not forgive.
_AFTER_QUOTE = re.compile(r'(?<!")"[ \t]+(?=[,;\t]|$)')
_BLANKS = " "
# What separates cells, and decimals; where two explain the lines equally well, the first.
_DIALECTS = (("\t", "."), (";", "."), (",", "."), (_BLANKS, "."), ("\t", ","), (";", ","), (_BLANKS, ","), (",", ","))
_IN_HEADERS = (",", ";", "\t", _BLANKS)
_LOOKED_AT = 1000
# What belongs to the name before it where blanks separate the names: `(s)`, `[deg]`, `/ s`, `in s`.
_BLANK_UNIT = re.compile(r"[ \t]+(?=[\[({])|[ \t]+(?:/|in)[ \t]+")
_BYTE_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


def read_text(content: bytes, known: Callable[[str], bool], missing: str) -> Sheet:
    """Reads a table whose cells are separated by commas, semicolons, tabs or blanks.

    **Arguments:**

    - `known`: whether a name is one that columns may have.
    - `missing`: what to give, in words, where nothing is found.

    **Raises:** [`ObservationError`][], which names the line at fault.
    """
    lines = list(enumerate(_LINE_END.split(_decoded(content)), 1))
    comments = [(number, line) for number, line in lines if _COMMENT.match(line)]
    filled = [(number, line) for number, line in lines if line.strip() and not _COMMENT.match(line)]
    if not filled:
        raise ObservationError(f"it has no header, only blank lines and comments; {missing}")
    delimiter, decimal = _dialect([line for _, line in _sample(filled)])
    if delimiter != ";":
        filled = [(number, line) for number, line in filled if not line.startswith(";")]
    rows = _rows(filled, delimiter, decimal)
    if rows and any(VALUES[decimal].fullmatch(cell) for cell in rows[0][1]):
        rows = _commented_header(comments, rows, delimiter, known) + rows
    notes = ["decimals are written with a comma"] if decimal == "," else []
    return sheet(rows, decimal, "line", known, notes)


def _decoded(content: bytes) -> str:
    """The text, which is in UTF-8 unless it says otherwise; else in the encoding of Western Windows."""
    encoding = next((name for mark, name in _BYTE_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(error.object[: error.start].decode("latin-1"))) + 1
        problem = f"line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8 text; save it as UTF-8 CSV"
        try:
            text = content.decode("cp1252") if encoding == "utf-8" else None
        except UnicodeDecodeError:
            text = None
        if text is None or not all(c.isprintable() or c in "\r\n\t\xa0\0" for c in text):
            raise ObservationError(problem) from error
    if (nul := text.find("\0")) >= 0:
        line = len(_LINE_END.findall(text[:nul])) + 1
        raise ObservationError(f"line {line}: it holds a NUL byte, so it is no text; save it as UTF-8 CSV")
    return text.replace("\xa0", " ").replace("−", "-").removeprefix("\ufeff")


def _sample(lines: Sequence[tuple[int, str]]) -> Sequence[tuple[int, str]]:
    """The first lines, and others all over the file."""
    return (
        lines if len(lines) <= 2 * _LOOKED_AT else [*lines[:_LOOKED_AT], *lines[_LOOKED_AT :: len(lines) // _LOOKED_AT]]
    )


def _dialect(lines: Sequence[str]) -> tuple[str, str]:
    """What separates the cells and the decimals: that with which most cells are numbers, and fewest are not."""
    split = {delimiter: [_split(line, delimiter) for line in lines] for delimiter in _IN_HEADERS}

    def score(dialect: tuple[str, str]) -> int:
        delimiter, decimal = dialect
        total = 0
        for cells in split[delimiter]:
            if cells and len(cells) > 1:
                values = sum(VALUES[decimal].fullmatch(cell) is not None for cell in cells)
                total += 2 * values - sum(not GAP.fullmatch(cell) for cell in cells) if values else 0
        return total

    scores = {dialect: score(dialect) for dialect in _DIALECTS}
    best = max(scores, key=lambda dialect: scores[dialect])
    if scores[best] > 0:
        return best
    return max(_IN_HEADERS, key=lambda d: len(split[d][0] or [])), "."


def _rows(lines: Sequence[tuple[int, str]], delimiter: str, decimal: str) -> list[Row]:
    """The cells of the lines. What cannot be split is at fault only below the names, above them stand remarks."""
    rows: list[Row] = []
    problem: tuple[int, str] | None = None
    for number, line in lines:
        try:
            cells = _cells(line, delimiter)
        except csv.Error as error:
            if rows and any(VALUES[decimal].fullmatch(cell) for cell in rows[-1][1]):
                raise _unsplit(number, error) from error
            problem = problem or (number, str(error))
            continue
        if any(cells):
            rows.append((number, cells))
    if problem and (
        not rows or all(number < problem[0] for number, _ in rows) or (len(rows[0][1]) > 1 and rows[0][0] < problem[0])
    ):
        raise _unsplit(*problem)
    if delimiter == _BLANKS:
        return _joined_names(lines, rows, decimal)
    return rows


def _unsplit(number: int, error: object) -> ObservationError:
    return ObservationError(f"line {number}: it cannot be split into cells ({error}); check its quotes")


def _split(line: str, delimiter: str) -> list[str] | None:
    try:
        return _cells(line, delimiter)
    except csv.Error:
        return None


def _cells(line: str, delimiter: str) -> list[str]:
    """One line alone, so that a quote left open does not swallow those after it."""
    if delimiter == _BLANKS:
        line = " ".join(line.split())
    if '"' not in line and len(line) < csv.field_size_limit():
        return [cell.strip() for cell in line.split(delimiter)]
    line = _AFTER_QUOTE.sub('"', line)
    # Not the spaces after a tab, which the module would take for a separator that is doubled.
    cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=delimiter != _BLANKS, strict=True))
    return [cell.strip() for cell in cells]


def _joined_names(lines: Sequence[tuple[int, str]], rows: list[Row], decimal: str) -> list[Row]:
    """The rows, where names that hold blanks themselves, such as `Time (s)`, are put together again."""
    widths = [len(cells) for _, cells in rows if any(VALUES[decimal].fullmatch(cell) for cell in cells)]
    width = max(set(widths), key=widths.count, default=0)
    text = dict(lines)

    def joined(number: int, cells: list[str]) -> list[str]:
        if len(cells) <= width or any(VALUES[decimal].fullmatch(cell) for cell in cells):
            return cells
        line = text[number].strip()
        glued = _BLANK_UNIT.sub(lambda match: match[0].strip().join("\0\0") if match[0].strip() else "\0", line)
        ways = ([cell.replace("\0", " ") for cell in glued.split()], re.split(r"\t+|[ \t]{2,}", line))
        return next((way for way in ways if len(way) == width), cells)

    return [(number, joined(number, cells)) for number, cells in rows]


def _commented_header(
    comments: Sequence[tuple[int, str]], rows: Sequence[Row], delimiter: str, known: Callable[[str], bool]
) -> list[Row]:
    """The last comment above the values, if it names their columns, as NumPy writes it."""
    for number, line in reversed([(number, line) for number, line in comments if number < rows[0][0]]):
        text = _COMMENT.sub("", line, count=1).lstrip("#%/ ")
        for way in (delimiter, *_IN_HEADERS):
            cells = _split(text, way)
            if cells and len(cells) == len(rows[0][1]) and sum(map(known, cells)) >= min(2, len(cells)):
                return [(number, cells)]
    return []
