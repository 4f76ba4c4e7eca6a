"""Where the recordings of the members of a family are. Nothing here reads them, nor imports PyTorch."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from meta_hamiltonian.observations.forms import ObservationError, named
from meta_hamiltonian.observations.kinds import data_files, kinds_words, stem
from meta_hamiltonian.observations.known import KNOWN


def in_folder(path: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    """The files and the folders of a folder, each with the recordings of a member.

    **Raises:** [`ObservationError`][] where there are none, or two of the same name.
    """
    files, _ = data_files(path)
    files = [file for file in files if file.name != KNOWN]
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and data_files(p)[0])
    if not files and not folders:
        raise ObservationError(
            f"{path}: the folder holds no recordings; give a {kinds_words()} file, or folder, for each member"
        )
    if twice := [name for name, count in Counter(map(stem, [*files, *folders])).items() if count > 1]:
        raise ObservationError(f"{path}: {named('member', twice)} stands there twice; give each its own name")
    return files, folders


def check_there(path: Path, member: str | None) -> None:
    """**Raises:** [`ObservationError`][] where there is nothing to be read, or no column of members is named for a
    table."""
    if path.is_dir():
        in_folder(path)
    elif not path.exists():
        raise ObservationError(
            f"{path}: there is no such folder; give data.path=FOLDER with a file or a folder for each member"
        )
    elif member is None:
        raise ObservationError(f"{path}: one table holds all members; say which column names them: data.member=COLUMN")
