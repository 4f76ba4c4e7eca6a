"""Runs `train.py` as a user does, without the W&B account of whoever runs the tests."""

import contextlib
import csv
import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).parents[1]
# Everything at once in a few seconds.
TINY = (
    "experiment=quick",
    "model.width=8",
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
    "data.meta_batch=4",
    "data.tasks=40",
    "data.train_shots=8",
    "data.train_queries=8",
    "data.val_tasks=4",
    "test.n_systems=3",
    "test.steps=[0,5]",
)


class Finished(NamedTuple):
    code: int
    stdout: str
    stderr: str


def environment_of(home: Path) -> dict[str, str]:
    """Without the accounts and the settings of whoever runs the tests."""
    home.mkdir(parents=True, exist_ok=True)
    # Bytecode is kept, so that only the first of many processes compiles all that it imports.
    left_out = ("WANDB", "HYDRA", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    # W&B reads what is known of every installed package at the start of each run.
    return {**kept, "HOME": str(home), "COLUMNS": "80", "WANDB__SAVE_REQUIREMENTS": "false"}


def train(home: Path, *arguments: str, **environment: str) -> Finished:
    """`python train.py ...` in a process of its own, with the repository as working directory."""
    settings = {**environment_of(home), **environment}
    command = [sys.executable, "train.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=settings, text=True, capture_output=True, timeout=600, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


OF_A_RUN = ("streamlines", "trajectories", "training")
OF_A_SWEEP = ("comparison", "fields_side_by_side", "orbits_side_by_side")


@contextlib.contextmanager
def nearly_empty(figures: Iterable[str]) -> Iterator[None]:
    """Drawing takes most of the time of a tiny run, and few tests look at what is drawn."""
    from meta_hamiltonian import figures as drawing
    from meta_hamiltonian.jobs import test

    with contextlib.ExitStack() as stack:
        for name in figures:
            for module in (drawing, test):
                if hasattr(module, name):
                    empty = mock.patch.object(module, name, side_effect=lambda *_: drawing.new_figure(0.5, 0.5))
                    stack.enter_context(empty)
        yield


def train_here(home: Path, *arguments: str, figures: Collection[str] = (), **environment: str) -> Finished:
    """The same in this process: importing Lightning takes longer than a tiny training.

    Only the named figures are drawn; files of the others are there too.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        nearly_empty({*OF_A_RUN, *OF_A_SWEEP}.difference(figures)),
        mock.patch.dict(os.environ, {**environment_of(home), **environment}, clear=True),
        mock.patch.object(sys, "argv", ["train.py", *arguments]),
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path("train.py", run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            err.write("" if isinstance(end.code, int) else f"{end.code}\n")
    return Finished(code, out.getvalue(), err.getvalue())


def run(folder: Path, *arguments: str, figures: Collection[str] = ()) -> str:
    """A tiny run that must succeed, in this folder; what it printed."""
    done = train_here(folder.parent / "home", *TINY, f"hydra.run.dir={folder}", *arguments, figures=figures)
    assert done.code == 0, done.stderr
    return done.stdout


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def results(folder: Path) -> list[dict[str, str]]:
    """`results.csv` without the column that a clock decides."""
    return [{k: v for k, v in row.items() if k != "adapt_seconds"} for row in rows(folder / "results.csv")]


def plain(text: str) -> str:
    """Without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
