"""The results table, as a file."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meta_hamiltonian.basics.files import whole_file

COLUMNS = (
    "system",
    "model",
    "algo",
    "seed",
    "inner_steps",
    "noise",
    "shots",
    "steps",
    "n_systems",
    "n_diverged",
    "field_mse_mean",
    "field_mse_median",
    "field_rel_median",
    "state_mse_mean",
    "state_mse_median",
    "energy_mse_mean",
    "energy_mse_median",
    "adapt_seconds",
    "state_rel_median",
    "unknowns",
)
"""The columns of `results.csv`. Other programs read them: their names and order stay. Those that need a true field are
empty for recorded members."""
FORECAST_COLUMNS = ("orbit_rel_median", "coverage_95")
"""The columns that follow for recorded members."""
USUAL_STEPS = 10
"""Gradient steps after which learners are compared at a glance, or fewer, where a learner takes fewer."""


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a CSV file, whole or not at all."""
    with whole_file(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
