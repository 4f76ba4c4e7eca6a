"""Derivatives of sampled curves, against curves whose derivatives are known."""

import numpy as np
import pytest

from meta_hamiltonian.observations.splines import smooth


def curve(t):
    return np.stack([np.sin(t), np.cos(2 * t)], -1), np.stack([np.cos(t), -2 * np.sin(2 * t)], -1)


def rms(values):
    return np.sqrt(np.square(values).mean(0))


def test_exact_samples_have_exact_derivatives():
    t = np.linspace(3, 13, 100)
    values, derivative = curve(t)
    found = smooth(t, values)
    assert (rms(found.derivative - derivative) < 1e-5 * rms(derivative)).all()
    assert (rms(found.second + values * [1, 4]) < 1e-3 * rms(values * [1, 4])).all()
    np.testing.assert_allclose(found.value, values, atol=1e-6)


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_noise_is_smoothed_away_and_its_size_is_known(noise):
    generator = np.random.default_rng(0)
    t = np.sort(generator.uniform(0, 10, 300))
    values, derivative = curve(t)
    found = smooth(t, values + noise * generator.standard_normal(values.shape))
    np.testing.assert_allclose(found.noise, noise, rtol=0.2)
    inside = slice(15, -15)
    error = (found.derivative - derivative)[inside]
    assert (rms(error) < 5 * noise * rms(derivative)).all()
    assert (rms(error / found.error[inside]) < 2.5).all(), "errors are not far above what is said"


@pytest.mark.parametrize("count", [3, 4, 7])
def test_few_instants_are_enough(count):
    t = np.linspace(0, 0.5, count)
    values, derivative = curve(t)
    assert (np.abs(smooth(t, values).derivative - derivative) < 0.5).all()


def test_the_unit_of_time_does_not_matter():
    t = np.linspace(0, 5, 60)
    values, _ = curve(t)
    one, other = smooth(t, values), smooth(100 + 1000 * t, values)
    np.testing.assert_allclose(other.derivative, one.derivative / 1000, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(other.second, one.second / 1e6, rtol=1e-3, atol=1e-10)
