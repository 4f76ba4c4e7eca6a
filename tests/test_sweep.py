"""What the jobs of a sweep share, without running one."""

import csv
import logging
import multiprocessing
import time
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf

from meta_hamiltonian.results import COLUMNS, write_rows
from meta_hamiltonian.sweep import SummaryCallback, summarize, train_once

CONFIG = {
    "algo": {"lr": 0.1},
    "model": {"width": 4},
    "system": {"gravity": 1.0},
    "data": {"tasks": 10},
    "optim": {"lr": 0.1},
    "trainer": {"max_steps": 5},
    "seed": 0,
    "inner_steps": 5,
    "shots": [25, 50],
    "test": {"n_systems": 3},
}


def trains_in(folder: Path, log: Path, seconds: float = 0.0):
    """A training that notes when it ran and leaves one checkpoint."""

    def train() -> None:
        (folder / "checkpoints").mkdir(parents=True)
        time.sleep(seconds)
        (folder / "checkpoints" / "best.ckpt").write_text(folder.name)
        with log.open("a") as file:
            file.write(f"{folder.name}\n")

    return train


def job(sweep: Path, name: str, seconds: float = 0.0, **changes) -> None:
    config = OmegaConf.create({**CONFIG, **changes})
    train_once(config, sweep / name, sweep, trains_in(sweep / name, sweep / "log", seconds))


def trained(sweep: Path) -> list[str]:
    return (sweep / "log").read_text().split()


@pytest.mark.parametrize("changes", [{"shots": 10}, {"test": {"n_systems": 9}}, {"logger": "none"}])
def test_jobs_that_differ_in_what_is_tested_share_a_training(changes, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    job(tmp_path, "0")
    job(tmp_path, "1", **changes)
    assert trained(tmp_path) == ["0"]
    assert (tmp_path / "1" / "checkpoints" / "best.ckpt").read_text() == "0"
    assert "Job 0 of this sweep trained the same learner" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [{key: {"other": 1}} for key in ("algo", "model", "system", "data", "optim", "trainer")] + [{"seed": 1}],
)
def test_jobs_that_differ_in_the_training_do_not(changes, tmp_path):
    job(tmp_path, "0")
    job(tmp_path, "1", **changes)
    assert trained(tmp_path) == ["0", "1"]


def test_a_training_that_failed_is_tried_again(tmp_path):
    config = OmegaConf.create(CONFIG)
    with pytest.raises(RuntimeError, match="lost"):
        train_once(config, tmp_path / "0", tmp_path, lambda: (_ for _ in ()).throw(RuntimeError("lost")))
    job(tmp_path, "1")
    assert trained(tmp_path) == ["1"]


def test_jobs_at_the_same_time_train_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=job, args=(tmp_path, str(i), 1.0)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(trained(tmp_path)) == 1
    assert all((tmp_path / str(i) / "checkpoints" / "best.ckpt").exists() for i in range(3))


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
