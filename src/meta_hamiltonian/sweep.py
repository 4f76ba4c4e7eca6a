"""What the jobs of a sweep share: trainings, and one summary."""

import contextlib
import csv
import hashlib
import json
import logging
import shutil
import statistics
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.results import COLUMNS, write_rows

log = logging.getLogger(__name__)

# What a trained learner depends on. Jobs that differ elsewhere only, in what is tested, share a training.
_TRAINING_KEYS = ("algo", "model", "system", "data", "optim", "trainer", "seed")
_MOST_SHOWN = 12  # jobs whose fields and orbits are drawn side by side
_SUMMARY_COLUMNS = ("job", "overrides", "status", "error", *COLUMNS)


def train_once(config: DictConfig, run: Path, sweep: Path, train: Callable[[], None]) -> None:
    """Trains, unless a job of this sweep has trained the same before: then its checkpoints are copied.

    **Arguments:**

    - `config`: the job's.
    - `run`, `sweep`: the job's folder and the sweep's.
    - `train`: leaves `checkpoints/` in the job's folder.
    """
    shared = sweep / ".trainings"
    shared.mkdir(parents=True, exist_ok=True)
    values = {key: OmegaConf.to_container(config, resolve=True)[key] for key in _TRAINING_KEYS}  # pyright: ignore
    name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
    finished = shared / name
    with _waiting_lock(shared / f"{name}.lock"):
        if finished.exists():
            source = sweep / finished.read_text()
            shutil.copytree(source / "checkpoints", run / "checkpoints", dirs_exist_ok=True)
            log.info(f"Job {source.name} of this sweep trained the same learner: its checkpoint is used.")
            return
        train()
        finished.write_text(str(run.relative_to(sweep)))


@contextlib.contextmanager
def _waiting_lock(path: Path) -> Iterator[None]:
    """A lock that says when it waits; it is free again when its holder ends, in whatever way."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        log.info("Another job of this sweep is training the same learner: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class SummaryCallback(Callback):
    """Rewrites the sweep's `summary.csv`, `summary.md` and `figures/` as each of its jobs ends."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        sweep = Path(to_absolute_path(config.hydra.sweep.dir))
        run = Path(config.hydra.runtime.output_dir)
        error = run / "error.txt"
        if job_return.status == JobStatus.FAILED:
            problem = job_return._return_value  # its property raises it
            if isinstance(problem, CompactHydraException):  # the configuration is refused
                error.write_text(f"{problem}\n")
            else:
                line = f"{type(problem).__name__}: {problem}".replace("\n", " ")
                error.write_text("".join([f"{line}\n\n", *traceback.format_exception(problem)]))
            log.error(f"Job {run.name} failed, see {error}")
        else:
            error.unlink(missing_ok=True)
        with filelock.FileLock(sweep / ".summary.lock"):
            summarize(sweep)
        log.info(f"Summary of the sweep: {sweep / 'summary.md'}")


def summarize(sweep: Path) -> None:
    """Writes `summary.csv`, `summary.md` and `figures/comparison` from what lies in the jobs' folders."""
    rows = [row for job in _jobs(sweep) for row in _rows(job, sweep)]
    write_rows(sweep / "summary.csv", _SUMMARY_COLUMNS, rows)
    rows = _without_common_overrides(rows)
    finished = [row for row in rows if row["status"] == "finished"]
    if finished:
        _draw(sweep, finished)
    (sweep / "summary.md").write_text(_markdown(rows, finished))


def _draw(sweep: Path, finished: Sequence[Mapping[str, Any]]) -> None:
    # Here: Hydra imports this module at every start.
    from meta_hamiltonian.figures import Shown, comparison, fields_side_by_side, orbits_side_by_side, save

    save(comparison(finished), sweep / "figures" / "comparison")
    jobs = {row["overrides"]: sweep / row["job"] / "figures" / "shown.npz" for row in finished}
    shown = {job: Shown.load(path) for job, path in list(jobs.items())[:_MOST_SHOWN] if path.exists()}
    if len(shown) > 1:
        save(fields_side_by_side(shown), sweep / "figures" / "fields")
        save(orbits_side_by_side(shown), sweep / "figures" / "orbits")


