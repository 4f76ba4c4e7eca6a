"""What Hydra refuses on a command line, in one line with the nearest key or value that there is."""

import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra import compose
from hydra._internal import utils
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig

from meta_hamiltonian.config.schema import GROUPS, SCHEMAS, RecordedDataConfig

# Keys that come with a choice in another group.
_HOLDERS = {f"data.{field.name}": "system=recorded" for field in dataclasses.fields(RecordedDataConfig)}


def refusal(error: Exception, overrides: Sequence[str]) -> str | None:
    """One line about an override that cannot be composed; None for any other error.

    Call it while Hydra is initialized, since it composes the configuration without the override.
    """
    if not isinstance(error, HydraException):
        return None
    if isinstance(error, OverrideParseException):
        return f"{error.override} is not allowed: give key=value, and lists without blanks as in shots=25,50"
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = [option for option in error.options if not option.endswith("_schema")]
        return f"{group}={name} is not allowed: {_near(name, options)}choose from {', '.join(options)}"
    said, *_ = str(error).splitlines() or [""]
    if several := re.match(r"Ambiguous value for argument '(.+)'", said):
        return f"{several[1]} is not allowed for a single run: add -m, which runs one for each value"
    if folder := re.match(r"Additional config directory '(.+)' not found", said):
        return f"--config-dir is not allowed: there is no folder {folder[1]}"
    if unknown := re.match(r"Could not override '([^']+)'", said):
        if holder := _HOLDERS.get(unknown[1]):
            return f"there is no key {unknown[1]} here: give {holder} as well"
        chosen = [text for text in overrides if text.lstrip("+").partition("=")[0] in {g.lstrip("+") for g in GROUPS}]
        near = _near(unknown[1], [*GROUPS, *_keys_of(chosen)])
        return f"there is no key {unknown[1]}: {near}{' '.join([command(), *chosen, '--help'])} lists every key"
    if merged := re.match(r"Error merging override (.+)", said):
        reason, *_ = str(error.__cause__).splitlines() or [""]
        words = _allowed(merged[1].lstrip("+").partition("=")[0])
        return f"{merged[1]} is not allowed: {words or reason[:1].lower() + reason[1:]}"
    return None


def command() -> str:
    """How this command is typed: in a clone, or where the package is installed."""
    return sys.argv[0] if sys.argv[0].startswith("meta-hamiltonian") else "python train.py"


def in_one_line() -> None:
    """Makes `hydra.main` say what it refuses in one line.

    Hydra offers no way to do so: it prints such errors in several lines, with advice to add the key by `+`, before any
    code of the job runs. HYDRA_FULL_ERROR=1 still shows its own words.
    """
    hydras = utils.run_and_report

    def run_and_report(func: Callable[[], Any]) -> Any:
        def attempt() -> Any:
            try:
                return func()
            except HydraException as error:
                given = [text for text in sys.argv[1:] if "=" in text and not text.startswith("-")]
                words = None if os.environ.get("HYDRA_FULL_ERROR") else refusal(error, given)
                if words is None:
                    raise
                sys.exit(f"Error: {words}")

        return hydras(attempt)

    utils.run_and_report = run_and_report


def _allowed(key: str) -> str:
    """What the value of a key may be; empty where its schema does not say."""
    group, _, name = key.rpartition(".")
    for schema in SCHEMAS.get(group or None, {}).values():
        for field in dataclasses.fields(schema):
            if field.name == name and (allowed := field.metadata.get("allowed")):
                return f"give {allowed.words}"
    return ""


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}? " if near else ""


def _keys_of(chosen: Sequence[str]) -> list[str]:
    """The keys of the configuration with these groups; of a sweep, with the first of its values."""
    try:
        return list(_keys(compose("config", [text.partition(",")[0] for text in chosen]), ""))
    except HydraException:  # a group is wrong too
        return list(_keys(compose("config"), ""))


def _keys(node: DictConfig, prefix: str) -> Iterator[str]:
    for name in node:
        value = node._get_node(name)
        if isinstance(value, DictConfig):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
