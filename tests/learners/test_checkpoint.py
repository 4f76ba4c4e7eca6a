import os
import pickle
import sys

import pytest
import torch
from lightning import Trainer

from meta_hamiltonian import load
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.episodes.datamodule import EpisodeDataModule
from meta_hamiltonian.learners import ANIL, MAML
from meta_hamiltonian.learners.checkpoint import SETTINGS_KEY, CheckpointError, build_learner
from meta_hamiltonian.systems import Pendulum
from meta_hamiltonian.training.modules import AdamLoop

PACKAGE = "meta_hamiltonian"


def settings(algo="ANIL", model="HamiltonianNetwork", **changes):
    """As a run keeps them, its names and seed included."""
    made = {
        "system": {"_target_": f"{PACKAGE}.systems.Pendulum", "gravity": 1.0},
        "model": {"_target_": f"{PACKAGE}.models.{model}", "width": 6, "depth": 2, "activation": "sin"},
        "algo": {
            "_target_": f"{PACKAGE}.learners.{algo}",
            "lr": 0.02,
            "inner_steps": 3,
            "learn_lr": True,
            "scale": "task",
        },
        "names": {"system": "pendulum", "model": "hnn", "algo": algo.lower()},
        "seed": 0,
    }
    return {**made, **changes}


def checkpoint(kept):
    """What a training with these settings leaves, and the learner in it."""
    torch.manual_seed(0)
    learner = build_learner(kept)
    with torch.no_grad():
        for value in learner.parameters():
            value.add_(0.1 * torch.randn_like(value))
    weights = {f"learner.{name}": value for name, value in learner.state_dict().items()}
    return {"state_dict": weights, SETTINGS_KEY: kept, "global_step": 5, "epoch": 0}, learner


def save(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def one_line_error(path):
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.strip()
    assert "\n" not in message
    return message


@pytest.mark.parametrize("model", ["HamiltonianNetwork", "VectorFieldNetwork"])
@pytest.mark.parametrize("algo", ["MAML", "ANIL"])
def test_a_loaded_learner_is_the_one_that_was_saved(algo, model, tmp_path):
    content, learner = checkpoint(settings(algo, model))
    loaded = load(save(content, tmp_path / "any name.ckpt"))
    assert type(loaded) is type(learner) is {"MAML": MAML, "ANIL": ANIL}[algo]
    assert (loaded.inner_steps, loaded.scale, loaded.lr) == (3, "task", 0.02)
    support = sample_episodes(Pendulum(), 1, 10, 1, seed=0).support[0]
    fields = [one.adapt(support.x, support.dxdt).field(support.x) for one in (loaded, learner)]
    assert torch.equal(*fields)
    assert not torch.equal(
        fields[0], build_learner(settings(algo, model)).adapt(support.x, support.dxdt).field(support.x)
    )


def test_a_learner_keeps_every_digit_of_a_training_in_float64(tmp_path):
    kept = settings() | {"algo": {"_target_": f"{PACKAGE}.learners.Ridge", "rank": 3, "noise": 1e-10, "scale": "task"}}
    learner = build_learner(kept).double()
    with torch.no_grad():
        for value in learner.parameters():
            value.add_(0.1 * torch.randn_like(value))
    weights = {f"learner.{name}": value for name, value in learner.state_dict().items()}
    loaded = load(save({"state_dict": weights, SETTINGS_KEY: kept}, tmp_path / "a.ckpt"))
    for name, value in loaded.state_dict().items():
        assert value.dtype == learner.state_dict()[name].dtype
        assert torch.equal(value, learner.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_the_learner_is_that_of_the_training(tmp_path):
    """Through Lightning, which writes the file in a real run."""
    kept = settings("MAML")
    module = AdamLoop(build_learner(kept), kept, max_skipped=5, lr=0.01, rates_lr=0.1)
    data = EpisodeDataModule(
        Pendulum(),
        meta_batch=2,
        tasks=None,
        train_shots=4,
        train_queries=4,
        val_tasks=2,
        num_workers=0,
        seed=0,
    )
    trainer = Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    before = {name: value.clone() for name, value in module.learner.state_dict().items()}
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    loaded = load(tmp_path / "run").state_dict()
    assert loaded.keys() == before.keys()
    for name, value in module.learner.state_dict().items():
        assert torch.equal(loaded[name], value), name
        if not name.startswith(("friction.", "band_factor")):  # which recorded members alone have
            assert not torch.equal(loaded[name], before[name]), name


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_folder_stands_for_its_best_checkpoint(kind, tmp_path):
    content, learner = checkpoint(settings())
    save(content, tmp_path / "checkpoints" / "best.ckpt")
    other, _ = checkpoint(settings())
    other["state_dict"] = {name: value + 1 for name, value in other["state_dict"].items()}
    save(other, tmp_path / "checkpoints" / "last.ckpt")
    assert torch.equal(load(kind(tmp_path)).net.head.weight, learner.net.head.weight)
    assert torch.equal(load(kind(tmp_path / "checkpoints" / "last.ckpt")).net.head.weight, learner.net.head.weight + 1)


def test_what_does_not_exist_is_said_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"best\.ckpt does not exist"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"mine\.ckpt does not exist"):
        load(tmp_path / "mine.ckpt")


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(fraction, tmp_path):
    path = save(checkpoint(settings())[0], tmp_path / "a.ckpt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    assert str(path) in one_line_error(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content",
    [
        b"hello world\n",
        b"import os\n",
        b"shots,steps,field_mse_mean\n25,5,0.1\n",
        b'{"state_dict": {}}',
        b"%PDF-1.7\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bytes(1000),
        bytes(range(256)),
    ],
    ids=["text", "python", "csv", "json", "pdf", "png", "zeros", "all bytes"],
)
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    assert str(path) in one_line_error(path)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"weight": torch.zeros(2)}, "epoch": 3},  # Lightning's, of another program
        {"weight": torch.zeros(2)},  # a bare state_dict
        {SETTINGS_KEY: settings()},
        torch.zeros(3),
        [1, 2, 3],
    ],
    ids=["other program", "weights only", "settings only", "tensor", "list"],
)
def test_a_checkpoint_of_another_program_is_refused(content, tmp_path):
    path = save(content, tmp_path / "a.ckpt")
    message = one_line_error(path)
    assert str(path) in message
    assert "another program" in message


