"""Meta-learn the Hamiltonian of a family of systems; find a new one's dynamics from a few observations."""

from meta_hamiltonian.checkpoint import load

__all__ = ["load"]
