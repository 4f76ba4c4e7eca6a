"""One run on several devices gives what one device gives.

The first of its processes is this one: to start another takes longer than the run.
"""

import contextlib
from unittest import mock

import pytest
import torch
from command import TINY, results, rows, train_here
from forked import CONTEXT

pytestmark = pytest.mark.slow
RUN = (*TINY, "logger=csv", "trainer.max_steps=20", "trainer.val_check_interval=8")
ON_TWO = ("trainer=ddp", "trainer.devices=2")


def run(folder, *arguments):
    done = train_here(folder.parent / "home", *RUN, f"hydra.run.dir={folder}", *arguments)
    assert done.code == 0, done.stderr
    return done.stdout


def state(folder):
    return {
        name: torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("best", "last")
    }


def metrics(folder):
    """What the logger got of the losses."""
    table = rows(folder / "csv" / "metrics.csv")
    return [float(row[name]) for name in ("train/query_loss", "val/query_loss") for row in table if row[name]]


@contextlib.contextmanager
def forked():
    """Other ranks are forked from a process that has imported PyTorch: one test that starts them anew is enough."""
    plain = torch.multiprocessing.start_processes
    start = lambda *given, start_method, **more: plain(*given, start_method=CONTEXT.get_start_method(), **more)  # noqa: E731
    with mock.patch.object(torch.multiprocessing, "start_processes", start):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run on one device, and a sweep on two whose jobs need the same training; and what the sweep said."""
    folder = tmp_path_factory.mktemp("launch")
    arguments = (*RUN, "trainer.precision=64-true", "data.meta_batch=5", "data.val_tasks=5", "test.n_systems=5")
    one = train_here(folder / "home", *arguments, f"hydra.run.dir={folder}/1", "shots=[5,10]")
    assert one.code == 0, one.stderr
    with forked():
        two = train_here(folder / "home", "-m", *arguments, f"hydra.sweep.dir={folder}/2", *ON_TWO, "shots=5,10")
    assert two.code == 0, two.stderr
    return folder / "1", folder / "2", two.stdout


def test_ranks_share_a_meta_batch_that_they_do_not_divide(folders):
    tolerance = 1e-9
    alone, sweep, said = folders
    shared = state(sweep / "0")
    for name, values in state(alone).items():
        for key, value in values.items():
            assert (shared[name][key] - value).double().norm() <= tolerance * value.double().norm(), f"{name}: {key}"
    for one, other in zip(results(alone), results(sweep / "0") + results(sweep / "1"), strict=True):
        for column in ("algo", "shots", "steps", "n_systems", "n_diverged"):
            assert one[column] == other[column]
        for column in ("field_mse_mean", "field_mse_median", "field_rel_median"):
            assert float(other[column]) == pytest.approx(float(one[column]), rel=100 * tolerance)
    assert len(metrics(alone)) > 3
    for one, other in zip(metrics(alone), metrics(sweep / "0"), strict=True):
        assert other == pytest.approx(one, rel=100 * tolerance), "reduced over ranks"
    assert said.count("Testing on 5 new systems") == said.count("Everything lies in") == 2, "once a job"
    assert (sweep / "1" / "figures" / "field_k10.png").exists()


def test_a_sweep_on_two_devices_shares_its_trainings(folders):
    _, sweep, said = folders
    assert said.count("trained the same learner: its checkpoint is used") == 1
    assert "2 jobs, 0 failed" in (sweep / "summary.md").read_text()


def test_levenberg_marquardt_sums_over_ranks(tmp_path):
    """After few steps: they solve with nearly singular matrices, and each amplifies rounding some tenfold.

    With a rank that is given: one that is found depends on rounding where held-out tasks are few.
    """
    arguments = (
        "algo=ridge",
        "algo.rank=6",
        "data.meta_batch=7",
        "data.train_shots=30",
        "data.train_queries=30",
        "data.val_tasks=20",
    )
    arguments += ("trainer.max_steps=3", "shots=5", "test.n_systems=2", "test.steps=1")
    run(tmp_path / "1", *arguments)
    run(tmp_path / "2", *arguments, *ON_TWO)
    one, other = state(tmp_path / "1")["last"], state(tmp_path / "2")["last"]
    for name in ("learner.net.body.0.weight", "learner.net.head.weight", "learner.prior_factor"):
        assert (other[name] - one[name]).norm() < 1e-9 * one[name].norm(), name


def test_an_error_in_one_process_ends_all(tmp_path):
    done = train_here(tmp_path / "home", *RUN, *ON_TWO, f"hydra.run.dir={tmp_path / 'a'}", "ckpt_path=no/such")
    assert done.code == 1
    assert "ckpt_path=no/such is not allowed" in done.stderr


def test_more_devices_than_tasks_are_refused(tmp_path):
    arguments = (f"hydra.run.dir={tmp_path / 'a'}", "trainer=ddp", "trainer.devices=5", "test.n_systems=9")
    done = train_here(tmp_path / "home", *RUN, *arguments)
    assert done.stderr.startswith("Error: trainer.devices=5 is not allowed with data.meta_batch=4")
