"""The methods of a sweep over many families, compared in one table."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meta_hamiltonian.jobs.families import Row, by_family
from meta_hamiltonian.jobs.job import read_finished
from meta_hamiltonian.reports.tables import markdown_table

COLUMNS = (
    "system",
    "shots",
    "method",
    "steps",
    "field_error",
    "trajectory_error",
    "energy_error",
    "n_diverged",
    "n_systems",
    "training_seconds",
    "adaptation_ms",
    "unknowns",
    "jobs",
    "training_processor_seconds",
)
"""The columns of `methods.csv`."""
OURS = ("ridge", "ridge_latents")
"""What the others are compared with: the closed form, without and with unknowns inside the law."""
# Sweeps over fewer algorithms have the table of families alone.
_MANY = 4


def of_methods(sweep: Path, finished: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows of [`rows_of`][], where there are several families and at least four algorithms; else none."""
    if len(by_family(finished)) < 2 or len({row["algo"] for row in finished}) < _MANY:
        return []
    return rows_of(sweep, finished)


def rows_of(sweep: Path, finished: Sequence[Row]) -> list[dict[str, Any]]:
    """A row for each family, K and method.

    A method is named as the job's override `method=` names it, without its folder, or else by its algorithm. Each job
    counts after the number of gradient steps that serves its method best, and the mean is taken over jobs that differ
    in their seed.

    - `field_error`, `trajectory_error`: relative, medians over systems: ‖f̂ − f‖ / ‖f‖ on the grid, ‖x̂ − x‖ / ‖x‖ along
        the orbit.
    - `energy_error`: RMS of the error of the energy along the orbit, the median over systems, in units of the family.
    - `training_seconds`: those of training and validation, and `training_processor_seconds` those of the processor,
        which other work on the machine does not count in; `adaptation_ms`: those of one system, when all are adapted
        to together.
    - `unknowns`: numbers that adaptation finds for a member.
    """
    rows: dict[tuple[str, int, str], dict[str, list[Row]]] = {}
    for row in finished:
        key = row["system"], int(row["shots"]), _method(row)
        rows.setdefault(key, {}).setdefault(row["job"], []).append(row)
    return [
        _row(sweep, *key, [min(own, key=lambda row: float(row["field_rel_median"])) for own in jobs.values()])
        for key, jobs in rows.items()
    ]


def _method(row: Row) -> str:
    named = [word.partition("=")[2] for word in row["overrides"].split() if word.startswith("method=")]
    return named[-1].rpartition("/")[2] if named else row["algo"]


def _row(sweep: Path, system: str, shots: int, method: str, best: Sequence[Row]) -> dict[str, Any]:
    def mean(column: str) -> float:
        return statistics.mean(float(row[column]) for row in best)

    jobs = [found for row in best if (found := read_finished(sweep / row["job"]))]

    def seconds(kind: str) -> float | str:
        known = [job[kind]["training"] for job in jobs if kind in job]
        return round(statistics.mean(known), 1) if known else ""

    return {
        "system": system,
        "shots": shots,
        "method": method,
        "steps": best[0]["steps"],
        "field_error": math.sqrt(mean("field_rel_median")),
        "trajectory_error": mean("state_rel_median"),
        "energy_error": math.sqrt(mean("energy_mse_median")),
        "n_diverged": round(mean("n_diverged")),
        "n_systems": best[0]["n_systems"],
        "training_seconds": seconds("seconds"),
        "adaptation_ms": round(1e3 * mean("adapt_seconds") / int(best[0]["n_systems"]), 3),
        "unknowns": best[0]["unknowns"],
        "jobs": len(best),
        "training_processor_seconds": seconds("processor_seconds"),
    }


def markdown(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of `tables`, each under its title."""
    lines = []
    for title, rows in tables(methods).items():
        lines += ["", f"## {title}", "", *markdown_table(list(rows[0]), rows)]
    return lines


def tables(methods: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """Families down and methods across, from the largest K of each family, by title; none where there are no rows.

    The smallest error of each family is bold; the last column says how many times as accurate the closed form is, the
    better of it without and with latents, as the best of the others.
    """
    if not methods:
        return {}
    titles = {
        "Methods: relative error of the field": "field_error",
        "Methods: relative error of the trajectory": "trajectory_error",
        "Methods: error of the energy": "energy_error",
        "Methods: seconds of training": "training_seconds",
        "Methods: seconds of the processor in training": "training_processor_seconds",
        "Methods: milliseconds of adaptation": "adaptation_ms",
        "Methods: unknowns of a member": "unknowns",
    }
    return {title: _table(methods, column) for title, column in titles.items()}


def _table(methods: Sequence[Mapping[str, Any]], column: str) -> list[dict[str, str]]:
    names = list(dict.fromkeys(row["method"] for row in methods))
    lines = []
    for system in dict.fromkeys(row["system"] for row in methods):
        own = [row for row in methods if row["system"] == system]
        shots = max(int(row["shots"]) for row in own)
        found = {row["method"]: row[column] for row in own if int(row["shots"]) == shots and row[column] != ""}
        line = {"system": system, "K": str(shots)} | {name: _number(found.get(name, "")) for name in names}
        if column.endswith("_error") and found:
            best = min(found, key=lambda name: float(found[name]))
            line[best] = f"**{line[best]}**"
            ours = [float(value) for name, value in found.items() if name in OURS]
            others = [float(value) for name, value in found.items() if name not in OURS]
            if ours and others:
                line[f"{OURS[0]}, times as accurate"] = _number(min(others) / min(ours))
        lines.append(line)
    columns = dict.fromkeys(name for line in lines for name in line)
    return [{name: line.get(name, "") for name in columns} for line in lines]


def _number(value: Any) -> str:
    if value == "":
        return ""
    number = float(value)
    return f"{number:.0f}" if 100 <= number < 1e5 else f"{number:.2g}"
