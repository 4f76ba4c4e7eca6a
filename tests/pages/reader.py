"""Runs commands as a reader of the pages does, in this process and with small settings."""

import contextlib
import io
import os
import runpy
import shutil
import sys
from pathlib import Path
from unittest import mock

from command import OF_A_RUN, OF_A_SWEEP, TINY, environment_of, nearly_empty
from pages import ROOT
from typer.testing import CliRunner

from meta_hamiltonian.__main__ import app
from meta_hamiltonian.jobs import run
from meta_hamiltonian.jobs import train as run_of_training

# What is added to a command so that it takes a second; a later option takes the place of an earlier one.
SMALL = {
    "simulate": ["--members", "6", "--duration", "4", "--rate", "8", "--force"],
    "adapt": ["--friction", "none", "--fit", "derivatives", "--horizon", "1", "--force"],
    "bands": ["--n-systems", "10", "--shots", "10", "--noise", "0", "--force"],
    "identify": ["--n-systems", "8", "--force"],
    "export": ["--force"],
}
SMALL_TRAINING = {
    "recorded": ["model.width=8", "trainer.max_steps=4", "trainer.val_check_interval=2", "data.train_shots=6"],
    "other": [*(key for key in TINY if not key.startswith("experiment")), "shots=5", "test.n_systems=1"],
}
# These are there from the beginning: to train takes a minute, and an observation is a reader's own.
TRAINED = ("outputs/ridge", "outputs/best")


def with_trained(folder: Path) -> Path:
    """The folder, with a learner in each of these runs."""
    for trained in TRAINED:
        (folder / trained / "checkpoints").mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "data" / "ridge.ckpt", folder / trained / "checkpoints" / "best.ckpt")
    return folder


def invoke(arguments: list[str]) -> None:
    """`python -m meta_hamiltonian`."""
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, f"{arguments}: {ended.output}"


def train(arguments: list[str], home: Path, tested: bool = False) -> None:
    """`python train.py`; the test after a training and its check of bands take longer than it, and tests/jobs looks at
    them."""
    given = {word.partition("=")[0] for word in arguments}
    more = [*SMALL_TRAINING["recorded" if "system=recorded" in arguments else "other"]]
    more += ["trainer.enable_progress_bar=false"] + ([] if "logger.mode" in given else ["logger=none"])
    output = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, environment_of(home / "account"), clear=True))
        words = ["train.py", *arguments, *(word for word in more if word.partition("=")[0] not in given)]
        stack.enter_context(mock.patch.object(sys, "argv", words))
        for name in () if tested else ("test", "test_forecasts"):
            stack.enter_context(mock.patch.object(run, name))
        stack.enter_context(mock.patch.object(run_of_training, "band_factor", return_value=1.0))
        stack.enter_context(nearly_empty({*OF_A_RUN, *OF_A_SWEEP}))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(output))
        code: object = 0
        try:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
    assert not code, f"{arguments}: {output.getvalue()}"
