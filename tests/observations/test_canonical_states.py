"""States and rates from trajectories: what is observed, what is smoothed, and long recordings."""

import math

import numpy as np
import pytest
import torch

from meta_hamiltonian.observations import Trajectory, Trend, canonical, in_between, well_known_points
from meta_hamiltonian.observations.splines import smooth

MASS = (2.0, 0.5)


def motion(t):
    """Two coordinates with frequencies of their own: q, dq/dt and d²q/dt²."""
    rates = np.array([1.0, 1.7])
    phase = t[:, None] * rates
    return np.cos(phase), -rates * np.sin(phase), -(rates**2) * np.cos(phase)


def trajectory(columns="q", instants=120, noise=0.0, seed=0, **more):
    t = np.linspace(2.0, 12.0, instants)
    q, v, _ = motion(t)
    generator = np.random.default_rng(seed)
    q, v = q + noise * generator.normal(size=q.shape), v + noise * generator.normal(size=v.shape)
    p = v * MASS if "p" in columns else None
    return Trajectory(t, q, p, v if "v" in columns else None, "", **more)


def rms(values):
    return np.sqrt(np.square(values).mean(0))


@pytest.mark.parametrize("columns", ["q", "q,v", "q,p"])
def test_states_and_rates_are_those_of_the_motion(columns):
    found = canonical(trajectory(columns), MASS)
    q, v, a = motion(found.t.numpy())
    inside = slice(5, -5)
    np.testing.assert_allclose(found.x.numpy()[inside], np.hstack([q, v * MASS])[inside], atol=1e-4)
    np.testing.assert_allclose(found.dxdt.numpy()[inside], np.hstack([v, a * MASS])[inside], atol=1e-3)


@pytest.mark.parametrize("columns", ["q", "q,v", "q,p"])
def test_what_was_not_observed_is_no_number(columns):
    """Momenta are compared with an orbit only where they, or velocities, were measured."""
    given = trajectory(columns, noise=0.02)
    observed = canonical(given, MASS).observed.numpy()
    np.testing.assert_array_equal(observed[:, :2], given.q)
    if columns == "q":
        assert np.isnan(observed[:, 2:]).all()
    else:
        np.testing.assert_array_equal(observed[:, 2:], given.p if given.v is None else given.v * MASS)


def test_an_integral_of_velocities_is_smoothed_but_not_compared_with():
    """But for its first value, which is where it begins by definition."""
    given = trajectory("q,v", noise=0.01, integrated=True)
    found = canonical(given, MASS)
    assert torch.isnan(found.observed[1:, :2]).all()
    np.testing.assert_array_equal(found.observed[0, :2].numpy(), given.q[0])
    np.testing.assert_array_equal(found.observed[:, 2:].numpy(), given.v * MASS)
    assert found.x.isfinite().all()
    assert found.noise.isfinite().all()


@pytest.mark.parametrize("columns", ["q", "q,v", "q,p"])
def test_noise_is_that_of_the_observations(columns):
    found = canonical(trajectory(columns, 400, noise=0.02), MASS)
    np.testing.assert_allclose(found.noise[:2].numpy(), 0.02, rtol=0.2)
    if columns != "q":
        np.testing.assert_allclose(found.noise[2:].numpy(), 0.02 * np.array(MASS), rtol=0.2)
    else:  # momenta come from the curve, and are known as well as its slope
        error = rms((found.x - torch.from_numpy(np.hstack([*motion(found.t.numpy())[:2]]) * [1, 1, *MASS])).numpy())
        assert (found.noise[2:].numpy() < 4 * error[2:]).all()
        assert (found.noise[2:].numpy() > error[2:] / 4).all()


def test_one_inertia_is_that_of_every_coordinate():
    given = trajectory("q,v")
    one, both = canonical(given, 3.0), canonical(given, (3.0, 3.0))
    assert torch.equal(one.x, both.x)
    assert torch.equal(one.observed, both.observed)


def test_points_are_those_whose_rates_are_known_well():
    """Not those at the ends, where derivatives of a curve are rough."""
    paths = [canonical(trajectory("q", n, noise=0.02, seed=n), MASS) for n in (150, 90)]
    found = well_known_points(paths)
    assert set(found.trajectory.tolist()) == {0, 1}
    for i, path in enumerate(paths):
        mine = found.trajectory == i
        own = torch.searchsorted(path.t, found.t[mine])
        assert torch.equal(found.t[mine], path.t[own])
        assert torch.equal(found.x[mine], path.x[own])
        assert torch.equal(found.dxdt[mine], path.dxdt[own])
        assert torch.equal(found.rate_error[mine], path.rate_error[own])
        assert 0 not in own
        assert len(path.t) - 1 not in own
        assert len(own) > 0.6 * len(path.t)


