"""Tasks: a support set to adapt on and a query set to be judged on, for each of many systems."""

from meta_hamiltonian.episodes.points import Episodes, Points
from meta_hamiltonian.episodes.sampled import sample_episodes

__all__ = ["Episodes", "Points", "sample_episodes"]
