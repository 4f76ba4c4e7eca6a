"""A user's observations of one system, read from a `.csv` or an `.npz` file.

| columns | what they are |
|---|---|
| `q,p,dq,dp` | states and their time derivatives; a column `t` or `trajectory` beside them does not matter |
| `t,q,p` | trajectories with momenta |
| `t,q,v` | trajectories with velocities |
| `t,q` | trajectories of positions alone |

With n > 1 degrees of freedom, `q` is `q1..qn` and so on (in an `.npz` also one array `q` of shape `[K, n]`). Several
trajectories have a column `trajectory`, any text or number. The order of the columns is free.
"""

import os
from pathlib import Path

import numpy as np

from meta_hamiltonian.observations.csv_table import read_csv
from meta_hamiltonian.observations.forms import (
    Derivatives,
    ObservationError,
    Trajectory,
    at_place,
    counted,
    shown,
)
from meta_hamiltonian.observations.layout import FORMS, LABEL, Table, forms_words
from meta_hamiltonian.observations.npz_table import read_npz


def read_observations(path: str | os.PathLike[str], state_dim: int) -> Derivatives | list[Trajectory]:
    """The observations in a file; which form they have follows from their columns.

    **Arguments:**

    - `path`: a `.csv` (UTF-8, with a header, cells separated by commas, or by semicolons if the header has no comma;
        blank lines and lines that start with `#` are skipped) or an `.npz` with arrays of the same names.
    - `state_dim`: 2n of the model that they are for.

    **Returns:**

    [`Derivatives`][], or the trajectories in the order of their first rows.

    **Raises:**

    [`ObservationError`][], which names the file, the line, the column, and what to do. Nothing in a file is run.
    """
    path = Path(path)
    with at_place(str(path)):
        try:
            table = _read(path, state_dim // 2)
        except OSError as error:
            raise ObservationError(f"it cannot be read: {error.strerror or error}") from error
        values = table.values
        if "dq" in values:
            return Derivatives(np.hstack([values["q"], values["p"]]), np.hstack([values["dq"], values["dp"]]))
        return _trajectories(table)


def _read(path: Path, n: int) -> Table:
    if path.is_dir():
        raise ObservationError("this is a folder; give a .csv or .npz file")
    if not path.is_file():
        raise ObservationError("there is no such file; give a .csv or .npz file of observations")
    kind = path.suffix.lower()
    if kind not in (".csv", ".npz"):
        raise ObservationError(f"a file that ends in {kind or 'nothing'} is not read; save it as .csv or .npz")
    if path.stat().st_size == 0:
        raise ObservationError(f"the file is empty; give {forms_words(n)}")
    table = read_csv(path, n) if kind == ".csv" else read_npz(path, n)
    if not table.places:
        raise ObservationError("it names its columns and has no rows; add at least one observation")
    return table


def _trajectories(table: Table) -> list[Trajectory]:
    groups: dict[str, list[int]] = {}
    for row, label in enumerate(table.labels or [""] * len(table.places)):
        groups.setdefault(label, []).append(row)
    return [_trajectory(table, rows, label) for label, rows in groups.items()]


def _trajectory(table: Table, rows: list[int], label: str) -> Trajectory:
    t = table.values["t"][rows, 0]
    which = f"trajectory {shown(label)}" if label else "the trajectory"
    late = np.flatnonzero(t[1:] <= t[:-1])
    if len(late):
        i = late[0].item()
        before, here = f"{t[i].item()!r} ({table.places[rows[i]]})", f"{t[i + 1].item()!r}"
        hint = "sort by time" if label else f"sort by time, or name each trajectory in a column {LABEL}"
        raise ObservationError(
            f"{table.places[rows[i + 1]]}: column t: {here} is not after {before} in {which}; {hint}"
        )
    form = tuple(table.values)
    least = FORMS[form]
    if len(rows) < least:
        held = counted(len(rows), "instant")
        raise ObservationError(
            f"{table.places[rows[-1]]}: {which} ends after {held}; with {','.join(form)} it needs at least {least}"
        )
    parts = {quantity: value[rows] for quantity, value in table.values.items()}
    return Trajectory(t, parts["q"], parts.get("p"), parts.get("v"), label)
