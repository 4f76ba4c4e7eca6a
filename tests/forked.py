"""`train.py` in processes of its own that are forked from one in which PyTorch and Lightning are imported already.

To import them takes several seconds of computing, more than all else that a tiny run does. What a test asks of a
process, to be killed alone, to know nothing of earlier runs, or to have none of the tests' checks of shapes in its
functions, such a process does as well.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from command import ROOT, Finished, environment_of

CONTEXT = multiprocessing.get_context("forkserver")
# Not W&B, which makes a folder for temporary files when it is imported.
CONTEXT.set_forkserver_preload(["meta_hamiltonian.jobs.run", "meta_hamiltonian.__main__", "torch.export"])


def ready() -> None:
    """Waits until everything is imported, where that has not been done yet."""
    process = CONTEXT.Process(target=int)
    process.start()
    process.join()


class Forked:
    """A process, with the methods of `subprocess.Popen` that the tests need; `said` is where its words go."""

    def __init__(
        self,
        program: Callable[[], Any],
        words: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        said: Path,
    ):
        self._said = said
        self._process = CONTEXT.Process(target=_run, args=(program, words, cwd, environment, said))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def communicate(self) -> tuple[str, None]:
        self._process.join()
        return self._said.read_text() + self._said.with_suffix(".err").read_text(), None

    def finished(self, seconds: float) -> Finished:
        """How it ended, and what it said."""
        self._process.join(seconds)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(str(self._said), seconds)
        return Finished(self.returncode, self._said.read_text(), self._said.with_suffix(".err").read_text())


def _run(
    program: Callable[[], Any], words: Sequence[str], cwd: Path, environment: Mapping[str, str], said: Path
) -> None:
    os.setsid()  # so that all that it starts is killed with it
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the process that it is forked from ignores
    for number, file in ((1, said), (2, said.with_suffix(".err"))):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv[:] = words
    try:
        program()
    finally:
        atexit._run_exitfuncs()  # which no process of `multiprocessing` does by itself


def train_py() -> None:
    """The program `train.py`."""
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


def train(home: Path, *arguments: str, program: Callable[[], Any] = train_py, **environment: str) -> Finished:
    """As [`command.train`][], by a process that is forked."""
    settings = {**environment_of(home), **environment}
    return Forked(program, ["train.py", *arguments], ROOT, settings, home / "said").finished(600)


def package_main() -> None:
    """`python -m meta_hamiltonian`, which finds modules in the folder that it is called in."""
    sys.path.insert(0, os.getcwd())
    runpy.run_module("meta_hamiltonian", run_name="__main__", alter_sys=True)
