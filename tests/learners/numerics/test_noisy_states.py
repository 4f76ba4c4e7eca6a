"""Errors in observed states."""

import torch

from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.learners.numerics.noisy_states import linearise
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()
BOX = torch.tensor(SYSTEM.state_box, dtype=torch.float64)
TASKS = sample_episodes(SYSTEM, 40, 60, 1, seed=0, dtype=torch.float64)


def field(x):
    return SYSTEM.field(x, TASKS.parameters[:, None])


def law(x):
    x = x.detach().requires_grad_()
    rates = field(x)
    rows = [torch.autograd.grad(rate.sum(), x, retain_graph=True)[0] for rate in rates.unbind(-1)]
    return rates.detach(), torch.stack(rows, dim=-2)


def noisy(noise):
    return sample_episodes(SYSTEM, 40, 60, 1, seed=0, dtype=torch.float64, noise=noise).support


def test_exact_points_stay_where_they_are():
    found = linearise(TASKS.support, TASKS.support.x, law, BOX, (1.0, 1.0))
    torch.testing.assert_close(found.points.x, TASKS.support.x)
    torch.testing.assert_close(found.points.dxdt, TASKS.support.dxdt)


def test_the_true_field_finds_states_that_are_closer_to_the_true_ones():
    observed = noisy(0.05)
    found = linearise(observed, observed.x, law, BOX, (1.0, 1.0))
    before, after = ((x - TASKS.support.x).square().mean((0, 1)).sqrt() for x in (observed.x, found.points.x))
    assert (after < 0.9 * before).all()


def test_whitened_residuals_are_uncorrelated_and_of_one_size():
    observed = noisy(0.02)
    found = linearise(observed, observed.x, law, BOX, (1.0, 1.0))
    residual = (found.points.dxdt - field(found.points.x)).unsqueeze(-1)
    white = (found.whiten @ residual).squeeze(-1)
    white = white / white.square().mean((1, 2), keepdim=True).sqrt()
    covariance = (white.unsqueeze(-1) * white.unsqueeze(-2)).mean((0, 1))
    torch.testing.assert_close(covariance, torch.eye(2, dtype=torch.float64), atol=0.1, rtol=0)


def test_each_point_is_treated_as_if_it_were_alone_but_for_the_sizes():
    observed = noisy(0.05)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = Points(observed.x[:, order], observed.dxdt[:, order])
    one, other = (
        linearise(observed, observed.x, law, BOX, (1.0, 1.0)),
        linearise(shuffled, shuffled.x, law, BOX, (1.0, 1.0)),
    )
    torch.testing.assert_close(one.points.x[:, order], other.points.x)
    torch.testing.assert_close(one.whiten[:, order], other.whiten)
