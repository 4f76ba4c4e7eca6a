import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.episodes.datamodule import EpisodeDataModule, MetaBatches
from meta_hamiltonian.systems import Pendulum

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),  # Lightning's own
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),  # it is, see below
    pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes"),
]

SYSTEM = Pendulum()
STEPS = 8


class Recorder(LightningModule):
    """Keeps every meta-batch that it is given, by outer step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated = [], []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.global_step, batch))
        return self.weight.square()

    def validation_step(self, batch, batch_idx):
        self.validated.append((self.trainer.global_step, batch))


class Interrupt(Callback):
    """Saves a checkpoint and stops in the middle of training, as a run that is killed does."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


class SaveAfterValidation(Callback):
    """Where Lightning's ModelCheckpoint saves."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_validation_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def data(**changes):
    settings = {
        "meta_batch": 4,
        "tasks": 20,
        "train_shots": 3,
        "train_queries": 2,
        "val_tasks": 6,
        "num_workers": 0,
        "seed": 0,
    }
    return EpisodeDataModule(SYSTEM, **{**settings, **changes})


def fit(datamodule, callbacks=(), ckpt_path=None):
    recorder = Recorder()
    Trainer(
        max_steps=STEPS,
        val_check_interval=2,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(recorder, datamodule, ckpt_path=ckpt_path, weights_only=True)
    return recorder


def assert_same(a, b):
    assert [step for step, _ in a] == [step for step, _ in b]
    for (_, one), (_, other) in zip(a, b, strict=True):
        assert torch.equal(one.parameters, other.parameters)
        assert torch.equal(one.support.x, other.support.x)
        assert torch.equal(one.query.dxdt, other.query.dxdt)


def batches(count, **changes):
    settings = {"meta_batch": 4, "tasks": 20, "shots": 3, "queries": 2, "seed": 0}
    dataset = MetaBatches(SYSTEM, **{**settings, **changes})
    return [dataset[i] for i in range(count)]


def indices(batch, episodes):
    """Which of the episodes the tasks of a batch are, their points included."""
    found = []
    for task in range(len(batch)):
        (index,) = (episodes.parameters == batch.parameters[task]).all(-1).nonzero().flatten().tolist()
        assert torch.equal(batch.support.x[task], episodes.support.x[index])
        assert torch.equal(batch.support.dxdt[task], episodes.support.dxdt[index])
        assert torch.equal(batch.query.x[task], episodes.query.x[index])
        found.append(index)
    return found


def test_a_fixed_set_has_only_its_own_tasks_and_none_twice_in_a_batch():
    fixed = sample_episodes(SYSTEM, 20, 3, 2, seed=0)
    picks = [indices(batch, fixed) for batch in batches(60)]
    assert all(len(pick) == len(set(pick)) == 4 for pick in picks)
    assert {i for pick in picks for i in pick} == set(range(20)), "all tasks are used"
    assert len({frozenset(pick) for pick in picks}) > 50, "batches differ"


def test_every_task_is_picked_equally_often():
    fixed = sample_episodes(SYSTEM, 20, 3, 2, seed=0)
    counts = torch.zeros(20)
    for batch in batches(500):
        counts[indices(batch, fixed)] += 1
    assert counts.sum() == 2000
    assert (counts - 100).abs().max() < 4.5 * (500 * 0.2 * 0.8) ** 0.5


def test_a_batch_as_large_as_the_set_holds_all_of_it():
    fixed = sample_episodes(SYSTEM, 20, 3, 2, seed=0)
    (batch,) = batches(1, meta_batch=20)
    assert sorted(indices(batch, fixed)) == list(range(20))


def test_a_batch_does_not_depend_on_those_asked_for_before():
    dataset = MetaBatches(SYSTEM, 4, 20, 3, 2, seed=0)
    assert torch.equal(dataset[7].parameters, batches(8)[7].parameters)


def test_an_endless_stream_never_repeats_a_task():
    parameters = torch.cat([batch.parameters for batch in batches(50, tasks=None)])
    assert torch.equal(parameters, sample_episodes(SYSTEM, 200, 3, 2, seed=0).parameters)
    assert len(parameters.unique(dim=0)) == 200


@pytest.mark.parametrize("tasks", [20, None])
def test_another_seed_gives_other_tasks(tasks):
    one, other = batches(3, tasks=tasks), batches(3, tasks=tasks, seed=1)
    for a, b in zip(one, other, strict=True):
        assert not torch.isin(a.parameters, b.parameters).any()


@pytest.mark.parametrize("tasks", [20, None])
def test_training_gets_one_batch_a_step_in_order(tasks):
    recorder = fit(data(tasks=tasks))
    assert_same(recorder.seen, list(enumerate(batches(STEPS, tasks=tasks))))


def test_workers_do_not_change_the_data():
    assert_same(fit(data(num_workers=2)).seen, list(enumerate(batches(STEPS))))


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 7])
@pytest.mark.parametrize("tasks", [20, None])
def test_a_resumed_run_gets_the_batches_that_were_left(stop, tasks, tmp_path):
    path = tmp_path / "stopped.ckpt"
    stopped = fit(data(tasks=tasks), [Interrupt(stop, path)])
    resumed = fit(data(tasks=tasks), ckpt_path=path)
    assert_same(stopped.seen + resumed.seen, list(enumerate(batches(STEPS, tasks=tasks))))


@pytest.mark.parametrize("stop", [2, 6])
def test_a_run_resumed_after_a_validation_trains_and_validates_as_if_it_had_never_stopped(stop, tmp_path):
    whole = fit(data(), [SaveAfterValidation(stop, path := tmp_path / "validated.ckpt")])
    resumed = fit(data(), ckpt_path=path)
    assert_same(resumed.seen, whole.seen[stop:])
    assert_same(resumed.validated, [(step, batch) for step, batch in whole.validated if step > stop])


def test_validation_is_always_the_same_held_out_tasks():
    recorder = fit(data())
    expected = sample_episodes(SYSTEM, 6, 3, 2, seed=0, split="val")
    assert {step for step, _ in recorder.validated} == {2, 4, 6, 8}
    assert_same(recorder.validated, [(step, expected) for step, _ in recorder.validated])
    train = sample_episodes(SYSTEM, 200, 3, 2, seed=0)
    assert not torch.isin(expected.parameters, train.parameters).any()
    assert not torch.isin(expected.support.x, train.support.x).any()
