"""What a key of the configuration may be: the words for it, the test, and its help text."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from omegaconf import MISSING


@dataclasses.dataclass(frozen=True)
class Allowed:
    """Which values a key takes: the words for them, and a test."""

    words: str
    test: Callable[[Any], bool]

    def or_null(self) -> "Allowed":
        """The same values, or none."""
        return Allowed(f"{self.words}, or null", lambda v: v is None or self.test(v))

    def or_word(self, word: str) -> "Allowed":
        """The same values, or this word."""
        return Allowed(f"{self.words}, or {word}", lambda v: v == word or self.test(v))


def key(allowed: Allowed | None, words: str) -> Any:
    """A field without a default (it is in `conf/`).

    **Arguments:**

    - `allowed`: which values it takes beyond its type.
    - `words`: what `--help` says of it; empty for a key that nobody types.
    """
    return dataclasses.field(default=MISSING, metadata={"allowed": allowed, "help": words})


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def integer(at_least: int) -> Allowed:
    """A whole number."""
    return Allowed(f"an integer of at least {at_least}", lambda v: _is_int(v) and v >= at_least)


def positive() -> Allowed:
    """A number above 0."""
    return Allowed("a finite number above 0", lambda v: _is_number(v) and 0 < v < math.inf)


def not_negative() -> Allowed:
    """A number from 0 on."""
    return Allowed("a finite number of at least 0", lambda v: _is_number(v) and 0 <= v < math.inf)


def part() -> Allowed:
    """A number from 0 on, below 1."""
    return Allowed("a number of at least 0 and below 1", lambda v: _is_number(v) and 0 <= v < 1)


def integer_or_name() -> Allowed:
    """A whole number from 0 on, or a text."""
    return Allowed(
        "an integer of at least 0, or a name", lambda v: (_is_int(v) and v >= 0) or (isinstance(v, str) and bool(v))
    )


def one_of(*names: str | bool | None) -> Allowed:
    """One of these values."""
    words = ", ".join("null" if name is None else str(name).lower() for name in names)
    # 1 is not true here, as it is for Python.
    return Allowed(f"one of {words}", lambda v: any(v == name and type(v) is type(name) for name in names))


def integers(at_least: int) -> Allowed:
    """One number or a list of different ones."""

    def test(value: Any) -> bool:
        values = value if isinstance(value, list) else [value]
        return bool(values) and all(_is_int(v) and v >= at_least for v in values) and len(set(values)) == len(values)

    return Allowed(f"an integer of at least {at_least}, or a list of different ones", test)


def names() -> Allowed:
    """A list of different names."""

    def test(value: Any) -> bool:
        listed = isinstance(value, (list, tuple)) and bool(value) and all(isinstance(v, str) for v in value)
        return listed and len(set(value)) == len(value)

    return Allowed("a list of different names", test)
