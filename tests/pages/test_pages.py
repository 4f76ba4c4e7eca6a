"""Whatever the README or a page shows as code is run, with small settings, or says why it is not.

All pages are read by one reader: what a command has left is there for the next page, and no command is run twice.
"""

import contextlib
import csv
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from composing import composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from pages import PAGES, ROOT, Block, blocks_of, inline_commands
from reader import SMALL, TRAINED, invoke, train, with_trained

from meta_hamiltonian.config import check
from meta_hamiltonian.reports import system
from meta_hamiltonian.systems import HenonHeiles

# A minute of a swing, of which twenty seconds are observed, becomes four seconds, of which three are; orbits are short.
SHORTER = {"--to-time 20": "--to-time 3", "> 20]": "> 3]", "torch.linspace(0, 20, 201)": "torch.linspace(0, 1, 11)"}
# What sets up, tests and builds is run by the gate itself.
KNOWN = (["pip", "install", "uv"], ["pytest"], ["ruff"], ["pyright"], ["mkdocs"], ["source", ".venv/bin/activate"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The reader's folder."""
    folder = with_trained(tmp_path_factory.mktemp("reader"))
    with contextlib.chdir(folder):
        invoke(["simulate", "system=spring", "--out", "pendulums", *SMALL["simulate"]])
        invoke(["simulate", "system=pendulum", "--out", "new", *SMALL["simulate"]])
        for name in ("new_pendulum.csv", "observations.csv"):
            shutil.copy("new/member-1.csv", name)
        rows = list(csv.reader(Path("new/member-1.csv").read_text().splitlines()))[1:]
        lines = ["time\ttheta", *(f"{1000 * float(t)}\t{57.29578 * float(q)}" for t, q, _ in rows)]
        Path("video.txt").write_text("\n".join(lines) + "\n")
        stars = HenonHeiles()
        x = stars.domain.sobol(40)
        columns = torch.cat([x, stars.field(x, stars.sample_parameters(1, seed=0))], dim=-1).numpy()
        np.savetxt("stars.csv", columns, delimiter=",", comments="", header="q1,q2,p1,p2,dq1,dq2,dp1,dp2")
    return folder


@pytest.fixture(scope="module")
def done():
    """The commands that were run or composed already."""
    return set()


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_command_has_keys_and_values_that_are_allowed(page, done):
    """Also those that take hours, and those in running text."""
    commands = [words for block in blocks_of(page) if block.language == "bash" for words in block.commands]
    for words in [*commands, *inline_commands(page)]:
        if words[:2] == ["python", "train.py"]:
            for overrides in _jobs(words[2:]):
                if overrides not in done:
                    check(composed(*overrides))
                    done.add(overrides)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=names)
def test_the_blocks_of_a_page_run(page, home, done):
    """In order, with the names that those before it left."""
    scope: dict[str, object] = {"__name__": "__main__"}
    without_figures = mock.patch.object(system, "_figures", return_value={})
    with contextlib.chdir(home), without_figures, _own_modules(home):
        for block in blocks_of(page):
            text = block.text
            for long, short in SHORTER.items():
                text = text.replace(long, short)
            _run(block._replace(text=text), scope, home, done)


def _run(block: Block, scope: dict[str, object], home: Path, done: set) -> None:
    if block.mark == "not run" or block.language == "text":
        assert block.language == "text" or len(block.said) > 10, f"why is this not run?\n{block.text}"
    elif block.mark == "file":
        file = home / block.said
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
    elif block.language == "python":
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block.text, "a block of a page", "exec"), scope)  # noqa: S102
    else:
        assert block.language == "bash", f"a block of {block.language} is neither run nor marked"
        for words in block.commands:
            if tuple(words) not in done:
                _run_command(words, home)
                done.add(tuple(words))


def _run_command(words: list[str], home: Path) -> None:
    if words[:2] == ["python", "train.py"]:
        folder = next((word.removeprefix("hydra.run.dir=") for word in words if word.startswith("hydra.run.dir=")), "")
        if folder and folder not in TRAINED:  # the pages need it later; the keys of the others are tested above
            train(words[2:], home)
    elif words[:3] == ["python", "-m", "meta_hamiltonian"]:
        invoke([*words[3:], *SMALL[words[3]]])
    else:
        assert any(words[: len(known)] == known for known in KNOWN), f"how is {words} tested?"


def _jobs(arguments: list[str]) -> list[tuple[str, ...]]:
    """The overrides of a run, or of the first and the last job of a sweep; none with a configuration of one's own."""
    if any(word.startswith("--") for word in arguments):
        return []
    left_out = ("-m", "hydra", "ckpt_path=outputs/<")
    overrides = [word for word in arguments if not word.startswith(left_out) and "NAME" not in word]
    jobs: list[tuple[str, ...]] = [()]
    for override, text in zip(OverridesParser.create().parse_overrides(overrides), overrides, strict=True):
        swept = override.is_sweep_override()
        values = [f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()] if swept else [text]
        jobs = [(*job, value) for job in jobs for value in values]
    return [jobs[0], jobs[-1]]


@contextlib.contextmanager
def _own_modules(home: Path) -> Iterator[None]:
    """The reader's modules are found in his folder, and forgotten afterwards."""
    before = set(sys.modules)
    with mock.patch.object(sys, "path", [str(home), *sys.path]):
        yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
