"""The bar that says how far a command is: in a terminal once it takes long, and nowhere else."""

import io
import time

import pytest
from rich.console import Console

from meta_hamiltonian.reports import progress


@pytest.fixture
def stream(monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.05)
    return io.StringIO()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_what_is_done_after_a_while_and_a_pipe_nothing(stream, monkeypatch, terminal):
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=stream, force_terminal=terminal, width=80))
    with progress.progress() as said:
        said("following the network", 0.25)  # once: the bar comes by itself
        time.sleep(0.3)
    assert ("following the network" in stream.getvalue()) == terminal


def test_what_is_done_at_once_shows_nothing(stream, monkeypatch):
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=stream, force_terminal=True, width=80))
    monkeypatch.setattr(progress, "_PATIENCE", 60.0)
    with progress.progress() as said:
        said("following the network", 0.25)
    assert "following" not in stream.getvalue()
