"""What `python train.py --help` prints: made of the schema and of the values that the command line asks for."""

import dataclasses
import itertools
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.config.schema import GROUPS

_WIDTH, _INDENT = 120, 30
_SENTENCE_END = re.compile(r"(?<!et al)\. ")


def keys_help(config: DictConfig, folder: Path) -> str:
    """A line or two for every group and every key.

    **Arguments:**

    - `config`: composed, with the values to be shown.
    - `folder`: `conf/`, whose files are what can be chosen.
    """
    groups = [
        line for group, words in GROUPS.items() for line in _group(folder / group.removeprefix("+"), group, words)
    ]
    keys = [_entry(f"{name}={_value(value)}", words) for name, value, words in _keys(config, "")]
    return "\n".join(
        ["Groups, as group=value: each value is a file in conf/<group>/.", *groups, "", "Keys, as key=value.", *keys]
    )


def _keys(node: DictConfig, prefix: str) -> Iterator[tuple[str, Any, str]]:
    schema = OmegaConf.get_type(node)
    if schema is None or not dataclasses.is_dataclass(schema):
        return
    inside = []
    for field in dataclasses.fields(schema):
        if OmegaConf.is_missing(node, field.name):
            continue
        value = node[field.name]
        if isinstance(value, DictConfig):
            inside.append((value, f"{prefix}{field.name}."))
        elif field.metadata.get("help"):
            yield f"{prefix}{field.name}", value, field.metadata["help"]
    for value, name in inside:
        yield from _keys(value, name)


def _group(folder: Path, group: str, words: str) -> list[str]:
    """A line for the group, and one for each of its files: what the comment that begins it says first."""
    files = sorted(folder.glob("*.yaml"))
    told = [(file.stem, comment) for file in files if (comment := _first_sentence(file))]
    untold = [file.stem for file in files if not _first_sentence(file)]
    names = f"={'|'.join(untold)}" if untold else "="
    return [_entry(f"{_bold(group)}{names}", words), *(_entry(f"  {name}", comment) for name, comment in told)]


def _first_sentence(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    comment = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    text = " ".join(line.lstrip("# ") for line in comment).rstrip(".:")
    return _SENTENCE_END.split(text)[0]


def _value(value: Any) -> str:
    if OmegaConf.is_config(value):
        return str(OmegaConf.to_container(value)).replace(" ", "")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _entry(name: str, words: str) -> str:
    lines = textwrap.wrap(words, _WIDTH - _INDENT - 2)
    plain = name.replace("\033[1m", "").replace("\033[0m", "")
    if len(plain) <= _INDENT - 4:
        lines[0] = f"{name}{' ' * (_INDENT - len(plain) - 2)}{lines[0]}"
        return "\n".join([f"  {lines[0]}", *(f"{' ' * _INDENT}{line}" for line in lines[1:])])
    return "\n".join([f"  {name}", *(f"{' ' * _INDENT}{line}" for line in lines)])


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text
