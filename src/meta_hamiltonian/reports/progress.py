"""How far a command is, in the terminal."""

import contextlib
import threading
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
    task = bar.add_task("working", total=1.0)
    # By a timer, since a command may say what it does once and then be busy for long.
    timer = threading.Timer(_PATIENCE, bar.start)
    timer.daemon = True
    if console.is_terminal:
        timer.start()

    def said(what: str, done: float) -> None:
        bar.update(task, description=what, completed=done)

    try:
        yield said
    finally:
        timer.cancel()
        if console.is_terminal:
            timer.join()  # it may be starting the bar just now
        bar.stop()
