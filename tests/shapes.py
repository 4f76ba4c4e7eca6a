"""Shapes are checked in the first calls of each function in every test.

A fit calls small functions a million times, and to check all of these calls took a third of the time of the tests.
"""

import collections
import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jaxtyping

_CALLS = 10
_check_always = jaxtyping.jaxtyped
_calls: collections.Counter[types.CodeType] = collections.Counter()


def install() -> None:
    """Has jaxtyping's import hook check the first calls only; before the first import of the package."""
    jaxtyping.jaxtyped = _check_first_calls
    jaxtyping.install_import_hook("meta_hamiltonian", "beartype.beartype")


def begin() -> None:
    """Begins to count anew, for the next test."""
    _calls.clear()


def _check_first_calls(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    def decorate(checked: Any) -> Any:
        if isinstance(checked, types.FunctionType):
            return _counted(checked, typechecker)
        if dataclasses.is_dataclass(checked) and isinstance(vars(checked).get("__init__"), types.FunctionType):
            checked.__init__ = _counted(checked.__init__, typechecker)
            return checked
        return _check_always(checked, typechecker=typechecker)

    return decorate


def _counted(function: types.FunctionType, typechecker: Callable[..., Any]) -> Any:
    checked: Callable[..., Any] | None = None
    code = function.__code__  # one for all functions that are made by a call of the function around them

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if _calls[code] >= _CALLS:
            return function(*args, **kwargs)
        _calls[code] += 1
        if checked is None:
            checked = _check_always(function, typechecker=typechecker)
        return checked(*args, **kwargs)

    return counted
