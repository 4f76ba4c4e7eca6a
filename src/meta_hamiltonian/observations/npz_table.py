"""Tables as NumPy arrays."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from meta_hamiltonian.observations.forms import ObservationError, counted, shown
from meta_hamiltonian.observations.layout import (
    LABEL,
    Layout,
    Table,
    check_dimension,
    find_layout,
    flat,
    forms_words,
)


def read_npz(path: Path, n: int) -> Table:
    """Reads arrays whose names tell what they hold.

    **Arguments:**

    - `n`: degrees of freedom of the model.

    **Raises:** [`ObservationError`][], which names the array at fault.
    """
    with _open(path) as archive:
        members = archive.namelist()
        names = [member.removesuffix(".npy") for member in members]
        if not names:
            raise ObservationError(f"it holds no arrays; give {forms_words(n)}")
        layout = find_layout(names, n, "array")
        member_of = dict(zip(names, members, strict=True))
        arrays = {name: _load(archive, member_of[name], name) for name in flat(layout.columns)}
        labels = _load(archive, member_of[LABEL], LABEL) if layout.labelled else None

    values = {quantity: _stacked(arrays, columns) for quantity, columns in layout.columns.items()}
    rows, dofs = values["q"].shape
    for quantity, value in values.items():
        allowed = (rows, 1) if quantity == "t" else (rows, dofs)
        if value.shape != allowed:
            here, other = _shape(arrays, layout, quantity), _shape(arrays, layout, "q")
            raise ObservationError(f"array {here}, but {other}; give each the same number of rows and coordinates")
    check_dimension(dofs, n)
    if labels is not None and labels.shape != (rows,):
        raise ObservationError(f"array {LABEL} has shape {labels.shape}; give one label for each of the {rows} rows")
    return Table(values, None if labels is None else _labels(labels), [f"index {i}" for i in range(rows)])


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:  # zipfile raises nearly anything over a damaged archive
        raise ObservationError("it is no readable .npz: damaged, truncated, or another kind of file") from error


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


def _stacked(arrays: Mapping[str, Shaped[np.ndarray, "..."]], names: Sequence[str]) -> Float[np.ndarray, "rows _"]:
    """One quantity, from an array `[K]` or `[K, n]` called `q`, or from arrays `[K]` called `q1`, `q2`, ..."""
    for name in names:
        array = arrays[name]
        if array.dtype.kind not in "iuf":
            raise ObservationError(f"array {name}: it holds {array.dtype}, not numbers; save it as float64")
        matrix = array.ndim == 2 and array.shape[1] > 0 and name in ("q", "p", "v", "dq", "dp")
        if array.ndim != 1 and not matrix:
            raise ObservationError(f"array {name} has shape {array.shape}; give one value a row")
        with np.errstate(over="ignore"):  # of long doubles
            numbers = array.astype(np.float64)
        bad = np.argwhere(~np.isfinite(numbers))
        if len(bad):
            index = tuple(bad[0].tolist())
            place = str(index[0]) if array.ndim == 1 else str(list(index))
            raise ObservationError(f"array {name}: index {place}: {numbers[index]} is not finite; leave out the row")
        if len(array) != len(arrays[names[0]]):
            raise ObservationError(
                f"array {name} has {counted(len(array), 'row')}, but {names[0]} {len(arrays[names[0]])}; "
                "give each the same number"
            )
    return np.column_stack([arrays[name] for name in names]).astype(np.float64)


def _shape(arrays: Mapping[str, Shaped[np.ndarray, "..."]], layout: Layout, quantity: str) -> str:
    name = layout.columns[quantity][0]
    return f"{name} has shape {arrays[name].shape}"


def _labels(array: Shaped[np.ndarray, " rows"]) -> list[str]:
    if array.dtype.kind not in "iufU":
        raise ObservationError(f"array {LABEL}: it holds {array.dtype}; save text (dtype=str) or numbers")
    labels = [str(label).strip() for label in array.tolist()]
    for i, label in enumerate(labels):
        if not label or (array.dtype.kind == "f" and not np.isfinite(array[i])):
            raise ObservationError(f"array {LABEL}: index {i}: {shown(label)} is no label; give one to every row")
    return labels
