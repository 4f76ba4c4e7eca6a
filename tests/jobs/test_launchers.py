"""Hydra's launchers and its sweeper for searches, each with a real sweep."""

import os
import signal
import subprocess
import sys
import time

import pytest
from command import ROOT, TINY, environment_of, rows, train, train_here
from hydra import compose, initialize
from omegaconf import OmegaConf

from meta_hamiltonian.jobs.composition import register_schemas

pytestmark = pytest.mark.slow


# Both jobs at the same time, or both in one process of Ray, whose start takes longer than they do. Each begins in a
# process of its own: Ray leaves its mark on it, and joblib pickles the job, which fails where shapes are checked.
LAUNCHERS = {"joblib": (), "ray": ("+hydra.launcher.ray.init.num_cpus=1",)}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_on_a_launcher(launcher, tmp_path):
    folder = tmp_path / "sweep"
    launched = (f"hydra/launcher={launcher}", *LAUNCHERS[launcher], f"hydra.sweep.dir={folder}")
    small = ("logger=none", "shots=5,10", "test.n_systems=1", "test.steps=0")
    # Ray's workers give way to all other processes, and here there are many: the sweep then takes minutes.
    done = train(tmp_path / "home", "-m", *TINY, *launched, *small, RAY_worker_niceness="0")
    assert done.code == 0, done.stderr
    table = rows(folder / "summary.csv")
    assert {(row["job"], row["shots"], row["status"]) for row in table} == {
        ("0", "5", "finished"),
        ("1", "10", "finished"),
    }
    assert len([path for path in (folder / ".trainings").iterdir() if path.is_dir()]) == 1
    one, other = (folder / job / "checkpoints" / "best.ckpt" for job in "01")
    assert one.read_bytes() == other.read_bytes(), "they trained once"
    assert "## How the time was spent" in (folder / "summary.md").read_text()


def test_a_preempted_job_of_submitit_is_queued_again_and_goes_on(tmp_path):
    folder = tmp_path / "sweep"
    long = ("trainer.max_steps=400", "trainer.val_check_interval=50", "algo=anil", "compile=false")
    more = ("shots=5", "test.steps=0", "test.n_systems=1", "logger=none", "hydra/launcher=submitit_local")
    more += (f"hydra.sweep.dir={folder}",)
    command = ["-m", *TINY, *long, *more]
    sweep = subprocess.Popen(
        [sys.executable, "train.py", *command],
        cwd=ROOT,
        env=environment_of(tmp_path / "home"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not list(folder.glob(".trainings/*/checkpoints/last.ckpt")):
            assert sweep.poll() is None
            time.sleep(0.1)
        (holder,) = folder.glob(".trainings/*/holder")
        os.kill(int(holder.read_text().split("process ")[1].split()[0]), signal.SIGUSR2)
        assert sweep.wait(300) == 0
    finally:
        sweep.kill()
    log = (folder / "0" / "train.log").read_text()
    assert "stopped by SIGUSR2 after step" in log
    assert "Going on from step" in log
    assert {row["status"] for row in rows(folder / "summary.csv")} == {"finished"}


def test_the_slurm_preset_makes_an_array_job_that_is_queued_again(tmp_path, monkeypatch):
    from submitit.slurm.slurm import SlurmExecutor

    tool = tmp_path / "srun"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    register_schemas()
    with initialize(version_base="1.3", config_path="../../conf"):
        config = compose("config", ["hydra/launcher=submitit_slurm"], return_hydra_config=True)
    preset = OmegaConf.to_container(config.hydra.launcher)
    assert isinstance(preset, dict)
    folder = tmp_path / "sweep"
    executor = SlurmExecutor(folder, max_num_timeout=preset.pop("max_num_timeout"))
    names = {"timeout_min": "time", "mem_gb": "mem", "name": "job_name", "tasks_per_node": "ntasks_per_node"}
    changed = {"mem_gb": lambda gigabytes: f"{gigabytes}GB", "name": lambda _: "train"}
    executor.update_parameters(
        **{
            names.get(key, key): changed.get(key, lambda v: v)(value)
            for key, value in preset.items()
            if key not in ("_target_", "submitit_folder") and value is not None
        }
    )
    executor.parameters["map_count"] = 4
    script = executor._make_submission_file_text("python -m submitit.core._submit", "uid")
    for line in (
        "--array=0-3%4",
        "--time=60",
        "--signal=USR2@120",
        "--cpus-per-task=2",
        "--mem=8GB",
        "--open-mode=append",
    ):
        assert f"#SBATCH {line}" in script, script


def test_a_search_goes_on_from_its_file(tmp_path):
    folder = tmp_path / "search"
    small = ("experiment=search", *TINY[1:], "shots=5", "test.steps=0", "logger=none", f"hydra.sweep.dir={folder}")
    done = train_here(tmp_path / "home", "-m", *small, "hydra.sweeper.n_trials=2")
    assert done.code == 0, done.stderr
    best = OmegaConf.load(folder / "optimization_results.yaml")
    assert set(best.best_params) == {"algo.lr", "inner_steps"}, "the width is given"
    jobs = {row["job"] for row in rows(folder / "summary.csv")}
    assert len(jobs) == 2
    again = train_here(tmp_path / "home", "-m", *small, "hydra.sweeper.n_trials=3", "resume=true")
    assert again.code == 0, again.stderr
    assert again.stdout.count("is finished already.") == 2
    assert len({row["job"] for row in rows(folder / "summary.csv")}) == 3
    assert (folder / "optuna.db").stat().st_size > 0
