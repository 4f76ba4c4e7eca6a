"""The outer loop inside Lightning: what a step changes, and what a meta-batch without a finite gradient does not."""

import math

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from meta_hamiltonian.basics.exceptions import DivergedError
from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.learners import ANIL, MAML, Ridge
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum
from meta_hamiltonian.training.modules import AdamLoop, GaussNewtonLoop, MetaModule
from meta_hamiltonian.training.saving import checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")


def learner(kind=ANIL, depth=2, activation="tanh", **options):
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=16, depth=depth, activation=activation, input_scale=Pendulum().state_box)
    return kind(net, scale="task", **options)


def batches(count, bad=(), dtype=torch.float32):
    made = [sample_episodes(Pendulum(), range(4 * i, 4 * i + 4), 8, 8, 0, dtype=dtype) for i in range(count)]
    for i in bad:
        made[i].query = Points(made[i].query.x, made[i].query.dxdt * math.nan)
    return made


def module(kind=AdamLoop, of=None, **options):
    if issubclass(kind, AdamLoop):
        options = {"lr": 0.01, "rates_lr": 0.1, "max_skipped": 3, **options}
    else:
        options = {"damping": 0.01, "max_skipped": 3, **options}
    return kind(of or learner(), settings={}, **options)


def fit(outer, made, **options):
    trainer = Trainer(
        **{"max_steps": len(made), "accelerator": "cpu", "log_every_n_steps": 1, "gradient_clip_val": 10.0, **options},
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(outer, DataLoader(made, batch_size=None))
    return outer


def weights(outer):
    return {name: value.detach().clone() for name, value in outer.learner.named_parameters()}


def plain_adam(made, clip=10.0, skip=()):
    """The same training by PyTorch alone: Adam, the cosine, clipping."""
    outer = learner(learn_lr=True)
    network = list(outer.net.parameters())
    optimizer = torch.optim.Adam([{"params": network, "lr": 0.01}, {"params": [outer.log_lr], "lr": 0.1}])
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(made))
    for i, batch in enumerate(made):
        optimizer.zero_grad()
        outer.meta_loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(outer.parameters(), clip)
        if i not in skip:
            optimizer.step()
        cosine.step()
    return dict(outer.named_parameters())


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("bad", [(), (0,), (2, 3), (5,)])
def test_training_is_adam_with_a_cosine_and_clipping_and_skips_what_is_not_finite(bad):
    made = batches(6, bad)
    outer = fit(module(of=learner(learn_lr=True)), made)
    for name, value in plain_adam(made, skip=bad).items():
        torch.testing.assert_close(weights(outer)[name], value.detach(), rtol=1e-5, atol=1e-7, msg=name)
    assert outer.skipped == len(bad)


def test_clipping_limits_the_gradient():
    made = batches(5)
    clipped = fit(module(of=learner(learn_lr=True)), made, gradient_clip_val=1e-3)
    for name, value in plain_adam(made, clip=1e-3).items():
        torch.testing.assert_close(weights(clipped)[name], value.detach(), rtol=1e-5, atol=1e-7)


def test_too_many_skipped_meta_batches_in_a_row_stop_the_run():
    with pytest.raises(DivergedError, match=r"3 meta-batches in a row .*optim\.max_skipped=3.*lower"):
        fit(module(), batches(8, bad=(2, 3, 4)))


def test_skipped_meta_batches_that_are_not_in_a_row_do_not():
    assert fit(module(), batches(8, bad=(0, 1, 3, 4, 6, 7))).skipped == 6


def test_a_diverging_inner_loop_is_skipped():
    outer = module(of=learner(MAML, activation="softplus", lr=1e20), max_skipped=100)
    before = weights(outer)
    fit(outer, batches(3))
    assert outer.skipped == 3
    assert all(torch.equal(value, before[name]) for name, value in weights(outer).items())


def test_levenberg_marquardt_trains_ridge_and_skips_what_is_not_finite():
    made = batches(60, bad=(3,), dtype=torch.float64)
    ridge = learner(Ridge, depth=1, activation="sin", rank=4, noise=1e-8).double()
    before = ridge.meta_loss(made[-1]).item()
    outer = fit(module(GaussNewtonLoop, of=ridge), made, gradient_clip_val=None, precision="64-true")
    assert outer.skipped == 1
    assert ridge.meta_loss(made[-1]).item() < 1e-2 * before
    with pytest.raises(DivergedError):
        fit(
            module(GaussNewtonLoop, of=ridge),
            batches(5, bad=(0, 1, 2), dtype=torch.float64),
            gradient_clip_val=None,
            precision="64-true",
        )


def test_levenberg_marquardt_needs_a_head_that_is_solved_for():
    with pytest.raises(TypeError, match="solves for its head"):
        module(GaussNewtonLoop, of=learner())


@pytest.mark.parametrize(("losses", "best"), [([1.0, 2.0, 3.0], 2), ([3.0, 1.0, 2.0], 4), ([3.0, 2.0, 1.0], 6)])
def test_the_last_checkpoint_is_that_of_the_last_step_also_where_the_best_is_earlier(losses, best, tmp_path):
    class Told(AdamLoop):
        """Validation losses as given."""

        def validation_step(self, batch, batch_idx):
            self.log("val/query_loss", losses[self.trainer.global_step // 2 - 1], batch_size=1)

    trainer = Trainer(
        max_steps=6,
        accelerator="cpu",
        logger=False,
        callbacks=checkpoints(tmp_path),
        val_check_interval=2,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    trainer.fit(module(Told), DataLoader(batches(6), batch_size=None), DataLoader(batches(1), batch_size=None))
    steps = {f.stem: torch.load(f, weights_only=True)["global_step"] for f in tmp_path.glob("*.ckpt")}
    assert steps == {"best": best, "last": 6}


@pytest.mark.parametrize("kind", [AdamLoop, GaussNewtonLoop])
def test_a_device_may_have_no_held_out_task(kind, monkeypatch):
    """Where fewer members of a recorded family are held out than there are devices."""
    monkeypatch.setattr("meta_hamiltonian.training.modules.share", lambda count: slice(0, 0))
    outer, (batch,) = module(kind, None if kind is AdamLoop else learner(Ridge, rank=2).double()), batches(1)
    batch = batch if kind is AdamLoop else batch.to(torch.float64)
    logged = {}
    monkeypatch.setattr(outer, "log", lambda name, value, **_: logged.setdefault(name, value))
    monkeypatch.setattr("meta_hamiltonian.training.modules._tasks", lambda batch: 4)
    monkeypatch.setattr(type(outer), "known", lambda self, held_out: held_out)
    MetaModule.validation_step(outer, batch, 0)
    assert logged["val/query_loss"] == 0.0, "what it adds to the mean over all devices"
