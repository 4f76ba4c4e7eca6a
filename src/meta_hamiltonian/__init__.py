"""Meta-learn the Hamiltonian of a family of systems; find a new one's dynamics from a few observations."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_hamiltonian.checkpoint import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Imports `load`, and torch with it, on first use: `train.py --help` needs neither."""
    if name == "load":
        from meta_hamiltonian.checkpoint import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
