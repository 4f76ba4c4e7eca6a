"""Products of several inputs, and powers of distances, against automatic differentiation."""

import pytest
import torch

from meta_hamiltonian.models.monomials import Exponentials, Monomials, Quotients, higher_terms

PRODUCTS = [(0, 0, 0), (0, 1, 2), (2, 2, 1, 0), (1, 1, 1, 1)]


def test_products_are_all_those_of_three_and_more_that_are_not_too_many():
    assert higher_terms([0], [2], [], 4, 80) == [
        (0, 0, 0),
        (0, 0, 2),
        (0, 2, 2),
        (2, 2, 2),
        (0, 0, 0, 0),
        (0, 0, 0, 2),
        (0, 0, 2, 2),
        (0, 2, 2, 2),
        (2, 2, 2, 2),
    ]
    assert higher_terms(range(2), range(2, 4), [], 2, 80) == []


@pytest.mark.parametrize(
    ("n", "of_three", "of_four"),
    [
        (2, 20, 35),
        (3, 56, 15),  # those of four positions and momenta would be 126, of positions or momenta alone 30
        (4, 2 * 20, 35),
        (5, 2 * 35, 0),
        (6, 56, 0),
        (8, 0, 0),
    ],
)
def test_of_many_lengths_there_are_products_of_positions_alone(n, of_three, of_four):
    found = higher_terms(range(n), range(n, 2 * n), [], 4, 80)
    assert [sum(len(one) == factors for one in found) for factors in (3, 4)] == [of_three, of_four]
    assert len(set(found)) == len(found) <= 80


def test_waves_are_factors_of_a_length_and_of_two_momenta():
    assert higher_terms([0], [1, 2], [3, 4], 3, 9) == [
        *[(0, 3), (0, 4)],
        *[(1, 1, 3), (1, 1, 4), (1, 2, 3), (1, 2, 4), (2, 2, 3), (2, 2, 4)],
        (0, 0, 0),
    ]


@pytest.mark.parametrize("products", [PRODUCTS, PRODUCTS[:2]])
def test_rates_and_second_derivatives_are_those_of_the_products(products):
    generator = torch.Generator().manual_seed(0)
    u, c = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5, 3), (len(products),)))
    monomials = Monomials(products, 3).double()
    expected = torch.stack([torch.stack([u[:, i] for i in one]).prod(0) for one in products], dim=-1)
    torch.testing.assert_close(monomials(u), expected)
    torch.testing.assert_close(monomials.rates(u), torch.vmap(torch.func.jacfwd(monomials))(u))
    torch.testing.assert_close(monomials.gradient(u, c), c @ monomials.rates(u))
    hessian = torch.vmap(torch.func.hessian(lambda one: (monomials(one) * c).sum()))(u)
    torch.testing.assert_close(monomials.hessian(u, c), hessian)


def test_rates_and_second_derivatives_are_those_of_exponentials():
    generator = torch.Generator().manual_seed(0)
    u, c = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5, 3), (2,)))
    exponentials = Exponentials([(1, -0.3), (2, 1 / 3)], 3).double()
    expected = torch.stack([(-0.3 * u[:, 1]).exp(), (u[:, 2] / 3).exp()], dim=-1)
    torch.testing.assert_close(exponentials(u), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(exponentials.rates(u), torch.vmap(torch.func.jacfwd(exponentials))(u))
    torch.testing.assert_close(exponentials.gradient(u, c), c @ exponentials.rates(u))
    hessian = torch.vmap(torch.func.hessian(lambda one: (exponentials(one) * c).sum()))(u)
    torch.testing.assert_close(exponentials.hessian(u, c), hessian)


@pytest.mark.parametrize("factors", [[(0, 0), (0, 1)], [(0,), (0, 1)], [(0,), (1,)]])
def test_rates_and_second_derivatives_are_those_of_quotients(factors):
    generator = torch.Generator().manual_seed(0)
    u, c = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5, 3), (2,)))
    quotients = Quotients([(factors[0], (2, -0.3)), (factors[1], (1, 1 / 3))], 3).double()
    first, second = (u[:, list(one)].prod(-1) for one in factors)
    expected = torch.stack([first * (-0.3 * u[:, 2]).exp(), second * (u[:, 1] / 3).exp()], dim=-1)
    torch.testing.assert_close(quotients(u), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(quotients.rates(u), torch.vmap(torch.func.jacfwd(quotients))(u))
    torch.testing.assert_close(quotients.gradient(u, c), (c @ quotients.rates(u)))
    hessian = torch.vmap(torch.func.hessian(lambda one: (quotients(one) * c).sum()))(u)
    torch.testing.assert_close(quotients.hessian(u, c), hessian)
