"""The race between numbers of latents inside a training, killed before it is decided, and resumed."""

import logging

import pytest
import torch
from lightning import Callback, Trainer
from morse import Morse

from meta_hamiltonian.basics.exceptions import StoppedError
from meta_hamiltonian.episodes.datamodule import EpisodeDataModule
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.training.modules import GaussNewtonLoop

pytestmark = pytest.mark.filterwarnings("ignore:.*(LeafSpec|not resumable)")
STEPS, KILLED, DECIDED = 3, 1, 2


class Kill(Callback):
    """Saves and stops after a step before the race is decided, as SIGTERM makes a training do."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == KILLED:
            trainer.save_checkpoint(self.path)
            raise StoppedError("killed")


def train(*callbacks, resumed=None, seed=0):
    torch.manual_seed(seed)
    learner = Ridge(NaturalNetwork(2, 3, Morse().domain), rank=2, noise=1e-10, scale="task", latents="auto")
    loop = GaussNewtonLoop(learner.double(), settings={}, max_skipped=3, damping=0.01)
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        precision="64-true",
        log_every_n_steps=1,
        val_check_interval=DECIDED,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    data = EpisodeDataModule(Morse(), 3, None, 8, 8, 3, 0, 0, dtype=torch.float64)
    trainer.fit(loop, data, ckpt_path=resumed, weights_only=True)
    return loop


def test_a_training_that_is_killed_during_the_race_ends_as_if_it_had_not_been(tmp_path, caplog):
    caplog.set_level(logging.INFO, "meta_hamiltonian")
    whole = train()
    (said,) = [record.getMessage() for record in caplog.records if "Latents: " in record.getMessage()]
    caplog.clear()
    path = tmp_path / "last.ckpt"
    with pytest.raises(StoppedError):
        train(Kill(path))
    assert not any("Latents: " in record.getMessage() for record in caplog.records)
    # Another process begins with other random weights.
    resumed = train(resumed=path, seed=1)
    assert said in [record.getMessage() for record in caplog.records], "the same losses, to the digits that are said"
    expected = whole.learner.state_dict()
    found = resumed.learner.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
