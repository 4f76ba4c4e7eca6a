"""How the coefficients of friction are distributed over a family, as its members tell."""

import math

import pytest
import torch

from meta_hamiltonian.learners.numerics.family_friction import FamilyFriction


def known(coefficients, kinds=("viscous",)):
    found = FamilyFriction()
    found.estimate(kinds, torch.tensor(coefficients, dtype=torch.float64))
    return found.known


def test_nothing_is_known_before():
    assert FamilyFriction().known == {}


def test_many_members_tell_mean_and_spread():
    values = 0.2 + 0.05 * torch.randn(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = FamilyFriction()
    found.estimate(("dry", "viscous"), values)
    assert list(found.known) == ["viscous", "dry"], "in the order in which laws have them"
    for mean, deviation in found.known.values():
        assert mean == pytest.approx(0.2, abs=0.005)
        assert deviation == pytest.approx(0.05, rel=0.05)


def test_few_members_tell_no_spread():
    """One member could have any friction of this size; three that agree by chance are not believed."""
    mean, deviation = known([[0.3]])["viscous"]
    assert mean == pytest.approx(0.3)
    assert deviation == pytest.approx(math.sqrt(2) * 0.3)
    assert known([[0.3]] * 3)["viscous"][1] > 0.15
    assert known([[0.3]] * 30)["viscous"][1] < 0.06


def test_coefficients_that_are_all_zero_tell_nothing():
    assert known([[0.0], [0.0]]) == {}


def test_a_new_estimate_replaces_the_last_one_and_a_checkpoint_keeps_it():
    found, other = FamilyFriction(), FamilyFriction()
    found.estimate(("viscous",), torch.tensor([[0.1], [0.2]], dtype=torch.float64))
    found.estimate(("dry",), torch.tensor([[-0.1], [-0.2]], dtype=torch.float64))
    assert found.known == {"dry": (0.0, pytest.approx(0.158, rel=0.5))}, "coefficients below 0 take no energy out"
    other.load_state_dict(found.state_dict())
    assert other.known == found.known


def test_checkpoints_of_earlier_versions_have_none():
    found = FamilyFriction()
    found.load_state_dict({})
    assert found.known == {}
