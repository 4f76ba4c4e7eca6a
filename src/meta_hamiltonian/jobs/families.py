"""The families of a sweep, and how well each algorithm does in each of them."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meta_hamiltonian.evaluation.results import USUAL_STEPS

Row = Mapping[str, Any]
"""A row of `summary.csv` of a finished job, without the overrides that all jobs share."""

# Overrides that choose the family, or one of several measurements of the same algorithm.
_NOT_THE_ALGORITHM = ("system", "friction", "drive", "seed", "shots")


def without_common_overrides(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows without the overrides that all of their jobs share: readers need to see what tells the jobs apart."""
    of_jobs = [row["overrides"].split() for row in rows]
    common = set(of_jobs[0]).intersection(*of_jobs) if len({row["job"] for row in rows}) > 1 else set()
    return [
        {**row, "overrides": " ".join(word for word in words if word not in common)}
        for row, words in zip(rows, of_jobs, strict=True)
    ]


def by_family(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each family, by its name, such as `pendulum` or `pendulum+viscous`."""
    return _grouped(rows, lambda row: row["system"])


def largest_shots(rows: Sequence[Row]) -> int:
    """The largest K."""
    return max(int(row["shots"]) for row in rows)


def by_algorithm(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of one family by algorithm: each job's row from the family's largest K, after 10 gradient steps or the
    largest number below."""
    largest = largest_shots(rows)
    of_jobs = _grouped([row for row in rows if int(row["shots"]) == largest], lambda row: row["job"])
    usual = [
        max((row for row in job if int(row["steps"]) <= USUAL_STEPS), key=lambda row: int(row["steps"]), default=job[0])
        for job in of_jobs.values()
    ]
    return _grouped(usual, algorithm)


def errors(rows: Sequence[Row]) -> dict[str, float]:
    """The relative error of one family's field by algorithm: the median over systems, averaged over seeds."""
    found = by_algorithm(rows)
    return {name: statistics.mean(float(row["field_rel_median"]) for row in own) for name, own in found.items()}


def algorithm(row: Row) -> str:
    """The name that tells the job's algorithm from the others, such as `ridge`, or `anil data.noise=0.1`."""
    words = [word for word in row["overrides"].split() if word.lstrip("+").split("=")[0] not in _NOT_THE_ALGORITHM]
    return " ".join(word.removeprefix("algo=").removeprefix("method=") for word in words) or row["algo"]


def table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The lines of a table: families down, algorithms across, the smallest error of each family in bold."""
    families = by_family(rows)
    found = {family: errors(own) for family, own in families.items()}
    names = dict.fromkeys(name for own in found.values() for name in own)
    lines = []
    for family, own in found.items():
        best = min(own.values())
        cells = {name: f"{own[name]:.2g}" if name in own else "" for name in names}
        bold = {name: f"**{cell}**" for name, cell in cells.items() if own.get(name) == best}
        lines.append({"system": family, "K": str(largest_shots(families[family]))} | cells | bold)
    return lines


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
