"""The checks of shapes in signatures: of each function's first calls in each test, and now and then after them.

A wrong shape is wrong at the first call as at the ten-thousandth, and an orbit or a training makes so many that their
checks took a third of the tests' time. A function is wrapped when it is called, since few tests call most of them.
"""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import jaxtyping
from jaxtyping import _decorator

_FIRST, _EVERY = 24, 32


class _Calls:
    """How often a function was called in a test; functions that another one defines anew at each call count as one."""

    def __init__(self) -> None:
        self.test, self.number = -1, 0

    def are_checked(self) -> bool:
        if self.test != _test:
            self.test, self.number = _test, 0
        self.number += 1
        return self.number <= _FIRST or self.number % _EVERY == 0


_test = 0
_calls: dict[types.CodeType, _Calls] = {}
_plain = _decorator.jaxtyped


def another_test() -> None:
    """Counts from 0 again."""
    global _test
    _test += 1


def _jaxtyped(function: Any = None, *, typechecker: Any) -> Any:
    if function is None:
        return functools.partial(_jaxtyped, typechecker=typechecker)
    if not inspect.isfunction(function):  # a class, or a method of it, which comes back here with its function
        return _plain(function, typechecker=typechecker)
    calls = _calls.setdefault(function.__code__, _Calls())
    checked: Callable[..., Any] | None = None

    @functools.wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        nonlocal checked
        if not calls.are_checked():
            return function(*given, **named)
        if checked is None:
            checked = _plain(function, typechecker=typechecker)
        return checked(*given, **named)

    return called


def check(package: str) -> None:
    """Checks the functions of a package that is not imported yet by beartype."""
    jaxtyping.jaxtyped = _decorator.jaxtyped = _jaxtyped
    jaxtyping.install_import_hook(package, "beartype.beartype")
