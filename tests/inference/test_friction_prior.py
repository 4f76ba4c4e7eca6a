"""What is known of friction before a system is observed, and how a fit uses it."""

import math

import pytest
import scipy.stats
import torch

from meta_hamiltonian.inference.friction_prior import FrictionPrior, Gaussian, at_least_zero

FAMILY = FrictionPrior({"viscous": Gaussian(0.2, 0.05)})
BOTH = ("viscous", "dry")


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("deviation", [0.02, 3.0])
@pytest.mark.parametrize("sigmas", [-12.0, -2.0, 0.0, 1.0, 3.0])
def test_moments_are_those_of_what_is_above_zero(sigmas, deviation):
    mean = sigmas * deviation
    factor = at_least_zero(mean, deviation)
    assert factor is not None
    precision = factor.deviation**-2 + deviation**-2
    found = (factor.mean * factor.deviation**-2 + mean * deviation**-2) / precision
    expected = scipy.stats.truncnorm(-sigmas, torch.inf, mean, deviation)
    assert found == pytest.approx(expected.mean(), rel=1e-6)
    assert precision**-0.5 == pytest.approx(expected.std(), rel=1e-4)


def test_nothing_is_added_where_nothing_is_to_be_gained():
    assert at_least_zero(5.0, 1.0) is None
    assert at_least_zero(-40.0, 1.0) is None


def test_rows_are_residuals_in_deviations():
    """A kind that the family does not have has no row: its coefficient may be anything."""
    rows, wanted = FAMILY.rows(BOTH, values())
    assert (wanted - rows @ values(0.3, 7.0)).tolist() == pytest.approx([-2.0])
    assert FAMILY.rows((), values())[0].shape == (0, 0)


def test_a_member_far_from_the_others_is_believed():
    near, far = (FAMILY.after(("viscous",), values(d), values(0.01)) for d in (0.34, 1.2))
    assert near.known == FAMILY.known
    assert far.known["viscous"] == (0.2, pytest.approx(1.0))


def test_what_may_be_zero_is_kept_above_it_in_the_law_that_was_fitted():
    after = FAMILY.after(("viscous",), values(-0.01), values(0.04))
    assert len(after.rows(("viscous",), values())[1]) == 2
    assert len(after.rows(BOTH, values())[1]) == 1
    assert not FAMILY.after(("viscous",), values(0.3), values(0.04)).above_zero
    assert not FAMILY.after(("dry",), values(0.0), values(0.04)).above_zero, "which the family does not have"


def test_costs_are_those_of_the_evidence_of_a_gaussian():
    """d ~ N(0.2, 0.05²), observed as 0.26 ± 0.02: 2 log ∫ p(y | d) p(d) dd, less the largest 2 log p(y | d)."""
    spread, error, seen = 0.05, 0.02, 0.26
    left = (spread**-2 + error**-2) ** -0.5
    found = left**2 * (0.2 * spread**-2 + seen * error**-2)
    exact = scipy.stats.norm(0.2, math.hypot(spread, error)).logpdf(seen) - scipy.stats.norm(seen, error).logpdf(seen)
    cost = FAMILY.cost(("viscous",), values(found), values(left), 99.0)
    assert -cost - ((found - seen) / error) ** 2 == pytest.approx(2 * exact)
    assert FAMILY.cost(BOTH, values(found, 3.0), values(left, 1.0), 7.0) == pytest.approx(cost + 7.0)