# Long samples.

LONG = np.linspace(0, 60 * 2 * math.pi, 2000)


def long_sample(noise, t=LONG, seed=0):
    values = np.stack([np.cos(t), np.sin(t + 0.3)], axis=-1)
    slopes = np.stack([-np.sin(t), np.cos(t + 0.3)], axis=-1)
    return values + noise * np.random.default_rng(seed).normal(size=values.shape), slopes


@pytest.mark.parametrize("seed", range(3))
def test_a_long_sample_has_good_derivatives_everywhere(seed):
    """Sixty periods of which each is sampled 33 times: too many for one spline of a few hundred coefficients."""
    values, slopes = long_sample(0.01, seed=seed)
    found = smooth(LONG, values)
    error = (found.derivative - slopes)[10:-10]
    assert (rms(error) < 0.05 * rms(slopes)).all()
    np.testing.assert_allclose(found.noise, 0.01, rtol=0.2)
    pieces = error[: len(error) // 50 * 50].reshape(-1, 50, 2)
    assert (np.sqrt(np.square(pieces).mean(1)) < 0.1 * rms(slopes)).all(), "no piece is worse than others by far"


def test_a_long_sample_is_continuous_across_its_pieces():
    """From one instant to the next no more changes than the motion does and the noise allows."""
    noise = 0.01
    values, slopes = long_sample(noise)
    found = smooth(LONG, values)
    step = LONG[1] - LONG[0]
    exact = np.diff(np.stack([np.cos(LONG), np.sin(LONG + 0.3)], axis=-1), axis=0)
    assert np.abs(np.diff(found.value, axis=0) - exact).max() < 2 * noise
    jump = np.diff(found.derivative, axis=0) - np.diff(slopes, axis=0)
    assert np.abs(jump).max() < 0.3 * step, "the derivative bends no more than a third of the motion's does"


def test_long_exact_samples_are_exact_and_the_last_piece_may_be_of_any_length():
    for count in (281, 441):
        t = LONG[:count]
        values, slopes = long_sample(0.0, t)
        found = smooth(t, values)
        assert found.value.shape == values.shape
        assert np.abs(found.value - values).max() < 1e-5
        assert np.abs(found.derivative - slopes)[3:-3].max() < 1e-3


def test_short_samples_are_one_spline_as_they_were():
    """Numbers of the version before long samples were taken in pieces."""
    t = np.linspace(0, 10, 280)
    values = np.sin(t)[:, None] + 0.02 * np.random.default_rng(0).normal(size=(280, 1))
    found = smooth(t, values)
    assert found.noise[0] == pytest.approx(0.020614298492183488, rel=1e-6)
    assert found.value[[0, 100, 279], 0].tolist() == pytest.approx(
        [0.008472156134736024, -0.42770487258497575, -0.5512980642381958], rel=1e-6
    )
    assert found.derivative[[0, 100, 279], 0].tolist() == pytest.approx(
        [0.9193912692931707, -0.8993814514408671, -0.8820461423119677], rel=1e-6
    )


@pytest.mark.parametrize("columns", ["q", "q,v", "q,p"])
def test_around_the_right_trend_nothing_is_left_to_smooth(columns):
    """However few instants there are, states and rates are those of the motion, at the instants and between them."""
    given = trajectory(columns, instants=14)
    between = (given.t[1:] + given.t[:-1]) / 2
    (nodes, rates), (middle, slopes) = (
        [torch.from_numpy(np.hstack(pair)) for pair in ((q, v * MASS), (v, a * MASS))]
        for q, v, a in (motion(given.t), motion(between))
    )
    trend = Trend(nodes, rates)
    found = canonical(given, MASS, trend)
    torch.testing.assert_close(found.x, nodes, atol=1e-10, rtol=0)
    torch.testing.assert_close(found.dxdt, rates, atol=1e-9, rtol=0)
    x, dxdt, errors = in_between(given, MASS, trend, torch.from_numpy(between), Trend(middle, slopes))
    torch.testing.assert_close(x, middle, atol=1e-10, rtol=0)
    torch.testing.assert_close(dxdt, slopes, atol=1e-9, rtol=0)
    assert errors.max() < 1e-6
    without = canonical(given, MASS)
    assert (without.dxdt - rates).abs().max() > 0.01  # so few instants do not tell the rates by themselves


def test_curves_between_samples_are_those_of_the_samples():
    """In pieces too."""
    t = np.linspace(0.0, 40.0, 500)
    between = (t[1:] + t[:-1]) / 2
    found = smooth(t, np.sin(t)[:, None], between)
    np.testing.assert_allclose(found.value[:, 0], np.sin(between), atol=1e-6)
    np.testing.assert_allclose(found.derivative[3:-3, 0], np.cos(between)[3:-3], atol=1e-4)
