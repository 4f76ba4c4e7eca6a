"""Jobs of a sweep that need the same training, without training."""

import logging
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from meta_hamiltonian.jobs.job import Job
from meta_hamiltonian.jobs.sharing import train_once

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


# Processes that have imported what they need: a server did, from which each of them is forked.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "meta_hamiltonian.jobs.sharing"])


def job(sweep: Path, name: str, seconds: float = 0.0, dies: bool = False, **changes) -> None:
    """A job whose training notes who ran it, and from which state, and leaves one checkpoint."""

    def train(folder: Path) -> None:
        (folder / "checkpoints").mkdir(exist_ok=True)
        half = folder / "checkpoints" / "last.ckpt"
        with (sweep / "log").open("a") as file:
            file.write(f"{name}{'+' if half.exists() else ''}\n")
        half.write_text("half")
        if dies:
            os._exit(9)
        time.sleep(seconds)
        (folder / "checkpoints" / "best.ckpt").write_text(name)

    (sweep / name).mkdir(exist_ok=True)
    train_once(Job(sweep / name, OmegaConf.create({**CONFIG, **changes})), sweep, train)


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
    def fails(folder: Path) -> None:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        train_once(Job(tmp_path / "0", OmegaConf.create(CONFIG)), tmp_path, fails)
    job(tmp_path, "1")
    assert trained(tmp_path) == ["1"]


def test_a_job_goes_on_with_the_training_of_one_that_died(tmp_path):
    dead = PROCESSES.Process(target=job, args=(tmp_path, "0", 0.0, True))
    dead.start()
    dead.join(120)
    assert dead.exitcode == 9
    job(tmp_path, "1")
    job(tmp_path, "0")
    assert trained(tmp_path) == ["0", "1+"]
    assert (tmp_path / "0" / "checkpoints" / "best.ckpt").read_text() == "1"


def test_who_waits_says_for_whom(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    holder = PROCESSES.Process(target=job, args=(tmp_path, "0", 3.0))
    holder.start()
    while holder.is_alive() and not (tmp_path / "log").exists():
        time.sleep(0.05)
    job(tmp_path, "1")
    holder.join(120)
    assert trained(tmp_path) == ["0"]
    assert f"Job 0 (process {holder.pid} on " in caplog.text
    assert "is training the same learner: waiting for it." in caplog.text


def test_jobs_at_the_same_time_train_once(tmp_path):
    processes = [PROCESSES.Process(target=job, args=(tmp_path, str(i), 1.0)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(trained(tmp_path)) == 1
    assert all((tmp_path / str(i) / "checkpoints" / "best.ckpt").exists() for i in range(3))
