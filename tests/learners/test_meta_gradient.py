"""The meta-gradient against the equations, written out with plain automatic differentiation."""

import pytest
import torch

from meta_hamiltonian.episodes import Episodes, Points, sample_episodes
from meta_hamiltonian.learners import ANIL, MAML
from meta_hamiltonian.models import HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import Pendulum

LEARNERS = [MAML, ANIL]
NETWORKS = [HamiltonianNetwork, VectorFieldNetwork]
BACKENDS = ["vectorized", "learn2learn"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
LR, STEPS = 0.005, 5  # the plain defaults
BOX = torch.tensor(Pendulum().state_box, dtype=torch.float64)  # also for a network that was float32 once


def network(kind=HamiltonianNetwork, dtype=torch.float64):
    torch.manual_seed(0)
    return kind(width=12, depth=2, input_scale=Pendulum().state_box).to(dtype)


def episodes(dtype=torch.float64, tasks=4):
    return sample_episodes(Pendulum(), tasks=tasks, support=10, query=15, seed=0, dtype=dtype)


def reference_field(kind, weights, box, x):
    """The field of a network with these weights: of the hidden layers, then of the head."""
    x = x.detach().requires_grad_()
    *layers, head = [weights[i : i + 2] for i in range(0, len(weights), 2)]
    hidden = x / box
    for weight, bias in layers:
        hidden = torch.tanh(hidden @ weight.T + bias)
    if kind is VectorFieldNetwork:
        weight, bias = head
        return hidden @ weight.T + bias
    energy = (hidden @ head[0].T).sum()
    (gradient,) = torch.autograd.grad(energy, x, create_graph=True)
    return torch.stack([gradient[:, 1], -gradient[:, 0]], dim=-1)


def reference_loss(kind, weights, box, points):
    """Equation (2)."""
    error = reference_field(kind, weights, box, points.x) - points.dxdt
    return (error[:, 0] ** 2 + error[:, 1] ** 2).mean()


def reference(learner_class, kind, net, tasks, rates=None, first_order=False, scaled=False):
    """The meta-loss and its gradients for the weights, and for the rates `[steps, adapted tensors]` where given."""
    weights = [value.detach().clone().requires_grad_() for value in net.parameters()]
    head_size = 2 if kind is VectorFieldNetwork else 1
    adapted = range(len(weights)) if learner_class is MAML else range(len(weights) - head_size, len(weights))
    losses = []
    for task in range(len(tasks)):
        support, query = tasks.support[task], tasks.query[task]
        if scaled:
            s = support.dxdt.square().mean().sqrt()
            support, query = Points(support.x, support.dxdt / s), Points(query.x, query.dxdt / s)
        own = list(weights)
        for step in range(STEPS):
            loss = reference_loss(kind, own, BOX, support)
            gradients = torch.autograd.grad(loss, [own[i] for i in adapted], create_graph=not first_order)
            for j, (i, gradient) in enumerate(zip(adapted, gradients, strict=True)):
                own[i] = own[i] - (LR if rates is None else rates[step, j]) * gradient
        losses.append(reference_loss(kind, own, BOX, query))
    loss = sum(losses) / len(losses)
    wanted = weights if rates is None else [*weights, rates]
    return loss.detach(), torch.autograd.grad(loss, wanted)


def relative_error(gradients, expected):
    difference = sum((a.double() - b.double()).square().sum() for a, b in zip(gradients, expected, strict=True))
    return (difference / sum(b.double().square().sum() for b in expected)).sqrt().item()


def meta_gradient(learner, tasks):
    loss = learner.meta_loss(tasks)
    loss.backward()
    return loss.detach(), [value.grad for value in learner.net.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_the_default_options_compute_the_plain_second_order_algorithm(learner_class, kind, backend, dtype):
    net = network(kind, dtype)
    loss, gradients = meta_gradient(learner_class(net, backend=backend), episodes(dtype))
    # In double precision, from the same weights and the same points.
    expected_loss, expected = reference(
        learner_class, kind, network(kind, dtype).double(), episodes(dtype).to(torch.float64)
    )
    assert loss.item() == pytest.approx(expected_loss.item(), rel=TOLERANCE[dtype])
    assert relative_error(gradients, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_first_order_leaves_out_the_derivative_of_the_inner_gradient(learner_class, backend, dtype):
    net = network(dtype=dtype)
    _, gradients = meta_gradient(learner_class(net, backend=backend, first_order=True), episodes(dtype))
    exact = network(dtype=dtype).double(), episodes(dtype).to(torch.float64)
    _, first = reference(learner_class, HamiltonianNetwork, *exact, first_order=True)
    _, second = reference(learner_class, HamiltonianNetwork, *exact)
    assert relative_error(gradients, first) < TOLERANCE[dtype]
    assert relative_error(second, first) > 0.01, "the two orders differ here"


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("scale", ["none", "task"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_learned_rates_and_the_task_scale(learner_class, kind, backend, scale, first_order):
    """Every step and tensor has a rate of its own, here all different, and each gets its gradient."""
    net = network(kind)
    learner = learner_class(net, lr=LR, learn_lr=True, scale=scale, backend=backend, first_order=first_order).double()
    assert learner.log_lr.shape == (STEPS, len(learner.adapted_names))
    torch.testing.assert_close(learner.log_lr.exp(), torch.full_like(learner.log_lr, LR), rtol=1e-6, atol=0)
    with torch.no_grad():
        learner.log_lr += torch.linspace(-1, 1, learner.log_lr.numel()).reshape(learner.log_lr.shape)
    loss, gradients = meta_gradient(learner, episodes())
    rates = learner.log_lr.detach().exp().requires_grad_()
    expected_loss, expected = reference(
        learner_class, kind, net, episodes(), rates, first_order=first_order, scaled=scale == "task"
    )
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-9)
    assert relative_error(gradients, expected[:-1]) < 1e-9
    assert relative_error([learner.log_lr.grad], [expected[-1] * rates.detach()]) < 1e-9
    assert (learner.log_lr.grad != 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_task_losses_are_those_of_each_task_alone(learner_class, backend):
    learner, tasks = learner_class(network(), backend=backend), episodes()
    alone = torch.cat([learner.task_losses(tasks[i : i + 1]) for i in range(len(tasks))])
    together = learner.task_losses(tasks)
    torch.testing.assert_close(together, alone, rtol=1e-11, atol=0)
    torch.testing.assert_close(learner.meta_loss(tasks), alone.mean(), rtol=1e-11, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_the_meta_loss_changes_no_weight(learner_class, backend):
    learner = learner_class(network(), backend=backend)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.meta_loss(episodes()).backward()
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_the_task_scale_makes_the_loss_independent_of_the_units_of_the_derivatives(learner_class):
    learner, tasks = learner_class(network(), scale="task"), episodes()
    faster = Episodes(
        Points(tasks.support.x, 37 * tasks.support.dxdt), Points(tasks.query.x, 37 * tasks.query.dxdt), tasks.parameters
    )
    torch.testing.assert_close(learner.meta_loss(faster), learner.meta_loss(tasks), rtol=1e-11, atol=0)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_a_training_step_lowers_the_meta_loss(learner_class):
    learner, tasks = learner_class(network()), episodes()
    before, gradients = meta_gradient(learner, tasks)
    size = sum(g.square().sum() for g in gradients).sqrt()
    with torch.no_grad():
        for value, gradient in zip(learner.net.parameters(), gradients, strict=True):
            value -= 1e-3 * gradient / size
    change = learner.meta_loss(tasks).item() - before.item()
    assert change == pytest.approx(-1e-3 * size.item(), rel=0.05)


@pytest.mark.parametrize("learner_class", LEARNERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "jax"}, "backend=jax.*vectorized, learn2learn"),
        ({"scale": "batch"}, "scale=batch.*none, task"),
        ({"lr": 0.0}, "lr=.* a finite number above 0"),
        ({"lr": -0.1}, "lr=.* a finite number above 0"),
        ({"lr": float("nan")}, "lr=.* a finite number above 0"),
        ({"inner_steps": 0}, "inner_steps=0 .*at least 1"),
    ],
)
def test_settings_that_make_no_learner_are_refused(learner_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        learner_class(HamiltonianNetwork(width=4, depth=1), **arguments)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_rates_are_parameters_only_where_they_are_learned(learner_class):
    net = HamiltonianNetwork(width=4, depth=1)
    assert {name for name, _ in learner_class(net).named_parameters()} == {
        f"net.{name}" for name, _ in net.named_parameters()
    }
    assert "log_lr" in dict(learner_class(net, learn_lr=True).named_parameters())
