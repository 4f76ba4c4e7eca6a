"""From rows to trajectories: gaps, rows that stand twice, and several releases one after another."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from meta_hamiltonian.observations.forms import Inputs, ObservationError, counted, shown
from meta_hamiltonian.observations.layout import LABEL
from meta_hamiltonian.observations.table import Table

Rows = Int[np.ndarray, "_"]
# A time starts again where it goes back so near to the first one, as a part of the time that has gone by.
_NEAR = 0.1


def groups(table: Table) -> dict[str, Rows]:
    """The rows of each trajectory, by its label; those without a time are left out."""
    known = np.isfinite(table.values["t"][:, 0])
    if table.labels is None:
        return {"": np.flatnonzero(known)}
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(table.labels):
        rows.setdefault(label, [])
        if known[row]:
            rows[label].append(row)
    return {label: np.array(these, dtype=int) for label, these in rows.items()}


def merged(table: Table, rows: Rows) -> tuple[Rows, int]:
    """The rows without those that stand there again, and how many those are.

    Two rows of the same time may complete each other, where one has a gap and the other has not.

    **Raises:** [`ObservationError`][], where they contradict each other.
    """
    t = table.values["t"][rows, 0]
    again = np.flatnonzero(t[1:] == t[:-1]) + 1
    if not len(again):
        return rows, 0
    kept = np.ones(len(rows), dtype=bool)
    for i in again.tolist():
        first = i - 1
        while not kept[first]:
            first -= 1
        for values in (values for quantity, values in table.values.items() if quantity != "t"):
            before, here = values[rows[first]], values[rows[i]]
            if (np.isfinite(before) & np.isfinite(here) & (before != here)).any():
                raise ObservationError(
                    f"{table.place(int(rows[i]))}: column t: {t[i].item()!r} stands in {table.place(int(rows[first]))} "
                    "too, with other values; keep one of the two, or give times with more digits"
                )
            values[rows[first]] = np.where(np.isfinite(before), before, here)
        kept[i] = False
    return rows[kept], len(again)


def pieces(table: Table, rows: Rows, label: str, least: int, seen: Bool[np.ndarray, " all"]) -> list[Rows]:
    """The rows of each release: a new one begins where time starts again.

    **Arguments:** `least`: how many of the rows that are `seen` each of them needs.

    **Raises:** [`ObservationError`][], where times are out of order.
    """
    t = table.values["t"][rows, 0]
    late = np.flatnonzero(t[1:] < t[:-1]) + 1
    if not len(late):
        return [rows]
    starts = [0, *late.tolist()]
    found = np.split(rows, late)
    again = all(
        t[here] <= t[start] + _NEAR * (t[here - 1] - t[start])
        for start, here in zip(starts, late.tolist(), strict=False)
    )
    if label or not again or any(seen[piece].sum() < least for piece in found):
        i = int(late[0])
        which = f"trajectory {shown(label)}" if label else "the trajectory"
        hint = "sort by time" if label else f"sort by time, or name each trajectory in a column {LABEL}"
        raise ObservationError(
            f"{table.place(int(rows[i]))}: column t: {t[i].item()!r} is not after {t[i - 1].item()!r} "
            f"({table.place(int(rows[i - 1]))}) in {which}; {hint}"
        )
    return found


def observed(values: Mapping[str, Float[np.ndarray, "rows _"]]) -> Bool[np.ndarray, " rows"]:
    """At which rows all of the state is known."""
    parts = [np.isfinite(value).all(1) for quantity, value in values.items() if quantity in ("q", "p", "v", "dq", "dp")]
    return np.logical_and.reduce(parts)


def inputs_of(table: Table, rows: Rows) -> tuple[Inputs | None, str]:
    """The inputs of a trajectory, and a sentence where some had to be interpolated."""
    if "u" not in table.values:
        return None, ""
    t, u = table.values["t"][rows, 0], table.values["u"][rows].copy()
    known = np.isfinite(u)
    if not known.all(1).any():
        return None, "no input is known"
    gaps = int((~known.all(1)).sum())
    whole = np.ones(len(t), dtype=bool)
    for i in range(u.shape[1]):
        own = known[:, i]
        inside = (t >= t[own][0]) & (t <= t[own][-1]) if own.any() else np.zeros(len(t), dtype=bool)
        whole &= inside & known.any(1)
        u[:, i] = np.interp(t, t[own], u[own, i]) if own.any() else np.nan
    note = f"the input is missing in {counted(gaps, 'row')}, and interpolated linearly there" if gaps else ""
    return Inputs(t[whole], u[whole]), note


def span(values: Sequence[Float[np.ndarray, " instants"]]) -> str:
    """From the first to the last of all times, in words."""
    some = [t for t in values if len(t)]
    if not some:
        return "empty"
    return f"from {min(t[0] for t in some):.6g} to {max(t[-1] for t in some):.6g}"
