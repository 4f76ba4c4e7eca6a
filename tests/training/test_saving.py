"""What a training leaves whenever it ends, and how it goes on from there."""

import functools
import os
import signal

import pytest
import torch
from lightning import Callback, Trainer

from meta_hamiltonian.basics.exceptions import StoppedError
from meta_hamiltonian.episodes.datamodule import EpisodeDataModule
from meta_hamiltonian.learners import ANIL, Ridge
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum
from meta_hamiltonian.training import saving
from meta_hamiltonian.training.modules import AdamLoop, GaussNewtonLoop
from meta_hamiltonian.training.saving import WholeCheckpoints, checkpoints

STEPS, VALIDATION = 12, 4
SYSTEM = Pendulum()
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


def adam():
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=8, depth=2, input_scale=SYSTEM.state_box)
    return AdamLoop(ANIL(net, learn_lr=True, scale="task"), {}, max_skipped=10, lr=0.01, rates_lr=0.1)


def gauss_newton():
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=8, depth=1, activation="sin", input_scale=SYSTEM.state_box)
    return GaussNewtonLoop(Ridge(net, rank=4, scale="task").double(), {}, max_skipped=10, damping=0.01)


class At(Callback):
    """Does something after a step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            self.what()


def fit(folder, make, *more, resume=False):
    dtype = torch.float64 if make is gauss_newton else torch.float32
    data = EpisodeDataModule(SYSTEM, 4, 30, 6, 5, val_tasks=5, num_workers=0, seed=0, dtype=dtype)
    module = make()
    Trainer(
        max_steps=STEPS,
        val_check_interval=VALIDATION,
        accelerator="cpu",
        precision="64-true" if make is gauss_newton else "32-true",
        logger=False,
        callbacks=[*more, *checkpoints(folder)],
        plugins=[WholeCheckpoints()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    ).fit(module, data, ckpt_path=folder / "last.ckpt" if resume else None, weights_only=True)
    return module


def saved(folder):
    return {name: torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("best", "last")}


def assert_same(one, other):
    for name in ("best", "last"):
        assert one[name]["global_step"] == other[name]["global_step"]
        for key, value in one[name]["state_dict"].items():
            assert torch.equal(value, other[name]["state_dict"][key]), f"{name}: {key}"
        histories = [[(row["step"], row["loss"]) for row in c[name]["meta_hamiltonian_history"]] for c in (one, other)]
        assert histories[0] == histories[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The checkpoints of a training that nothing stopped, one of each kind."""
    folder = tmp_path_factory.mktemp("whole")

    @functools.cache
    def trained(make):
        fit(folder / make.__name__, make)
        return saved(folder / make.__name__)

    return trained


@pytest.mark.parametrize("make", [adam, gauss_newton])
@pytest.mark.parametrize(
    ("stop", "number"),
    [(1, signal.SIGTERM), (3, signal.SIGUSR2), (4, signal.SIGTERM), (6, signal.SIGUSR2), (11, signal.SIGTERM)],
)
def test_a_training_that_is_told_to_stop_goes_on_bit_for_bit(make, stop, number, whole, tmp_path):
    before = signal.getsignal(number)
    with pytest.raises(StoppedError, match=f"stopped by {number.name} after step {stop}, saved in "):
        fit(tmp_path / "cut", make, At(stop, lambda: os.kill(os.getpid(), number)))
    assert signal.getsignal(number) == before
    assert torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["global_step"] == stop
    fit(tmp_path / "cut", make, resume=True)
    assert_same(whole(make), saved(tmp_path / "cut"))


class Worsening(AdamLoop):
    """The first validation is the best."""

    def validation_step(self, batch, batch_idx):
        self.log("val/query_loss", float(self.trainer.global_step), batch_size=1)


def test_a_training_whose_folder_was_moved_knows_its_best(tmp_path):
    def worsening():
        return Worsening(adam().learner, {}, max_skipped=10, lr=0.01, rates_lr=0.1)

    fit(tmp_path / "whole", worsening)
    assert saved(tmp_path / "whole")["best"]["global_step"] == VALIDATION
    with pytest.raises(StoppedError):
        fit(tmp_path / "cut", worsening, At(6, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    (tmp_path / "cut").rename(tmp_path / "moved")
    fit(tmp_path / "moved", worsening, resume=True)
    assert_same(saved(tmp_path / "whole"), saved(tmp_path / "moved"))


def test_signals_are_as_before_after_a_training(tmp_path):
    numbers = (signal.SIGTERM, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    fit(tmp_path, adam)
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_signal_in_the_last_step_does_not_keep_the_training_from_ending(tmp_path):
    fit(tmp_path, adam, At(STEPS, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert saved(tmp_path)["last"]["global_step"] == STEPS
    assert [row["step"] for row in saved(tmp_path)["last"]["meta_hamiltonian_history"]] == [4, 8, 12]


def test_who_listened_before_is_told_so_that_the_job_is_queued_again(tmp_path):
    told = []
    before = signal.signal(signal.SIGUSR2, lambda *arguments: told.append(arguments[0]))
    try:
        with pytest.raises(StoppedError):
            fit(tmp_path, adam, At(5, lambda: os.kill(os.getpid(), signal.SIGUSR2)))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert told == [signal.SIGUSR2]
    assert saved(tmp_path)["last"]["global_step"] == 5


@pytest.mark.parametrize("make", [adam, gauss_newton])
def test_there_is_a_checkpoint_every_minute_that_one_can_go_on_from(make, whole, tmp_path, monkeypatch):
    expected = whole(make)
    monkeypatch.setattr(saving, "_SECONDS", 0.0)  # after every step
    steps = []

    class KilledError(RuntimeError):
        pass

    def look():
        steps.append(torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["global_step"])
        if len(steps) == 6:
            raise KilledError

    with pytest.raises(KilledError):
        fit(tmp_path / "cut", make, *(At(step, look) for step in range(2, STEPS)))
    assert steps == [1, 2, 3, 4, 5, 6], "of the step before"
    fit(tmp_path / "cut", make, resume=True)
    assert_same(expected, saved(tmp_path / "cut"))
