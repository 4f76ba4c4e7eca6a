"""The examples run, with small settings: each as a user starts it, its commands in this process."""

import contextlib
import io
import re
import runpy
import subprocess
import sys
from unittest import mock

import jupytext
import matplotlib as mpl
import pytest
from pages import ROOT
from reader import SMALL, invoke, train, with_trained

EXAMPLES = ROOT / "examples"
SMALLER = {
    "train_and_adapt": (["--steps", "4"], r"field MSE .*\nafter 5 time units"),
    "own_family": (["--steps", "3"], "relative error of the field"),
    "recordings": (["--members", "6", "--steps", "4"], r"the new spring at t = "),
    "phone_pendulum": (["outputs/ridge"], r"length: 0\.8[45]\d m\n"),
    "wandb_sweep": (["test.steps=[10]"], r"anil: field MSE .*\nmaml: field MSE "),
    "gpu": (["--tasks", "4", "--steps", "2"], r"\d tasks a second"),
    "notebooks/pendulum": ([], r"largest error of the field: \d\.\de-0[3-9]"),
    "notebooks/recording": ([], r"friction: 0\.0\d+ ± "),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(with_trained(tmp_path))
    monkeypatch.setitem(mpl.rcParams, "backend", "agg")
    return tmp_path


def test_every_example_is_run():
    found = {file.relative_to(EXAMPLES).with_suffix("").as_posix() for file in EXAMPLES.rglob("*.py")}
    assert found == set(SMALLER)
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    assert all(f"`{name}.py`" in listed for name in found if "/" not in name)


@pytest.mark.parametrize("name", SMALLER)
def test_an_example_says_what_it_found(name, home):
    elsewhere = subprocess.run

    def here(command, **more):
        if command[1:3] != ["-m", "meta_hamiltonian"]:
            return elsewhere(command, **more)
        kind, *arguments = command[3:]
        if kind == "train":
            train(arguments, home, tested="-m" in arguments)
        else:
            invoke([kind, *arguments, *([] if kind == "simulate" else SMALL[kind][:4])])

    arguments, expected = SMALLER[name]
    said = io.StringIO()
    with (
        mock.patch.object(subprocess, "run", here),
        mock.patch.object(sys, "argv", [f"{name}.py", *arguments]),
        contextlib.redirect_stdout(said),
    ):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert re.search(expected, said.getvalue()), said.getvalue()


@pytest.mark.parametrize("source", sorted((EXAMPLES / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_is_made_of_its_source(source):
    notebook = jupytext.read(source)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds.count("markdown") >= 3
    assert kinds.count("code") >= 4
