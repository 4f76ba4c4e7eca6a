"""The plain values of a checkpoint, read without PyTorch, so that a refusal need not wait for its import."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from meta_hamiltonian.basics.exceptions import CheckpointError


def find_checkpoint(path: Path) -> Path:
    """The checkpoint of a run's folder, or the file itself.

    **Raises:** `FileNotFoundError` if there is none, [`CheckpointError`][] if it is no file that PyTorch has written.
    """
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give a run's folder or a checkpoint file")
    if not zipfile.is_zipfile(file):  # what torch.save writes; its reader stumbles over anything else
        raise CheckpointError(f"{file} is not a readable checkpoint: it is truncated, or no checkpoint at all")
    return file


def plain_value(file: Path, key: str) -> Any:
    """The value of a key of the checkpoint, with None for tensors; None where there is no such key or it is unreadable.

    Nothing in the file is run: classes are refused, but for those that hold tensors, which are left out. PyTorch reads
    the file afterwards, and says what is wrong with it.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(name) as content:
                found = _Unpickler(content).load()
    except (ValueError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError, AttributeError, TypeError):
        return None
    return found.get(key) if isinstance(found, dict) else None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module.split(".")[0] == "torch":
            return _nothing
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")

    def persistent_load(self, pid: Any) -> None:
        """The numbers of a tensor."""


def _nothing(*_: Any) -> None:
    """In the place of a tensor."""
