"""Hits are found in noisy positions, and noise is not taken for hits."""

import itertools

import numpy as np
import pytest
from observed import learner
from scipy.integrate import solve_ivp

from meta_hamiltonian.dynamics import Inertia
from meta_hamiltonian.inference.interruptions import without_interruptions
from meta_hamiltonian.observations import Trajectory

T = np.arange(301) / 20
HIT = 150


def positions(kick, noise, seed):
    """A pendulum with m = l = 1 that is hit in the middle of its recording, as a part of its usual velocities."""
    random = np.random.default_rng(seed)
    start = [random.uniform(0.8, 1.8), 0.0]

    def motion(x, t):
        return solve_ivp(lambda _, x: [x[1], -np.sin(x[0])], (t[0], t[-1]), x, t_eval=t, rtol=1e-9, atol=1e-10).y.T

    x = motion(start, T)
    if kick:
        after = x[HIT] + [0.0, kick * x[:, 1].std()]
        x[HIT:] = motion(after, T[HIT:])
    q = x[:, :1] + noise * x[:, :1].std() * random.normal(size=(len(T), 1))
    return Trajectory(T, q, None, None, "")


@pytest.mark.parametrize(("kick", "noise"), [(0.0, 0.03), (0.0, 0.05), (1.0, 0.01), (2.0, 0.03)])
def test_hits_are_found_in_noisy_positions_and_noise_is_none(kick, noise):
    found = []
    for seed in range(6):
        parts, _, said = without_interruptions(learner(), [positions(kick, noise, seed)], (), Inertia.of(1.0, 1), None)
        found.append(bool(said))
        if said:
            gaps = [(one.t[-1], other.t[0]) for one, other in itertools.pairwise(parts)]
            assert any(before - 1.0 <= T[HIT] <= after + 1.0 for before, after in gaps)
    assert sum(found) == (6 if kick else 0)
