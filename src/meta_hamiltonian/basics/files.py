"""Files that are there whole or not at all, whenever the process is killed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from meta_hamiltonian.basics.exceptions import StorageError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; what is written there then takes the place of `path` at once.

    **Raises:** [`StorageError`][] for whatever the disk refuses.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())  # its content reaches the disk before its name does
        unfinished.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written ({error.strerror or error}); what was there before is unharmed. "
            "Make room, and go on with resume=true and the same folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # what cannot be written cannot always be removed
            unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """The text as a whole file."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text)
