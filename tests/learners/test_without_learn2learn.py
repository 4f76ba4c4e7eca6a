"""learn2learn is an extra: without it, its backend is refused in one line, and all else works."""

import importlib.util

import pytest

from meta_hamiltonian.config import ConfigError
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import MAML
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum


def test_its_backend_is_refused_and_ours_works(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed; use algo") as refused:
        MAML(HamiltonianNetwork(width=4, depth=1), backend="learn2learn")
    assert "\n" not in str(refused.value)
    learner = MAML(HamiltonianNetwork(width=4, depth=1))
    assert learner.meta_loss(sample_episodes(Pendulum(), tasks=2, support=4, query=4, seed=0)).isfinite()
