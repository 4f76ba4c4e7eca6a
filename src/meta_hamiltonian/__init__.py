"""Meta-learn the Hamiltonian of a family of systems; find a new one's dynamics from a few observations."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_hamiltonian.learners.checkpoint import load, load_adapted

__all__ = ["load", "load_adapted"]


def __getattr__(name: str) -> Any:
    """Imports the public names, and torch with them, on first use: `train.py --help` needs neither."""
    if name in __all__:
        from meta_hamiltonian.learners import checkpoint

        return getattr(checkpoint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
