"""The results as a table on the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_SHOWN = {
    "shots": "K",
    "steps": "steps",
    "field_mse_mean": "field\nMSE",
    "field_mse_median": "\nmedian",
    "state_mse_mean": "state\nMSE",
    "state_mse_median": "\nmedian",
    "energy_mse_mean": "energy\nMSE",
    "energy_mse_median": "\nmedian",
    "n_diverged": "lost",
}


def print_table(rows: Sequence[Mapping[str, Any]], duration: str) -> None:
    """Prints the rows of `results.csv`: means over the test systems, with their medians.

    **Arguments:** `duration`: how long orbits are, in words.
    """
    table = Table(
        title=f"{rows[0]['algo']}, {rows[0]['model']}: means and medians over {rows[0]['n_systems']} new systems",
        caption=f"State and energy: along orbits of {duration}. Lost: orbits that diverged.",
        box=box.SIMPLE_HEAD,  # without lines between the columns it fits in 80 characters
        pad_edge=False,
    )
    for heading in _SHOWN.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        values = [_short(row[name]) for name in _SHOWN]
        last_of_shots = i + 1 < len(rows) and rows[i + 1]["shots"] != row["shots"]
        table.add_row(*values, end_section=last_of_shots)
    Console().print(table)


def print_forecasts(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the rows of `results.csv` for recorded members: the learner and the baselines."""
    if not rows:
        return
    table = Table(
        title=f"The rest of {rows[0]['n_systems']} held-out recordings, predicted from their beginnings",
        caption="Error: median over members, in standard deviations of the motion. Lost: orbits that diverged.",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("by", "error", "in 95 % bands", "lost", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        covered = f"{row['coverage_95']:.1%}" if "coverage_95" in row else ""
        table.add_row(
            row["algo"], _short(row["orbit_rel_median"]), covered, str(row["n_diverged"]), _short(row["adapt_seconds"])
        )
    Console().print(table)


def _short(value: float | int) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}" if 0.01 <= value < 1e5 else f"{value:.1e}"


def markdown_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *[[str(row[c]).replace("|", "\\|") for c in columns] for row in rows]]
    return ["| " + " | ".join(line) + " |" for line in lines]
