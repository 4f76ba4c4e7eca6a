"""`algo.latents` from outside."""

import re

import pytest
from command import TINY, results, train_here

from meta_hamiltonian import load
from meta_hamiltonian.learners.checkpoint import load_trained

pytestmark = pytest.mark.slow

SMALL = ("algo=ridge", "model.width=6", "trainer.val_check_interval=2", "logger=none", "test.n_systems=2")


def test_a_training_says_how_many_latents_it_takes_and_leaves_a_learner_with_them(tmp_path):
    folder = tmp_path / "run"
    arguments = (*TINY, *SMALL, "algo.latents=auto", "system=kepler", "system.centre=1", f"hydra.run.dir={folder}")
    done = train_here(tmp_path / "home", *arguments)
    assert done.code == 0, done.stderr
    said = re.search(r"Latents: (none|2) \(loss of held-out members: \S+ with 0, \S+ with 2\)", done.stdout)
    assert said is not None, done.stdout
    latents = 0 if said[1] == "none" else 2
    learner = load(folder)
    assert learner.net.latents == latents
    assert learner.net.head.in_features == load(folder / "checkpoints" / "last.ckpt").net.head.in_features
    assert [row["shots"] for row in results(folder)] == ["25", "50", "100", "200"], "of several degrees of freedom"


def test_a_short_training_with_latents_looks_at_its_columns_at_the_half(tmp_path):
    folder = tmp_path / "run"
    long = ("trainer.val_check_interval=50", "algo.latents=1", "system=spring")
    done = train_here(tmp_path / "home", *TINY, *SMALL, *long, f"hydra.run.dir={folder}")
    assert done.code == 0, done.stderr
    last = load_trained(folder / "checkpoints" / "last.ckpt")
    assert [row["step"] for row in last.history] == [3, 6]


def test_recordings_have_no_latents_yet(tmp_path):
    arguments = ("algo=ridge", "algo.latents=1", "system=recorded", f"data.path={tmp_path}", "logger=none")
    done = train_here(tmp_path / "home", *arguments)
    assert done.code != 0
    assert "algo.latents=1 is not allowed with recordings" in done.stderr
    assert "Traceback" not in done.stderr
