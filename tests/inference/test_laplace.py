"""Samples of a fit's unknowns: how one that is above 0 by its meaning is kept there."""

import pytest
import scipy.stats
import torch

from meta_hamiltonian.inference.laplace import at_least_zero
from meta_hamiltonian.inference.shooting import Shot


def shot(values, rows):
    """A fit of which nothing is known but these rows, around these values."""
    empty = torch.zeros(0, 1, dtype=torch.float64)
    theta = torch.tensor(values, dtype=torch.float64)
    prior = torch.tensor(rows, dtype=torch.float64)
    design = prior.new_zeros(0, prior.shape[1])
    return Shot(
        theta, empty, empty, empty[None], design, theta[:0], theta[:0], torch.zeros(0, 3, dtype=torch.int64), prior,
        theta[:0], empty[None], empty[None], empty, 0.0,
    )  # fmt: skip


@pytest.mark.parametrize("deviation", [0.02, 3.0])
@pytest.mark.parametrize("sigmas", [-12.0, -2.0, 0.0, 1.0, 3.0])
def test_moments_are_those_of_what_is_above_zero(sigmas, deviation):
    mean = sigmas * deviation
    factor = at_least_zero(shot([7.0, mean], [[1.0, 0.0], [0.0, 1 / deviation]]), 1)
    assert factor is not None
    precision = factor.deviation**-2 + deviation**-2
    found = (factor.mean * factor.deviation**-2 + mean * deviation**-2) / precision
    expected = scipy.stats.truncnorm(-sigmas, torch.inf, mean, deviation)
    assert found == pytest.approx(expected.mean(), rel=1e-6)
    assert precision**-0.5 == pytest.approx(expected.std(), rel=1e-4)


def test_nothing_is_added_where_nothing_is_to_be_gained():
    assert at_least_zero(shot([5.0], [[1.0]]), 0) is None
    assert at_least_zero(shot([-40.0], [[1.0]]), 0) is None
