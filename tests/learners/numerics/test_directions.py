"""The number of directions in which the heads of a family differ."""

import pytest
import torch

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.directions import HeadRows, find_directions
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.systems import HenonHeiles, Kepler, Spring
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection, projected_parameters


def held_out(system, tasks=60):
    return sample_episodes(system, tasks, 30, 30, 0, "val", torch.float64)


def learner(system, **more):
    torch.manual_seed(0)
    return Ridge(NaturalNetwork(domain=system.domain), noise=1e-10, scale="task", **more).double()


def test_a_family_that_the_body_describes_has_as_many_as_terms():
    """1/m, k and k q0: linear and quadratic terms need no training."""
    found = find_directions(HeadRows.of(learner(Spring()).net, rescaled(held_out(Spring()))), 1e-10, 12)
    assert found.rank == 3
    assert found.losses[2] < 1e-8 < found.losses[1]
    assert (found.singular_values[:3] > 1e-2).all()
    assert (found.singular_values[3:] < 1e-4).all()


@pytest.mark.parametrize(("system", "terms"), [(HenonHeiles(), 3), (Kepler(), 2)])
def test_after_a_few_steps_a_family_has_its_own(system, terms):
    ridge = learner(system, rank="auto")
    assert ridge.finds_rank
    assert ridge.rank == 6
    tasks = rescaled(sample_episodes(system, 40, 30, 30, 0, "train", torch.float64))
    factor = ridge.prior_factor
    optimizer = LevenbergMarquardt(projected_parameters(ridge).values())
    for _ in range(30):
        optimizer.step(lambda: VariableProjection(ridge, tasks))
    tested = held_out(system)
    ridge.find_rank(tested, spare=3)
    assert ridge.rank == 6, "none is taken away while there may be spare ones"
    before = ridge.meta_loss(tested).item()
    ridge.find_rank(tested)
    assert ridge.rank == terms
    assert ridge.meta_loss(tested).item() < 5 * before < 5e-2
    losses = [optimizer.step(lambda: VariableProjection(ridge, tasks)).item() for _ in range(5)]
    assert losses[-1] < losses[0], "the optimizer goes on with fewer columns"
    assert ridge.prior_factor is factor
    ridge.find_rank(tested, spare=2)
    assert ridge.rank == terms + 2, "all are needed, so that there are spare ones again"


def test_a_learner_is_loaded_with_the_rank_that_was_found():
    one, other = learner(Spring(), rank="auto"), learner(Spring(), rank="auto")
    found = one.find_rank(held_out(Spring()), spare=2)
    assert found.rank == 3, "heads that are free of the first L do much better"
    one.calibrate(held_out(Spring()))
    other.load_state_dict(one.state_dict())
    assert other.rank == one.rank == 5
    episodes = held_out(Spring())
    assert torch.equal(other.solve(rescaled(episodes).support), one.solve(rescaled(episodes).support))


def test_a_rank_that_is_given_is_kept():
    ridge = learner(Spring(), rank=5)
    before = ridge.prior_factor.clone()
    ridge.find_rank(held_out(Spring()), spare=3)
    assert torch.equal(ridge.prior_factor, before)
