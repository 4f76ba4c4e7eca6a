"""The load and fault test of `tests/faults`, for two kills; by hand it takes many."""

import subprocess
import sys

import pytest
from command import ROOT, environment_of

pytestmark = pytest.mark.slow


def test_nothing_is_lost_to_kills(tmp_path):
    """A training goes on after each; what a sweep keeps is tested in test_train.py, and by hand as the README shows."""
    short = ("trainer.max_steps=300", "trainer.val_check_interval=30", "trainer.precision=64-true")
    untested = ("shots=5", "test.n_systems=1", "test.steps=0")
    halfway = ("--kills", "2", "--seed", "34")  # its moments lie in the middle, where a training is
    command = [sys.executable, str(ROOT / "tests" / "faults" / "kills.py"), "training", *short, *untested, *halfway]
    environment = {**environment_of(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills: " in done.stdout
    assert "are the same." in done.stdout
