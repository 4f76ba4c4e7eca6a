"""Meta-SGD, the learners without meta-learning, and the oracle."""

import copy

import pytest
import torch

from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.learners import MAML, FineTune, MetaSGD, Oracle, Scratch
from meta_hamiltonian.models import HamiltonianNetwork, ParametricHamiltonian, VectorFieldNetwork
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()
GRID = SYSTEM.domain.grid(9)
NETWORKS = [HamiltonianNetwork, VectorFieldNetwork]


def network(kind=HamiltonianNetwork):
    torch.manual_seed(0)
    net = kind(width=8, depth=2, input_scale=SYSTEM.state_box)
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(4)
    return net


def tasks(count=4, support=10, query=15, **options):
    return sample_episodes(SYSTEM, count, support, query, seed=0, dtype=torch.float64, **options)


def random_rates(learner):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for rates in learner.relative_rates:
            rates.copy_(torch.rand(rates.shape, generator=generator) * 2 - 0.5)
    return learner


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("backend", ["vectorized", "learn2learn"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_meta_sgd_has_a_rate_for_every_weight(kind, backend, first_order):
    """Its loss and gradients against the algorithm written out, task by task."""
    learner = random_rates(
        MetaSGD(network(kind), lr=0.01, inner_steps=3, backend=backend, first_order=first_order)
    ).double()
    episodes = tasks()
    learner.meta_loss(episodes).backward()

    weights = [value.detach().clone().requires_grad_() for value in learner.net.parameters()]
    names = [name for name, _ in learner.net.named_parameters()]
    rates = [(0.01 * value.detach()).requires_grad_() for value in learner.relative_rates]

    def loss(own, points):
        stacked = {name: value[None] for name, value in zip(names, own, strict=True)}
        return (learner.net.field_with(stacked, points.x[None])[0] - points.dxdt).square().sum(-1).mean()

    losses = []
    for task in range(len(episodes)):
        own = weights
        for _ in range(3):
            gradients = torch.autograd.grad(loss(own, episodes.support[task]), own, create_graph=not first_order)
            own = [w - r * g for w, r, g in zip(own, rates, gradients, strict=True)]
        losses.append(loss(own, episodes.query[task]))
    expected = torch.autograd.grad(sum(losses) / len(losses), [*weights, *rates])
    got = [*learner.net.parameters(), *learner.relative_rates]
    for value, gradient in zip(got, expected, strict=True):
        factor = 0.01 if value.data_ptr() in {r.data_ptr() for r in learner.relative_rates} else 1.0
        torch.testing.assert_close(value.grad, factor * gradient, rtol=1e-8, atol=1e-10 * gradient.abs().max().item())


def test_meta_sgd_with_equal_rates_is_maml():
    sgd, maml = MetaSGD(network(), lr=0.02).double(), MAML(network(), lr=0.02).double()
    torch.testing.assert_close(sgd.meta_loss(tasks()), maml.meta_loss(tasks()), rtol=1e-12, atol=0)


def test_meta_sgd_does_not_raise_the_support_loss_beyond_the_trained_steps():
    learner = MetaSGD(network(), lr=5.0, inner_steps=1, scale="task")
    support = tasks(6).support
    losses = torch.stack(
        [(s.field(support.x) - support.dxdt).square().sum((-2, -1)) for s in learner.adapt_tasks(support, range(1, 30))]
    )
    assert (losses[1:] <= losses[:-1] * (1 + 1e-9)).all()
    assert (losses[-1] < 0.95 * losses[0]).all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_fine_tuning_is_the_optimizer_on_each_task_alone(kind, optimizer):
    learner = FineTune(network(kind), optimizer, lr=0.01)
    support = tasks().support
    (adapted,) = learner.adapt_tasks(support, [6])
    for task in range(4):
        net = copy.deepcopy(learner.net).double()
        reference = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](net.parameters(), lr=0.01)
        for _ in range(6):
            reference.zero_grad()
            (net.field(support.x[task]) - support.dxdt[task]).square().sum(-1).mean().backward()
            reference.step()
        with torch.no_grad():
            torch.testing.assert_close(adapted[task].field(GRID), net.field(GRID), rtol=1e-7, atol=1e-7)


def test_pretraining_minimizes_the_loss_of_all_points_of_all_tasks():
    learner, episodes = FineTune(network()).double(), tasks()
    x = torch.cat([episodes.support.x, episodes.query.x], 1)
    dxdt = torch.cat([episodes.support.dxdt, episodes.query.dxdt], 1)
    expected = (learner.net.field(x) - dxdt).square().sum(-1).mean()
    torch.testing.assert_close(learner.meta_loss(episodes), expected)


def test_scratch_is_fine_tuning_of_what_was_not_trained():
    assert FineTune.meta_trained
    assert not Scratch.meta_trained


@pytest.mark.parametrize(
    ("arguments", "message"), [({"optimizer": "lion"}, "lion.*sgd, adam"), ({"scale": "x"}, "scale=x")]
)
def test_settings_that_make_no_learner_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FineTune(network(), **arguments)


def oracle():
    return Oracle(ParametricHamiltonian(SYSTEM))


@pytest.mark.parametrize("points", [2, 25])
def test_the_oracle_finds_the_parameters(points):
    episodes = tasks(20, support=points)
    (adapted,) = oracle().adapt_tasks(episodes.support, [1])
    found = adapted.parameters["physical"]
    torch.testing.assert_close(found[:, :2].abs(), episodes.parameters[:, :2], rtol=1e-8, atol=0)
    turns = (found[:, 2] - episodes.parameters[:, 2]) / (2 * torch.pi)
    assert (turns - turns.round()).abs().max() < 1e-9
    torch.testing.assert_close(adapted[3].field(GRID), SYSTEM.field(GRID, episodes.parameters[3]), rtol=1e-8, atol=1e-8)


def test_the_oracle_fits_noisy_points_by_least_squares():
    """No other parameters nearby explain them better."""
    episodes = tasks(3, support=25, noise=0.05)
    (adapted,) = oracle().adapt_tasks(episodes.support, [1])
    found = adapted.parameters["physical"]

    def error(parameters):
        return (SYSTEM.field(episodes.support.x, parameters[:, None]) - episodes.support.dxdt).square().sum((-2, -1))

    for direction in torch.eye(3, dtype=torch.float64):
        for h in (1e-4, -1e-4):
            assert (error(found + h * direction) > error(found)).all()


def test_the_oracle_before_its_fit_is_the_middle_of_the_family():
    support = tasks(1).support
    (adapted,) = oracle().adapt_tasks(Points(support.x, support.dxdt), [0])
    middle = torch.tensor([2.75, 2.75, 0.0], dtype=torch.float64)
    torch.testing.assert_close(adapted[0].field(GRID), SYSTEM.field(GRID, middle))
