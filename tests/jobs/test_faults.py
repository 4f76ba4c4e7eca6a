"""The load and fault test of `tests/faults`, for two kills; by hand it takes many."""

import sys
import tempfile
from unittest import mock

import pytest
from command import ROOT, environment_of
from forked import Forked, ready, train_py

sys.path.append(str(ROOT / "tests" / "faults"))
import kills

pytestmark = pytest.mark.slow


def test_nothing_is_lost_to_kills(tmp_path, monkeypatch, capsys):
    """A training goes on after each; what a sweep keeps is tested in test_train.py, and by hand as the README shows."""
    started = []

    def start(what, folder, *more):
        arguments = ["train.py", *kills.COMMANDS[what], f"hydra.run.dir={folder}", *more]
        said = tmp_path / f"said-{len(started)}"
        started.append(Forked(train_py, arguments, ROOT, environment_of(tmp_path / "home"), said))
        return started[-1]

    short = ("trainer.max_steps=300", "trainer.val_check_interval=30", "trainer.precision=64-true")
    untested = ("shots=5", "test.n_systems=1", "test.steps=0")
    halfway = ("--kills", "2", "--seed", "50")  # its moments lie in the middle, where a training is
    monkeypatch.setattr(sys, "argv", ["kills.py", "training", *short, *untested, *halfway])
    monkeypatch.setattr(kills, "start", start)
    ready()  # else the first of them takes longer, and the moments come too late
    with mock.patch.object(tempfile, "tempdir", str(tmp_path)):
        kills.main()
    said = capsys.readouterr().out
    codes = [process.returncode for process in started]
    assert (codes[0], codes[-1], len(codes)) == (0, 0, 4)
    assert -9 in codes, "on a busy machine the first of them may have killed nothing that the second did not"
    assert "2 kills: " in said
    assert "are the same." in said
