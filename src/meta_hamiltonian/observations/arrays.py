"""Tables as arrays with names: archives of NumPy, and MATLAB's files."""

import io
import zipfile
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from meta_hamiltonian.observations.forms import ObservationError, shown
from meta_hamiltonian.observations.sheet import Sheet


def read_npz(content: bytes, known: Callable[[str], bool], missing: str) -> Sheet:
    """Reads arrays whose names tell what they hold; only those that are needed, and no Python objects.

    **Raises:** [`ObservationError`][], which names the array at fault.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.namelist()
    except Exception as error:  # zipfile raises nearly anything over a damaged archive
        raise ObservationError(
            "it is no readable .npz: damaged, truncated, or another kind of file; save it again with numpy.savez"
        ) from error
    names = [member.removesuffix(".npy") for member in members]
    return _sheet(names, lambda i: _load(archive, members[i], names[i]), missing)


def read_mat(content: bytes, known: Callable[[str], bool], missing: str) -> Sheet:
    """Reads the variables of a MATLAB file that are arrays of numbers; a row becomes a column.

    **Raises:** [`ObservationError`][], where it was saved in a format that only HDF5 reads.
    """
    from scipy.io import loadmat

    if (
        content[:512].startswith(b"MATLAB 7.3")
        or content[:8] == b"\x89HDF\r\n\x1a\n"
        or content[512:520] == b"\x89HDF\r\n\x1a\n"
    ):
        raise ObservationError("it is a MATLAB file of version 7.3, which is not read; save it with save(file, '-v7')")
    try:
        found = loadmat(io.BytesIO(content))
    except Exception as error:
        raise ObservationError("it is no readable MATLAB file: damaged, or another kind of file") from error
    variables = {name: value for name, value in found.items() if not name.startswith("__")}
    names = list(variables)
    return _sheet(names, lambda i: _column(variables[names[i]]), missing)


def _column(variable: object) -> Shaped[np.ndarray, "..."]:
    array = np.asarray(variable)
    return array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array


def _sheet(names: list[str], load: Callable[[int], Shaped[np.ndarray, "..."]], missing: str) -> Sheet:
    if not names:
        raise ObservationError(f"it holds no arrays; {missing}")
    return Sheet(names, [""] * len(names), load, lambda row: f"index {row}", noun="array")


def _load(archive: zipfile.ZipFile, member: str, name: str) -> Shaped[np.ndarray, "..."]:
    try:
        # All of it first, which checks its checksum.
        return np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)
    except Exception as error:  # zipfile and NumPy raise nearly anything over a damaged array
        if "allow_pickle" in str(error):
            problem = "it holds Python objects, which are not read; save plain numbers, or text with dtype=str"
        else:
            problem = "it is no readable array: damaged, or not made by numpy.savez"
        raise ObservationError(f"array {name}: {problem}") from error


def array_numbers(array: Shaped[np.ndarray, "..."], name: str, matrix: bool) -> Float[np.ndarray, "rows _"]:
    """The numbers of an array, a column for each coordinate; not a number where it has none.

    **Arguments:** `matrix`: whether it may have several columns.
    """
    if array.dtype.kind not in "iuf":
        raise ObservationError(f"array {name}: it holds {array.dtype}, not numbers; save it as float64")
    if array.ndim != 1 and not (matrix and array.ndim == 2 and array.shape[1] > 0):
        raise ObservationError(f"array {name} has shape {array.shape}; give one value for each row")
    with np.errstate(over="ignore"):  # of long doubles
        numbers = array.astype(np.float64)
    if len(bad := np.argwhere(np.isinf(numbers))):
        index = tuple(bad[0].tolist())
        place = str(index[0]) if array.ndim == 1 else str(list(index))
        raise ObservationError(f"array {name}: index {place}: {numbers[index]} is not finite; leave out the row")
    return numbers[:, None] if numbers.ndim == 1 else numbers


def array_labels(array: Shaped[np.ndarray, "..."], name: str, rows: int) -> list[str]:
    """The labels of trajectories, from an array of text or of numbers."""
    if array.dtype.kind not in "iufU":
        raise ObservationError(f"array {name}: it holds {array.dtype}; save text (dtype=str) or numbers")
    if array.shape != (rows,):
        raise ObservationError(f"array {name} has shape {array.shape}; give one label for each of the {rows} rows")
    labels = [str(label).strip() for label in array.tolist()]
    for i, label in enumerate(labels):
        if not label or (array.dtype.kind == "f" and not np.isfinite(array[i])):
            raise ObservationError(f"array {name}: index {i}: {shown(label)} is no label; give one to every row")
    return labels
