"""The summary of a sweep, without running one."""

import csv
import json
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf

from meta_hamiltonian.evaluation.results import COLUMNS, write_rows
from meta_hamiltonian.jobs.sweep import SummaryCallback, summarize, time_spent


def finished_job(sweep: Path, name: str, overrides: list[str]) -> Path:
    folder = sweep / name
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
    row = dict.fromkeys(COLUMNS, 1) | {"field_mse_mean": 0.123456}
    write_rows(folder / "results.csv", COLUMNS, [row | {"steps": steps} for steps in (0, 5)])
    return folder


def ended(sweep: Path, folder: Path, result: JobReturn) -> None:
    hydra = {"mode": RunMode.MULTIRUN, "sweep": {"dir": str(sweep)}, "runtime": {"output_dir": str(folder)}}
    config = OmegaConf.create({"hydra": hydra})
    SummaryCallback().on_job_end(config, result)


def summary(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_crash_is_told_in_one_line_with_its_traceback_in_a_file(tmp_path):
    finished_job(tmp_path, "0", ["seed=0"])
    crashed = finished_job(tmp_path, "1", ["seed=1"])
    (crashed / "results.csv").unlink()
    try:
        raise MemoryError("no room\nfor this")
    except MemoryError as error:
        result = JobReturn(status=JobStatus.FAILED, _return_value=error)
    ended(tmp_path, crashed, result)
    rows = summary(tmp_path)
    assert [(row["job"], row["status"]) for row in rows] == [("0", "finished"), ("0", "finished"), ("1", "failed")]
    assert rows[-1]["error"] == "MemoryError: no room for this"
    assert "Traceback" in (crashed / "error.txt").read_text()
    assert "MemoryError" in (tmp_path / "summary.md").read_text()


def test_what_hydra_keeps_of_a_job_is_small(tmp_path):
    result = JobReturn(cfg=OmegaConf.create({"a": 1}), hydra_cfg=OmegaConf.create({"b": 2}))
    result.status, result.return_value = JobStatus.COMPLETED, 0.5
    ended(tmp_path, finished_job(tmp_path, "0", ["seed=0"]), result)
    assert result.cfg is result.hydra_cfg is None
    assert result.return_value == 0.5


def test_jobs_that_are_not_done_are_named_too(tmp_path):
    finished_job(tmp_path, "0", ["seed=0", "algo=maml"])
    (finished_job(tmp_path, "10", ["seed=2", "algo=maml"]) / "results.csv").unlink()
    finished_job(tmp_path, "2", ["seed=1", "algo=maml"])
    summarize(tmp_path)
    assert [row["job"] for row in summary(tmp_path)] == ["0", "0", "2", "2", "10"]
    assert summary(tmp_path)[-1]["status"] == "running"
    text = (tmp_path / "summary.md").read_text()
    assert "| 0 | seed=0 | finished |" in text
    assert "0.123" in text
    assert "algo=maml" not in text


def test_numbers_of_the_summary_are_those_of_the_results(tmp_path):
    finished_job(tmp_path, "0", ["seed=0"])
    summarize(tmp_path)
    assert [float(row["field_mse_mean"]) for row in summary(tmp_path)] == [0.123456] * 2


def test_the_error_of_an_earlier_attempt_is_gone_when_the_job_runs_again(tmp_path):
    folder = finished_job(tmp_path, "0", ["seed=0"])
    (folder / "error.txt").write_text("lost\n")
    hydra = {"mode": RunMode.MULTIRUN, "runtime": {"output_dir": str(folder)}}
    SummaryCallback().on_job_start(OmegaConf.create({"hydra": hydra}))
    summarize(tmp_path)
    assert {row["status"] for row in summary(tmp_path)} == {"finished"}


def test_the_summary_says_how_the_time_was_spent(tmp_path):
    """Two jobs at once, then one after 20 s without any, and one after the sweep was resumed the next day."""
    for i, (began, ended) in enumerate([(0, 100), (0, 60), (120, 180), (90_000, 90_040)]):
        folder = finished_job(tmp_path, str(i), [f"seed={i}"])
        seconds = {"waiting": 5.0, "training": 20.0, "testing": 10.0}
        (folder / ".finished.json").write_text(
            json.dumps({"config": "", "began": began, "ended": ended, "seconds": seconds})
        )
    times = dict(time_spent(tmp_path / str(i) for i in range(4)))
    assert times["training"].startswith("80.0 s (31%")
    assert times["waiting"].startswith("20.0 s (8%")
    assert times["all jobs"] == "260.0 s"
    assert times["from the first to the last"] == "220.0 s"
    assert times["jobs at once"] == "1.18"
    assert times["jobs a minute"] == "1.1"
    summarize(tmp_path, draw=False)
    assert "| training | 80.0 s (31% of the jobs) |" in (tmp_path / "summary.md").read_text()
