"""How heads are distributed over a family, where its members are few."""

import pytest
import torch

from meta_hamiltonian.learners.numerics.family_heads import FamilyHeads

ERROR = 1e-3


def tasks(members, seed=0, features=4, rows=60, dimension=None, error=ERROR):
    """Members whose heads differ in `dimension` directions, and more of them to test on."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x = normal(members + 200, rows, features)
    differ = normal(features, dimension or features)
    heads = 1.0 + differ @ normal(members + 200, differ.shape[1], 1)
    y = x @ heads
    y = y + error * normal(*y.shape)
    return x, y, torch.full((len(x),), float(rows), dtype=torch.float64)


def estimated(members, wider, **options):
    x, y, rows = (part[:members] for part in tasks(members, **options))
    found = FamilyHeads(x.shape[-1], 1)
    found.estimate(x, y, rows, rounds=200)
    if wider:
        found.widen(x, y, rows, rounds=200, errors=0.0)
    return found


def error(heads, members, seen=6, **options):
    """The relative error of new heads that are inferred from a few rows."""
    x, y, _ = (part[members:] for part in tasks(members, **options))
    noise = ERROR**2
    design, left = x[:, :seen] @ heads.factor, (y - x @ heads.mean)[:, :seen]
    eye = noise * torch.eye(design.shape[-1], dtype=design.dtype)
    v = torch.linalg.solve(design.mT @ design + eye, design.mT @ left)
    missed = y - x @ (heads.mean + heads.factor @ v)
    return (missed.square().mean() / y.square().mean()).sqrt().item()


@pytest.mark.parametrize("members", [1, 2, 3])
def test_few_members_do_not_bind_a_new_one_to_the_directions_that_they_differ_in(members):
    assert error(estimated(members, False), members) > 0.1
    assert error(estimated(members, True), members) < 0.01


def test_what_all_members_have_in_common_is_kept():
    """Five members that differ in one direction of twelve say so, and three rows then tell a sixth one."""
    heads = estimated(5, True, features=12, dimension=1)
    assert error(heads, 5, seen=3, features=12, dimension=1) < 0.01


@pytest.mark.parametrize("members", [2, 3, 5])
def test_rates_may_be_exact(members):
    """They leave no noise but that of the digits."""
    heads = estimated(members, True, error=0.0)
    assert error(heads, members, error=0.0) < 1e-4


def test_nothing_is_lost_where_members_are_many():
    errors = [error(estimated(20, wider), 20) for wider in (False, True)]
    assert errors[1] < 1.05 * errors[0]
