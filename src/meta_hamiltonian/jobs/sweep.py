"""The summary of a sweep."""

import atexit
import csv
import functools
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.basics.files import write_text
from meta_hamiltonian.evaluation.results import COLUMNS, FORECAST_COLUMNS, USUAL_STEPS, write_rows
from meta_hamiltonian.jobs.families import by_family, table, without_common_overrides
from meta_hamiltonian.jobs.job import read_finished
from meta_hamiltonian.jobs.methods import COLUMNS as METHOD_COLUMNS
from meta_hamiltonian.jobs.methods import markdown, of_methods
from meta_hamiltonian.jobs.sweep_tracking import arguments_of, track_sweep
from meta_hamiltonian.reports.tables import markdown_table

log = logging.getLogger(__name__)

_ROOM = 2**16  # bytes that the folder of a job must take at least
_DRAW_EVERY = 300.0  # seconds
_INTERRUPTED = 600.0  # seconds without a job: the sweep was stopped and resumed
_SUMMARY_COLUMNS = ("job", "overrides", "status", "error", *COLUMNS)


class SummaryCallback(Callback):
    """Checks, before jobs begin, that their results can be written, and keeps the summary of a sweep up to date.

    The sweep's `summary.csv` and `summary.md` are rewritten as each of its jobs ends, its `figures/` only now and then:
    figures take seconds, and short jobs do not.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Makes the folder of a single run; ends the program where it cannot be written to."""
        _check_folder(Path(to_absolute_path(config.hydra.run.dir)))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Makes the folder of the sweep, and arranges a last summary for the end of the process."""
        sweep = Path(to_absolute_path(config.hydra.sweep.dir))
        _check_folder(sweep)
        # Hydra does not call `on_multirun_end` after a sweep in which a job failed.
        self._at_exit = functools.partial(_finally, sweep, arguments_of(config))
        atexit.register(self._at_exit)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes the last summary at once, rather than at the end of the process, and tracks it."""
        atexit.unregister(self._at_exit)
        sweep = Path(to_absolute_path(config.hydra.sweep.dir))
        if sweep.exists():
            summarize(sweep)
            if (tracked := arguments_of(config)) is not None:
                track_sweep(sweep, *tracked)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Removes the `error.txt` that an earlier attempt at a job of the sweep left."""
        if config.hydra.mode == RunMode.MULTIRUN:  # the error of an earlier attempt
            (Path(config.hydra.runtime.output_dir) / "error.txt").unlink(missing_ok=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Writes the `error.txt` of a job that failed, and brings the sweep's summary up to date."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        sweep = Path(to_absolute_path(config.hydra.sweep.dir))
        run = Path(config.hydra.runtime.output_dir)
        if job_return.status == JobStatus.FAILED:
            error = run / "error.txt"
            problem = job_return._return_value  # the property `return_value` would raise it
            if isinstance(problem, CompactHydraException):  # one line says it all
                write_text(error, f"{problem}\n")
            else:
                line = f"{type(problem).__name__}: {problem}".replace("\n", " ")
                write_text(error, "".join([f"{line}\n\n", *traceback.format_exception(problem)]))
            log.error(f"Job {run.name} failed, see {error}")
        summarize(sweep, _are_old(sweep / "figures"))
        log.info(f"Summary of the sweep: {sweep / 'summary.md'}")
        # Hydra keeps what every job returned until the sweep ends: a third of a megabyte each with these.
        job_return.cfg = job_return.hydra_cfg = None


def _check_folder(folder: Path) -> None:
    """Makes the folder. Hydra's own words for one that it cannot write to are a traceback."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
            file.flush()
    except OSError as error:
        # Hydra makes a warning of any other exception here.
        sys.exit(
            f"Error: {folder} cannot be written to ({error.strerror}); make room, or give another folder with "
            "hydra.run.dir or hydra.sweep.dir"
        )


def _finally(sweep: Path, tracked: Sequence[str] | None) -> None:
    """The last summary, where the process is about to end: W&B then needs one of its own.

    **Arguments:** `tracked`: the arguments of the process that tracks the sweep in W&B; None where there is none.
    """
    if not sweep.exists() or not _jobs(sweep):  # no job began, since Hydra refused a key or a value
        return
    summarize(sweep)
    if tracked is not None:
        command = [sys.executable, "-m", "meta_hamiltonian.jobs.sweep_tracking", str(sweep), *tracked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own module)
        if done.returncode:
            log.warning(f"W&B: the summary of the sweep was not tracked: {done.stderr.strip().splitlines()[-1]}")


def _are_old(figures: Path) -> bool:
    drawn = [file.stat().st_mtime for file in figures.glob("comparison*.png")]
    return not drawn or time.time() - max(drawn) > _DRAW_EVERY


