"""What is computed on a GPU is what is computed on a CPU."""

import copy
import functools

import pytest
import torch

from meta_hamiltonian.episodes import Episodes, Points, sample_episodes
from meta_hamiltonian.episodes.datamodule import MetaBatches
from meta_hamiltonian.evaluation import evaluate, make_test_set
from meta_hamiltonian.learners import ANIL, Ridge
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.gram import cholesky_solve, gram_of, ridge_factor
from meta_hamiltonian.models import HamiltonianNetwork, NaturalNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import HenonHeiles, Pendulum
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection, projected_parameters

pytestmark = pytest.mark.cuda
NETWORKS = {
    "raw": lambda: HamiltonianNetwork(width=24, depth=1, activation="sin", domain=Pendulum().domain, inputs="raw"),
    "two layers": lambda: HamiltonianNetwork(width=12, depth=2, activation="sin", domain=Pendulum().domain),
    "natural": lambda: NaturalNetwork(width=24, domain=HenonHeiles().domain),
    "plain": lambda: VectorFieldNetwork(width=12, depth=1, domain=Pendulum().domain),
}


def ridge(name):
    torch.manual_seed(0)
    return Ridge(NETWORKS[name](), rank=4, noise=1e-8, scale="task").double()


def tasks(name, count, masked=False):
    system = HenonHeiles() if name == "natural" else Pendulum()
    episodes = sample_episodes(system, count, 30, 30, 0, dtype=torch.float64)
    if masked:

        def some(points):
            there = torch.arange(30) < 10 + torch.arange(count)[:, None] % 20
            return Points(points.x, points.dxdt, there)

        episodes = Episodes(some(episodes.support), some(episodes.query))
    return rescaled(episodes)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_levenberg_marquardt_takes_the_same_steps(name, masked):
    weights, losses = [], []
    for device in ("cpu", "cuda"):
        learner, episodes = ridge(name).to(device), tasks(name, 25, masked).to(device)
        optimizer = LevenbergMarquardt(projected_parameters(learner).values())
        problem = functools.partial(VariableProjection, learner, episodes)
        losses.append([optimizer.step(problem).item() for _ in range(3)])
        weights.append(torch.cat([value.detach().cpu().flatten() for value in learner.parameters()]))
    assert losses[0][2] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-8)
    assert (weights[1] - weights[0]).norm() < 1e-8 * weights[0].norm()


@pytest.mark.parametrize(("rows", "columns"), [(100, 3), (5000, 144), (5003, 144), (3000, 900), (50, 200)])
def test_the_products_of_many_rows(rows, columns):
    matrix = torch.randn(rows, columns, dtype=torch.float64)
    torch.testing.assert_close(gram_of(matrix.cuda()).cpu(), matrix.T @ matrix, rtol=1e-12, atol=1e-11)


def test_many_small_systems():
    design = torch.randn(70, 20, 6, dtype=torch.float64)
    gram, right = design.mT @ design, design.mT @ torch.randn(70, 20, 1, dtype=torch.float64)
    found = cholesky_solve(ridge_factor(gram.cuda(), torch.tensor(1e-3).cuda().double()), right.cuda())
    torch.testing.assert_close(
        found.cpu(), torch.linalg.solve(gram + 1e-3 * torch.eye(6).double(), right), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("count", [20, None])
def test_meta_batches_are_the_same(count):
    one = MetaBatches(Pendulum(), 4, count, 3, 2, seed=0)
    other = MetaBatches(Pendulum(), 4, count, 3, 2, seed=0, device="cuda")
    for i in range(5):
        assert torch.equal(one[i].support.x, other[i].support.x.cpu())
        assert torch.equal(one[i].query.dxdt, other[i].query.dxdt.cpu())
    assert count is None or other[0].query.x.is_cuda


def test_large_meta_batches_of_a_stream_are_drawn_on_the_device():
    """From the same random numbers; sines and products may differ in their last digit."""
    one, other = (MetaBatches(Pendulum(), 20, None, 1500, 1500, seed=0, device=place) for place in ("cpu", "cuda"))
    assert other[0].query.x.is_cuda
    for i in range(3):
        torch.testing.assert_close(other[i].support.x.cpu(), one[i].support.x, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(other[i].query.dxdt.cpu(), one[i].query.dxdt, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [Ridge, ANIL])
def test_systems_are_adapted_and_measured_alike(kind):
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=16, depth=1, activation="sin", domain=Pendulum().domain, inputs="raw")
    learner = kind(net, scale="task").double()
    learner.calibrate(tasks("raw", 40))
    test = make_test_set(Pendulum(), 5, 20, 0)
    one, other = (list(evaluate(copy.deepcopy(learner).to(d), test, [10, 20], [1])) for d in ("cpu", "cuda"))
    for a, b in zip(one, other, strict=True):
        assert b.errors.orbits.device.type == b.adapted.scale.device.type == "cpu"
        torch.testing.assert_close(b.errors.field_mse, a.errors.field_mse, rtol=1e-6, atol=0)
        torch.testing.assert_close(b.adapted.field(test.grid), a.adapted.field(test.grid), rtol=1e-5, atol=1e-6)
