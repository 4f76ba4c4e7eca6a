"""The few columns of many that meet a target best."""

import pytest
import torch

from meta_hamiltonian.inference.subsets import SubsetSearch


def columns(count, rows=200):
    return torch.randn(rows, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_columns_of_a_sum_are_found(noise):
    design = columns(60)
    target = design[:, [3, 17, 41]] @ torch.tensor([1.0, -0.3, 20.0]).double() + noise * columns(61)[:, -1]
    found = {len(subset.columns): subset for subset in SubsetSearch(design, target).path(5)}
    assert found[3].columns == (3, 17, 41)
    assert found[3].error < 1e-12 + noise
    assert (5 in found) == (noise > 0)  # what is exact needs no more


def test_two_columns_are_found_where_others_come_near():
    """Powers on an interval: the sum of two of them is met best by others, and by no pair that has one of the two."""
    x = torch.linspace(0.5, 2, 100, dtype=torch.float64)
    design = torch.stack([x, x**2, x**3, x**4, x.exp(), (-x).exp(), x.sin(), x.cos(), 1 / x, x.log()], dim=-1)
    for pair in ((0, 1), (2, 8), (4, 6)):
        target = design[:, pair] @ torch.tensor([-4.5, 5.2]).double()
        assert any(s.columns == pair and s.error < 1e-10 for s in SubsetSearch(design, target).path(4))


def test_columns_that_are_nearly_the_same_are_never_both_taken():
    design = columns(10)
    design[:, 4] = design[:, 2] + 1e-4 * design[:, 5]
    target = design[:, 5] + 1e-3 * columns(11)[:, -1]
    for subset in SubsetSearch(design, target).path(9):
        assert not {2, 4} <= set(subset.columns)


def test_columns_of_zeros_are_never_taken():
    design = torch.cat([torch.zeros(200, 1), columns(4)], dim=1)
    found = list(SubsetSearch(design, columns(5)[:, -1]).path(5))
    assert len(found[-1].columns) == 4
    assert 0 not in found[-1].columns


def test_of_sums_that_are_the_same_the_first_is_the_simplest():
    """a² + b² = 2ab + (a − b)²."""
    a, b = columns(2).T
    design = torch.stack([a**2, b**2, a * b, (a - b) ** 2], dim=-1)
    search = SubsetSearch(design, a**2 + b**2)
    assert search.subset((2, 3)).error < 1e-10
    simplest = search.simplest(search.subset((2, 3)), 1e-7)
    assert simplest.columns == (0, 1)
    assert not list(search.alternatives(simplest, 1e-7))  # the others are the same by an identity


def test_columns_that_would_do_as_well_are_named():
    x = torch.linspace(-0.1, 0.1, 100, dtype=torch.float64)
    search = SubsetSearch(torch.stack([x.sin(), x, x.cos()], dim=-1), x.sin())
    sine = list(search.path(1))[-1]
    assert sine.columns == (0,)
    assert list(search.alternatives(sine, 0.01)) == [(0, 1)]
    assert not list(search.alternatives(sine, 1e-6))