def summarize(sweep: Path, draw: bool = True) -> None:
    """Writes `summary.csv`, `summary.md` and `figures/` from what lies in the jobs' folders."""
    with filelock.FileLock(sweep / ".summary.lock"):
        rows = [row for job in _jobs(sweep) for row in _rows(job, sweep)]
        more = [column for column in FORECAST_COLUMNS if any(column in row for row in rows)]
        write_rows(sweep / "summary.csv", (*_SUMMARY_COLUMNS, *more), rows)
        rows = without_common_overrides(rows)
        finished = [row for row in rows if row["status"] == "finished"]
        methods = of_methods(sweep, _with_truth(finished))
        if methods:
            write_rows(sweep / "methods.csv", METHOD_COLUMNS, methods)
        if (compared := _with_truth(finished)) and draw:
            from meta_hamiltonian.jobs.sweep_figures import draw as draw_figures  # here: Hydra imports this module

            draw_figures(sweep, compared)
        times = time_spent(sweep / row["job"] for row in rows)
        write_text(sweep / "summary.md", _markdown(rows, finished, methods, times, sweep / "figures"))


def time_spent(jobs: Iterable[Path]) -> list[tuple[str, str]]:
    """How the sweep spent its time, as lines of a table."""
    done = [found for job in dict.fromkeys(jobs) if (found := read_finished(job))]
    if not done:
        return []
    spans = sorted((job["began"], job["ended"]) for job in done)
    wall, until = 0.0, spans[0][0]
    for began, ended in spans:
        wall += max(0.0, ended - max(began, until)) + (gap if 0 < (gap := began - until) < _INTERRUPTED else 0.0)
        until = max(until, ended)
    inside = sum(ended - began for began, ended in spans)
    kinds = {kind: sum(job["seconds"][kind] for job in done) for kind in ("training", "testing", "waiting")}
    kinds["figures, tracking and the rest"] = inside - sum(kinds.values())
    lines = [(kind, f"{seconds:.1f} s ({seconds / inside:.0%} of the jobs)") for kind, seconds in kinds.items()]
    lines += [("all jobs", f"{inside:.1f} s"), ("from the first to the last", f"{wall:.1f} s")]
    return [*lines, ("jobs at once", f"{inside / wall:.2f}"), ("jobs a minute", f"{60 * len(done) / wall:.1f}")]


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


def _markdown(
    rows: Sequence[Mapping[str, Any]],
    finished: Sequence[Mapping[str, Any]],
    methods: Sequence[Mapping[str, Any]],
    times: Sequence[tuple[str, str]],
    figures: Path,
) -> str:
    jobs = {row["job"]: row for row in rows}
    failed = [row for row in jobs.values() if row["status"] == "failed"]
    lines = ["# Summary of the sweep", "", f"{len(jobs)} jobs, {len(failed)} failed.", ""]
    lines += markdown_table(["job", "overrides", "status", "error"], jobs.values())
    if compared := _with_truth(finished):
        shown = [c for c in COLUMNS if c.endswith(("_mean", "_median")) or c in ("shots", "steps", "n_diverged")]
        shown = [c for c in shown if any(row[c] for row in compared)]
        lines += [
            "",
            "## Results",
            "",
            *markdown_table(["job", "overrides", *shown], [_rounded(row) for row in compared]),
        ]
        over_seeds = _over_seeds(compared)
        if over_seeds:
            lines += [
                "",
                "## Over seeds, mean ± standard deviation",
                "",
                *markdown_table(list(over_seeds[0]), over_seeds),
            ]
        lines += _of_families(compared)
        lines += markdown(methods)
        lines += _of_figures(figures)
    if recorded := [row for row in finished if row not in compared]:
        shown = ["job", "overrides", "algo", "n_systems", "n_diverged", *FORECAST_COLUMNS]
        lines += ["", "## Forecasts of recordings", "", *markdown_table(shown, [_rounded(row) for row in recorded])]
    if times:
        spent = [{"": name, "time": value} for name, value in times]
        lines += ["", "## How the time was spent", "", *markdown_table(["", "time"], spent)]
    return "\n".join(lines) + "\n"


def _with_truth(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of simulated families, whose fields can be compared with the true ones."""
    return [row for row in rows if row["field_mse_mean"]]


def _of_families(finished: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of families and algorithms, where there are several families."""
    if len(by_family(finished)) < 2:
        return []
    lines = table(finished)
    return [
        "",
        "## Families",
        "",
        "Relative error of the field (`field_rel_median`, its mean over seeds) from the family's largest K, after at "
        f"most {USUAL_STEPS} gradient steps.",
        "",
        *markdown_table(list(lines[0]), lines),
    ]


def _of_figures(figures: Path) -> list[str]:
    """Links to the figures that are there."""
    names = sorted(file.stem for file in figures.glob("*.png"))
    lines = ["", "![A system of each family](figures/families.png)"] if "families" in names else []
    lines += ["", "![The methods on all families](figures/methods.png)"] if "methods" in names else []
    for name in (name for name in names if name.startswith("comparison")):
        lines += ["", f"![Error of the vector field](figures/{name}.png)"]
    links = [f"[{name}](figures/{name}.png)" for name in names if name.startswith(("fields", "orbits"))]
    return [*lines, "", f"Jobs that predict the same system, side by side: {', '.join(links)}."] if links else lines


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
    rounded = ("_mean", "_median", "coverage_95")
    return {k: f"{float(v):.3g}" if v and k.endswith(rounded) else v for k, v in row.items()}
