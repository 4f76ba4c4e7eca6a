"""How many terms a family has, and what the head knows of them."""

import sys
from pathlib import Path

import pytest
import torch

from meta_hamiltonian.evaluation.identify import identify
from meta_hamiltonian.learners import Oracle
from meta_hamiltonian.models import ParametricHamiltonian
from meta_hamiltonian.systems import HenonHeiles, Pendulum

sys.path.append(str(Path(__file__).parents[1] / "inference"))
from observed import learner


def test_the_pendulum_has_three_terms_and_the_head_knows_them():
    found = identify(learner(), Pendulum(), 60)
    assert found.terms == 3
    assert set(found.r2) == {"1/(m l²)", "m l cos q0", "m l sin q0"}
    assert all(value > 0.999999 for value in found.r2.values())
    assert found.error < 1e-5
    assert found.singular_values[2] > 1e3 * found.singular_values[3]


def test_a_learner_that_knows_little_is_not_said_to_know_much():
    found = identify(learner("maml"), Pendulum(), 30)
    assert found.error > 1e-3
    assert found.terms <= 3
    assert min(found.r2.values()) < 0.99


@pytest.mark.parametrize("system", [Pendulum(), HenonHeiles()])
def test_the_true_law_is_identified_too(system):
    """Its numbers are the physical parameters, in which the Hamiltonian need not be linear."""
    found = identify(Oracle(ParametricHamiltonian(system)), system, 12)
    assert found.error < 1e-6
    assert found.terms == 3
    assert set(found.r2) == set(system.linear_parameters(torch.ones(1, 3)))
