"""How far a command is, in the terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# A command that takes longer than so many seconds shows how far it is.
_PATIENCE = 2.0


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """A bar in the terminal for whatever takes longer than two seconds, with an estimate; nothing in a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("fitting", total=1.0)
    began = time.perf_counter()

    def said(what: str, done: float) -> None:
        bar.update(task, description=what, completed=done)
        if not bar.live.is_started and time.perf_counter() - began > _PATIENCE and console.is_terminal:
            bar.start()

    try:
        yield said
    finally:
        bar.stop()
