"""The classes that a checkpoint may name: those that the running process has registered, and no others."""

from typing import TypeVar

T = TypeVar("T", bound=type)
K = TypeVar("K")

_CLASSES: dict[str, type] = {}


def register(cls: T) -> T:
    """Lets checkpoints and configurations name this class; a decorator.

    A checkpoint holds the name of its family, as `_target_: my_package.HenonHeiles`. Reading it imports nothing, so
    that nothing in it can run: the class is found only where it was registered before, which importing the module
    that defines it does.

    **Arguments:** `cls`: a family of systems, a network or a learner.

    **Returns:** the class itself.
    """
    _CLASSES[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return cls


def registered(target: str) -> type | None:
    """The class of this name, None if there is none.

    A class may be named by its own module, or by a package above it that passes it on, as
    `meta_hamiltonian.systems.Pendulum` for the class in `meta_hamiltonian/systems/pendulum.py`.
    """
    if target in _CLASSES:
        return _CLASSES[target]
    package, _, name = target.rpartition(".")
    inside = [
        cls
        for path, cls in _CLASSES.items()
        if package and path.startswith(f"{package}.") and path.rpartition(".")[2] == name
    ]
    return inside[0] if len(inside) == 1 else None


def subclasses(kind: type[K]) -> list[type[K]]:
    """All registered classes of a kind, in the order of their full names."""
    return [cls for _, cls in sorted(_CLASSES.items()) if issubclass(cls, kind)]
