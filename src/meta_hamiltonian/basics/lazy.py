"""Packages whose names are imported when they are asked for."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazily(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A `__getattr__` for a package, which imports its modules on first use.

    A module of the package can then be imported without the others, and without PyTorch where it needs none.

    **Arguments:**

    - `package`: its name.
    - `names`: the names that it passes on, by module.
    """
    where = {name: module for module, some in names.items() for name in some}

    def attribute(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{where[name]}"), name)

    return attribute
