"""The options that several commands have, and how their text is read."""

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from meta_hamiltonian.commands.suggestions import runs


def _complete_run(incomplete: str) -> list[str]:
    return [str(run) for run in runs() if str(run).startswith(incomplete)]


Run = Annotated[
    Path | None,
    typer.Argument(help="A run's folder, or a checkpoint file.", autocompletion=_complete_run, show_default=False),
]
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", help="A module of yours to import first, such as one that registers your family."),
]
Device = Annotated[
    str, typer.Option(help="Where to compute: cpu, cuda (or cuda:1 and so on), or auto, a GPU where there is one.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and everything else to stderr.")]


def import_modules(modules: list[str] | None) -> None:
    """Imports a user's modules, from where Python finds them or from the current folder."""
    if modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for module in modules or []:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"--import {module} is not allowed: {error}") from error


def device_of(name: str) -> str:
    """The device that an option names.

    **Raises:** `ValueError`, which names those that there are, for one that is not among them.
    """
    if name == "cpu":
        return name

    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return "cuda" if found else "cpu"
    if name not in found and not (found and name == "cuda"):
        there = ", ".join(["cpu", *found])
        raise ValueError(f"--device {name} is not allowed: this machine has {there}; give one of these, or auto")
    return name


def pairs(option: str, text: str | None) -> dict[str, str]:
    """The pairs of a text such as `q=deg,t=ms`."""
    found = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    if not all(name.strip() and equals and value.strip() for name, equals, value in found):
        raise ValueError(f"{option} must be pairs such as q=deg,t=ms, separated by commas, got {text!r}")
    return {name.strip(): value.strip() for name, _, value in found}


def numbers(option: str, text: str, least: float) -> list[float]:
    """The numbers of a text such as `5,25`, each at least so large."""
    values = _floats(text)
    if not values or not all(least <= value < float("inf") for value in values):
        raise ValueError(f"{option} must be numbers of at least {least:g}, separated by commas, got {text!r}")
    return values


def state(text: str, count: int) -> list[float]:
    """The coordinates of a state, as many as it has."""
    values = _floats(text)
    if len(values) != count or not all(abs(value) < float("inf") for value in values):
        raise ValueError(f"--from must be {count} finite numbers separated by commas, got {text!r}")
    return values


def _floats(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []
