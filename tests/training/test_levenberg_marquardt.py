"""The second-order outer loop, against automatic differentiation and SciPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import optimize

from meta_hamiltonian.episodes import Episodes, Points, sample_episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import Pendulum
from meta_hamiltonian.training.levenberg_marquardt import (
    LevenbergMarquardt,
    NormalEquations,
    VariableProjection,
    projected_parameters,
)

SYSTEM = Pendulum()


class Curve:
    """y = a exp(−b t) + c, to be fitted from far away."""

    def __init__(self, values):
        self.values = torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))
        self.t = torch.linspace(0, 4, 30, dtype=torch.float64)
        self.y = 3.0 * torch.exp(-1.3 * self.t) + 0.5 + 0.1 * torch.sin(17 * self.t)

    def residual(self, values):
        a, b, c = values
        return a * torch.exp(-b * self.t) + c - self.y

    def loss(self):
        return self.residual(self.values).square().sum()

    def normal_equations(self):
        jacobian = torch.func.jacrev(self.residual)(self.values.detach())
        descent = -jacobian.T @ self.residual(self.values.detach())
        return NormalEquations(self.loss(), jacobian.T @ jacobian, descent)


def test_where_there_is_nothing_to_improve_one_trial_is_enough():
    curve = Curve([1.0, 0.1, 0.0])
    flat = NormalEquations(curve.loss(), torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    curve.normal_equations = lambda: flat
    before, calls = curve.values.clone(), []
    measured = curve.loss
    curve.loss = lambda: (calls.append(1), measured())[1]
    LevenbergMarquardt([curve.values]).step(lambda: curve)
    assert len(calls) == 1
    assert torch.equal(curve.values, before)


def test_it_finds_the_least_squares_that_scipy_finds():
    curve = Curve([1.0, 0.1, 0.0])
    optimizer = LevenbergMarquardt([curve.values])
    losses = [optimizer.step(lambda: curve).item() for _ in range(40)]
    reference = optimize.least_squares(
        lambda v: curve.residual(torch.from_numpy(v)).numpy(), [1.0, 0.1, 0.0], method="lm", xtol=1e-15, ftol=1e-15
    )
    np.testing.assert_allclose(curve.values.detach().numpy(), reference.x, rtol=1e-6)
    assert all(after <= before for before, after in itertools.pairwise(losses)), "no step raises the loss"


def test_a_problem_that_is_not_finite_changes_nothing():
    curve = Curve([1.0, 0.1, 0.0])
    optimizer = LevenbergMarquardt([curve.values])
    before = curve.values.detach().clone()
    curve.y = curve.y * math.nan
    loss = optimizer.step(lambda: curve)
    assert not loss.isfinite()
    assert torch.equal(curve.values.detach(), before)


def test_the_damping_is_kept_in_the_state():
    curve = Curve([1.0, 0.1, 0.0])
    optimizer = LevenbergMarquardt([curve.values], damping=0.5)
    optimizer.step(lambda: curve)
    damping = optimizer.state_dict()["param_groups"][0]["damping"]
    assert damping != 0.5
    other = LevenbergMarquardt([curve.values])
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["damping"] == damping


def ridge(kind, noise, state_dim=2, depth=2):
    torch.manual_seed(0)
    box = SYSTEM.state_box if state_dim == 2 else (1.0, 2.0, 3.0, 4.0)
    net = kind(state_dim=state_dim, width=7, depth=depth, activation="sin", input_scale=box)
    return Ridge(net, rank=3, noise=noise).double()


def made_by(learner, tasks=5, support=12, query=6):
    """Tasks that the learner describes exactly, each with a head of its own: no support residual is left."""
    episodes = sample_episodes(SYSTEM, tasks, support, query, 0, dtype=torch.float64)
    v = torch.randn(tasks, 3, learner.net.head.out_features, dtype=torch.float64)
    with torch.no_grad():
        columns = learner.columns(v)
        for name in ("support", "query"):
            points = getattr(episodes, name)
            features, _ = learner.centred(points)
            setattr(episodes, name, Points(points.x, (features @ columns).reshape(points.x.shape)))
    return episodes


@pytest.mark.parametrize("kind", [HamiltonianNetwork, VectorFieldNetwork])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_normal_equations_are_those_of_the_query_predictions_after_the_solve(kind, depth):
    """By automatic differentiation through the solve; exact where no support residual is left."""
    learner = ridge(kind, noise=1e-12, depth=depth)
    episodes = made_by(learner)
    wanted = torch.randn(episodes.query.x.shape, dtype=torch.float64)
    missed = episodes.query.dxdt - wanted
    episodes.query.dxdt = wanted
    parameters = projected_parameters(learner)
    values = list(parameters.values())

    def predictions(*values):
        own = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(_Solved(learner), {f"learner.{k}": v for k, v in own.items()}, (episodes,))

    parts = torch.func.jacrev(predictions, argnums=tuple(range(len(values))))(*values)
    expected = torch.cat([part.detach().flatten(1) for part in parts], dim=-1)
    with torch.no_grad():
        _, matrix, descent = VariableProjection(learner, episodes).normal_equations()
    torch.testing.assert_close(matrix, expected.T @ expected, rtol=1e-4, atol=1e-5 * matrix.abs().max().item())
    down = -expected.T @ missed.flatten()
    torch.testing.assert_close(descent, down, rtol=1e-4, atol=1e-5 * down.abs().max().item())


class _Solved(torch.nn.Module):
    """The query predictions of a learner after its solve, in one vector."""

    def __init__(self, learner):
        super().__init__()
        self.learner = learner

    def forward(self, episodes):
        columns = self.learner.solve(episodes.support)
        features, _ = self.learner.centred(episodes.query)
        return (features @ columns).flatten()


@pytest.mark.parametrize("kind", [HamiltonianNetwork, VectorFieldNetwork])
def test_the_loss_is_that_of_the_learner(kind):
    learner = ridge(kind, noise=1e-3)
    episodes = sample_episodes(SYSTEM, 5, 12, 6, 0, dtype=torch.float64)
    problem = VariableProjection(learner, episodes)
    expected = pytest.approx(learner.meta_loss(episodes).item(), rel=1e-12)
    assert problem.loss().item() == expected
    assert problem.normal_equations().loss.item() == expected


def test_steps_on_one_meta_batch_only_ever_lower_its_loss():
    learner = ridge(HamiltonianNetwork, noise=1e-8)
    episodes = sample_episodes(SYSTEM, 20, 12, 12, 0, dtype=torch.float64)
    episodes.support.dxdt /= 10
    episodes.query.dxdt /= 10
    optimizer = LevenbergMarquardt(projected_parameters(learner).values())
    losses = [optimizer.step(lambda: VariableProjection(learner, episodes)).item() for _ in range(25)]
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 1e-3 * losses[0]


@pytest.mark.parametrize("kind", [HamiltonianNetwork, VectorFieldNetwork])
def test_points_that_a_task_does_not_have_do_not_enter_its_equations(kind):
    learner, whole = ridge(kind, 1e-3), sample_episodes(SYSTEM, 4, 9, 7, seed=2, dtype=torch.float64)
    short = Episodes(whole.support.first(6), whole.query.first(5))

    def masked(points, count):
        mask = torch.arange(points.x.shape[1]).expand(points.x.shape[:2]) < count
        return Points(points.x, torch.where(mask[..., None], points.dxdt, 1e3), mask)

    hidden = Episodes(masked(whole.support, 6), masked(whole.query, 5))
    (_, one, down), (loss, other, too) = (VariableProjection(learner, e).normal_equations() for e in (short, hidden))
    torch.testing.assert_close(other, 7 / 5 * one, rtol=1e-9, atol=1e-9)  # weighted by all points over those there are
    torch.testing.assert_close(too, 7 / 5 * down, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*(VariableProjection(learner, e).loss() for e in (short, hidden)), rtol=1e-10, atol=0)
    torch.testing.assert_close(loss, VariableProjection(learner, hidden).loss(), rtol=1e-10, atol=0)