def without(content, name):
    del content["state_dict"][name]


WRONG_WEIGHTS = {
    "missing": lambda content: without(content, "learner.net.head.weight"),
    "none": lambda content: content["state_dict"].clear(),
    "too many": lambda content: content["state_dict"].update({"learner.net.extra": torch.zeros(1)}),
    "of another width": lambda content: content["state_dict"].update({"learner.net.head.weight": torch.zeros(1, 7)}),
    "of other settings": lambda content: content[SETTINGS_KEY]["model"].update({"depth": 3}),
}


@pytest.mark.parametrize("spoil", WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_weights_that_do_not_fit_the_settings_are_refused(spoil, tmp_path):
    content, _ = checkpoint(settings())
    spoil(content)
    path = save(content, tmp_path / "a.ckpt")
    assert str(path) in one_line_error(path)


@pytest.mark.parametrize("group", ["system", "model", "algo"])
@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "torch.nn.Linear",
        "meta_hamiltonian.experiment.run",
        "meta_hamiltonian.learners.Adapted",
        "meta_hamiltonian.learners.gradient.GradientLearner",
        "meta_hamiltonian.models.autograd_field",
        "meta_hamiltonian.systems.integrate",
        "meta_hamiltonian.systems.NoSuchSystem",
        "meta_hamiltonian.systems",
        "",
        None,
        7,
    ],
)
def test_only_classes_of_this_package_are_built(group, target, tmp_path):
    kept = settings()
    content, _ = checkpoint(kept)
    content[SETTINGS_KEY] = {**kept, group: {**kept[group], "_target_": target}}
    assert "_target_" in one_line_error(save(content, tmp_path / "a.ckpt"))


def test_a_class_of_this_package_in_the_wrong_place_is_refused(tmp_path):
    kept = settings()
    content, _ = checkpoint(kept)
    content[SETTINGS_KEY] = {**kept, "algo": kept["system"]}
    assert "Pendulum is not a Learner" in one_line_error(save(content, tmp_path / "a.ckpt"))


def test_a_module_outside_the_package_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "not_ours_at_all.py").write_text("class MAML: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    kept = settings()
    content, _ = checkpoint(kept)
    content[SETTINGS_KEY] = {**kept, "algo": {"_target_": "not_ours_at_all.MAML"}}
    one_line_error(save(content, tmp_path / "a.ckpt"))
    assert "not_ours_at_all" not in sys.modules


SPOILED_SETTINGS = {
    "no algo": lambda kept: kept.pop("algo"),
    "no settings": lambda kept: kept.clear(),
    "unknown argument": lambda kept: kept["model"].update({"colour": "red"}),
    "value that is not allowed": lambda kept: kept["model"].update({"activation": "relu"}),
    "value of another type": lambda kept: kept["model"].update({"width": "wide"}),
    "number out of its range": lambda kept: kept["model"].update({"depth": 0}),
    "truth where a number belongs": lambda kept: kept["algo"].update({"inner_steps": "many"}),
    "what looks elsewhere": lambda kept: kept["model"].update({"activation": "${oc.env:HOME}"}),
    "group that is a list": lambda kept: kept.update({"algo": [1, 2]}),
    "abstract class": lambda kept: kept["algo"].update({"_target_": "meta_hamiltonian.learners.Learner"}),
}


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("spoil", SPOILED_SETTINGS.values(), ids=SPOILED_SETTINGS)
def test_settings_from_which_nothing_can_be_built_are_refused(spoil, tmp_path):
    """Such as those of a later version of this package."""
    content, _ = checkpoint(settings())
    spoil(content[SETTINGS_KEY])
    one_line_error(save(content, tmp_path / "a.ckpt"))


class Payload:
    """A pickle that runs code when it is read: it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


WRITERS = {
    "zip": (torch.save, lambda path: torch.load(path, weights_only=False)),
    "bare pickle": (
        lambda content, path: path.write_bytes(pickle.dumps(content)),
        lambda path: pickle.loads(path.read_bytes()),
    ),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", ["state_dict", SETTINGS_KEY, "callbacks", None])
@pytest.mark.parametrize(("write", "read_carelessly"), WRITERS.values(), ids=WRITERS)
def test_code_in_a_checkpoint_is_not_run(write, read_carelessly, place, tmp_path):
    def hidden(mark):
        return Payload(mark) if place is None else {**checkpoint(settings())[0], place: Payload(mark)}

    write(hidden(tmp_path / "proof"), tmp_path / "proof.ckpt")
    read_carelessly(tmp_path / "proof.ckpt")
    assert (tmp_path / "proof").exists(), "the payload works"

    path = tmp_path / "a.ckpt"
    write(hidden(tmp_path / "run"), path)
    assert str(path) in one_line_error(path)
    assert not (tmp_path / "run").exists()
