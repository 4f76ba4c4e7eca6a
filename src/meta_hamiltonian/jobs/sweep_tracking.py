"""A sweep as a W&B run of its own, beside those of its jobs: its table, and the figures that compare them."""

import csv
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

# The columns that a W&B panel compares at a glance.
_COMPARED = ("field_mse_median", "field_rel_median", "state_mse_median", "orbit_rel_median")


def track_sweep(sweep: Path, project: str, mode: str | None = None) -> None:
    """Makes the run `summary` of the sweep's group, or goes on with it where the sweep was resumed."""
    from meta_hamiltonian.jobs.tracking import close, log_figure, log_table, wandb_logger  # here: Hydra imports this

    table = sweep / "summary.csv"
    if not table.exists():
        return
    with table.open(newline="") as file:
        rows = [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]
    group = "/".join(sweep.parts[-2:])
    logger = wandb_logger(sweep, f"summary of {group}", group, project, mode, job_type="sweep")
    try:
        statuses = {row["job"]: row["status"] for row in rows}
        counts = {f"sweep/{status}": list(statuses.values()).count(status) for status in ("finished", "failed")}
        best = {
            f"sweep/best/{name}": min(row[name] for row in rows if isinstance(row.get(name), float))
            for name in _COMPARED
            if any(isinstance(row.get(name), float) for row in rows)
        }
        logger.log_metrics({"sweep/jobs": len(statuses), **counts, **best})
        log_table(logger, "summary", rows)
        for figure in sorted((sweep / "figures").glob("*.png")):
            log_figure(logger, figure)
    finally:
        close(logger)


def arguments_of(config: DictConfig) -> list[str] | None:
    """The other arguments of [`track_sweep`][] for this configuration; None where W&B is not asked for."""
    logger: Any = OmegaConf.select(config, "logger")
    if logger is None or not str(logger._target_).endswith("wandb_logger"):
        return None
    return [str(logger.project), *([] if logger.mode is None else [str(logger.mode)])]


def _number(value: str) -> Any:
    """A cell of a table, as a number where it is one, and as None where it is empty."""
    try:
        return float(value) if value else None
    except ValueError:
        return value


if __name__ == "__main__":  # W&B cannot begin a run in a process that is about to end
    track_sweep(Path(sys.argv[1]), *sys.argv[2:])