def _jobs(sweep: Path) -> list[Path]:
    jobs = [path.parent.parent for path in sweep.rglob(".hydra/overrides.yaml")]
    return sorted(jobs, key=lambda job: (len(job.name), job.name))  # 2 before 10


def _rows(job: Path, sweep: Path) -> list[dict[str, Any]]:
    overrides = " ".join(OmegaConf.to_container(OmegaConf.load(job / ".hydra" / "overrides.yaml")))  # pyright: ignore
    row = {"job": str(job.relative_to(sweep)), "overrides": overrides, "status": "running", "error": ""}
    error, results = job / "error.txt", job / "results.csv"
    if error.exists():
        return [row | {"status": "failed", "error": error.read_text().strip().split("\n")[0]}]
    if not results.exists():
        return [row]
    with results.open(newline="") as file:
        return [row | {"status": "finished"} | result for result in csv.DictReader(file)]


def _without_common_overrides(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Readers need to see what tells the jobs apart."""
    of_jobs = [row["overrides"].split() for row in rows]
    common = set(of_jobs[0]).intersection(*of_jobs) if len({row["job"] for row in rows}) > 1 else set()
    return [
        {**row, "overrides": " ".join(word for word in words if word not in common)}
        for row, words in zip(rows, of_jobs, strict=True)
    ]


def _markdown(rows: Sequence[Mapping[str, Any]], finished: Sequence[Mapping[str, Any]]) -> str:
    jobs = {row["job"]: row for row in rows}
    failed = [row for row in jobs.values() if row["status"] == "failed"]
    lines = ["# Summary of the sweep", "", f"{len(jobs)} jobs, {len(failed)} failed.", ""]
    lines += _table(["job", "overrides", "status", "error"], jobs.values())
    if finished:
        shown = [c for c in COLUMNS if c.endswith(("_mean", "_median")) or c in ("shots", "steps", "n_diverged")]
        lines += ["", "## Results", "", *_table(["job", "overrides", *shown], [_rounded(row) for row in finished])]
        over_seeds = _over_seeds(finished)
        if over_seeds:
            lines += ["", "## Over seeds, mean ± standard deviation", "", *_table(list(over_seeds[0]), over_seeds)]
        lines += ["", "![Error of the vector field](figures/comparison.png)"]
        lines += ["", "Where jobs predict the same system: [fields](figures/fields.png), [orbits](figures/orbits.png)."]
    return "\n".join(lines) + "\n"


def _over_seeds(finished: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for jobs that differ in their seed only, where there are several."""
    groups: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
    for row in finished:
        overrides = " ".join(word for word in row["overrides"].split() if not word.startswith("seed="))
        groups.setdefault((overrides, int(row["shots"]), int(row["steps"])), []).append(row)
    rows = []
    for (overrides, shots, steps), same in groups.items():
        if len(same) > 1:
            row = {"overrides": overrides, "shots": shots, "steps": steps, "seeds": len(same)}
            for column in ("field_mse_mean", "state_mse_mean", "energy_mse_mean"):
                values = [float(one[column]) for one in same]
                row[column] = f"{statistics.mean(values):.2g} ± {statistics.stdev(values):.1g}"
            rows.append(row)
    return rows


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: f"{float(v):.3g}" if k.endswith(("_mean", "_median")) else v for k, v in row.items()}


def _table(columns: Sequence[str], rows: Any) -> list[str]:
    lines = [columns, ["---"] * len(columns), *[[str(row[c]).replace("|", "\\|") for c in columns] for row in rows]]
    return ["| " + " | ".join(line) + " |" for line in lines]
