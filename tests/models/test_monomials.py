"""Products of several inputs, and powers of distances, against automatic differentiation."""

import pytest
import torch

from meta_hamiltonian.models.monomials import Exponentials, Monomials, highest

PRODUCTS = [(0, 0, 0), (0, 1, 2), (2, 2, 1, 0), (1, 1, 1, 1)]


def test_products_are_all_those_of_three_and_more_that_are_not_too_many():
    assert highest([0, 2], 4, 80) == [
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
    assert len(highest(range(6), 4, 80)) == 56  # those of four would be 126 more
    assert highest(range(16), 4, 80) == []
    assert highest(range(3), 2, 80) == []


@pytest.mark.parametrize("products", [PRODUCTS, PRODUCTS[:2]])
def test_rates_and_second_derivatives_are_those_of_the_products(products):
    generator = torch.Generator().manual_seed(0)
    u, c = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5, 3), (len(products),)))
    monomials = Monomials(products, 3).double()
    expected = torch.stack([torch.stack([u[:, i] for i in one]).prod(0) for one in products], dim=-1)
    torch.testing.assert_close(monomials(u), expected)
    torch.testing.assert_close(monomials.rates(u), torch.vmap(torch.func.jacfwd(monomials))(u))
    hessian = torch.vmap(torch.func.hessian(lambda one: (monomials(one) * c).sum()))(u)
    torch.testing.assert_close(monomials.hessian(u, c), hessian)


def test_rates_and_second_derivatives_are_those_of_exponentials():
    generator = torch.Generator().manual_seed(0)
    u, c = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5, 3), (2,)))
    exponentials = Exponentials([(1, -0.3), (2, 1 / 3)], 3).double()
    expected = torch.stack([(-0.3 * u[:, 1]).exp(), (u[:, 2] / 3).exp()], dim=-1)
    torch.testing.assert_close(exponentials(u), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(exponentials.rates(u), torch.vmap(torch.func.jacfwd(exponentials))(u))
    hessian = torch.vmap(torch.func.hessian(lambda one: (exponentials(one) * c).sum()))(u)
    torch.testing.assert_close(exponentials.hessian(u, c), hessian)
