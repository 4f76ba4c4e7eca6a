"""The kinds of files that are read, by their endings."""

import gzip
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meta_hamiltonian.observations.arrays import read_mat, read_npz
from meta_hamiltonian.observations.forms import ObservationError
from meta_hamiltonian.observations.frames import read_json, read_json_lines, read_parquet, read_spreadsheet
from meta_hamiltonian.observations.sheet import Sheet
from meta_hamiltonian.observations.text_table import read_text

_Reader = Callable[[bytes, Callable[[str], bool], str], Sheet]

KINDS: Mapping[str, _Reader] = {
    **dict.fromkeys((".csv", ".txt", ".tsv", ".dat", ".asc"), read_text),
    **dict.fromkeys((".xlsx", ".xls"), read_spreadsheet),
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".npz": read_npz,
    ".parquet": read_parquet,
    ".mat": read_mat,
}
"""What reads a file with this ending, or with this ending and `.gz`."""

_MOST_BYTES = 1 << 30


def read_sheet(path: Path, known: Callable[[str], bool], missing: str) -> Sheet:
    """The table in a file.

    **Arguments:**

    - `known`: whether a name is one that columns may have.
    - `missing`: what to give, in words, where nothing is found.

    **Raises:** [`ObservationError`][], which says what is wrong with it.
    """
    if not path.is_file():
        raise ObservationError(f"there is no such file; give a {kinds_words()} file of observations")
    kind = kind_of(path)
    if kind not in KINDS:
        raise ObservationError(f"a file that ends in {kind or 'nothing'} is not read; save it as {kinds_words()}")
    content = path.read_bytes()
    if not content:
        raise ObservationError(f"the file is empty; {missing}")
    if path.suffix.lower() == ".gz":
        content = _unpacked(content)
    return KINDS[kind](content, known, missing)


def kind_of(path: Path) -> str:
    """The ending in small letters; of `swing.csv.gz` it is `.csv`."""
    return (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()


def stem(path: Path) -> str:
    """A file's name without its ending."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def kinds_words() -> str:
    """The endings, in words."""
    return f"{', '.join(list(KINDS)[:-1])} or {list(KINDS)[-1]}"


def data_files(folder: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    """The files of a folder that may hold observations, `run2` before `run10`, and those that may not."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "~$"))]
    files.sort(
        key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", path.name.lower())]
    )
    fit = [
        path for path in files if kind_of(path) in KINDS and not stem(path).lower().startswith(("readme", "license"))
    ]
    return fit, [path for path in files if path not in fit]


def _unpacked(content: bytes) -> bytes:
    import io

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ObservationError("it is no readable .gz: damaged, truncated, or another kind of file") from error
    if len(unpacked) > _MOST_BYTES:
        raise ObservationError("it holds more than 1 GiB; give fewer instants")
    return unpacked
