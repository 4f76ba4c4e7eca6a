"""What commands print: messages for people, one JSON object for machines, and errors in one line."""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer


class Output:
    """Where a command's words go. Colours go away in a pipe, and where NO_COLOR is set."""

    def __init__(self, machine: bool):
        """**Arguments:** `machine`: one JSON object is printed, and all words go to stderr."""
        self.machine = machine

    def say(self, text: str, **style: Any) -> None:
        """A line for people."""
        typer.secho(text, err=self.machine, color=_colour(), **style)

    def warn(self, warnings: Iterable[str]) -> None:
        """Lines that say what is not to be trusted."""
        for warning in warnings:
            self.say(f"Warning: {warning}", fg="yellow")

    def finish(self, found: Mapping[str, Any]) -> None:
        """Prints the object for machines, where a number that is not finite is null."""
        if self.machine:
            typer.echo(json.dumps(_plain(found), allow_nan=False))


def _colour() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors in a user's file, folder or number into one line, and exits with code 2."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        if isinstance(error, (TypeError, RuntimeError)) and not type(error).__module__.startswith("meta_hamiltonian"):
            raise
        typer.secho("Error:", fg="red", nl=False, err=True, color=_colour())
        typer.echo(f" {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


def check_free(path: Path, force: bool) -> None:
    """**Raises:** `FileExistsError` for what is not to be replaced."""
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already; choose another name, or replace it with --force")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears only when it is complete, in the place of one that exists."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as unfinished:
        inside = Path(unfinished) / "new"
        inside.mkdir()
        yield inside
        if folder.exists():
            os.replace(folder, Path(unfinished) / "old")
        os.replace(inside, folder)
