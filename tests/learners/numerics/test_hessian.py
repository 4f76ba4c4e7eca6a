"""The written-out gradient and Hessian against automatic differentiation."""

import pytest
import torch

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners import field_loss
from meta_hamiltonian.learners.numerics.hessian import hessian_product, loss_gradient
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.models.activations import ACTIVATIONS

TASKS = 3


def problem(activation="tanh", depth=3, state_dim=2, points=7):
    """Every task has weights of its own."""
    torch.manual_seed(0)
    box = torch.linspace(0.5, 3.0, state_dim)
    net = HamiltonianNetwork(state_dim, width=6, depth=depth, activation=activation, input_scale=box).double()

    def random(*shape):
        return torch.randn(TASKS, *shape, dtype=torch.float64)

    weights = {name: value + 0.5 * random(*value.shape) for name, value in net.named_parameters()}
    vector = {name: random(*value.shape) for name, value in net.named_parameters()}
    return net, weights, Points(random(points, state_dim), random(points, state_dim)), vector


def by_autograd(net, weights, points):
    own = {name: value.detach().requires_grad_() for name, value in weights.items()}
    losses = field_loss(net.field_with(own, points.x), points.dxdt)
    gradient = torch.autograd.grad(losses.sum(), list(own.values()), create_graph=True)
    return losses, dict(zip(own, gradient, strict=True)), own


CASES = [
    *[(activation, depth, 2) for activation in ACTIVATIONS for depth in (1, 2, 3)],
    *[("tanh", 2, 4), ("sin", 1, 6)],
]


@pytest.mark.parametrize(("activation", "depth", "state_dim"), CASES)
@pytest.mark.parametrize("points", [1, 7])
def test_the_gradient_is_that_of_automatic_differentiation(activation, depth, state_dim, points):
    net, weights, observed, _ = problem(activation, depth, state_dim, points)
    expected_losses, expected, _ = by_autograd(net, weights, observed)
    losses, gradient, _ = loss_gradient(net, weights, observed)
    torch.testing.assert_close(losses, expected_losses.detach(), rtol=1e-11, atol=1e-13)
    assert set(gradient) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("activation", "depth", "state_dim"), CASES)
def test_the_hessian_product_is_that_of_automatic_differentiation(activation, depth, state_dim):
    net, weights, observed, vector = problem(activation, depth, state_dim)
    _, gradient, own = by_autograd(net, weights, observed)
    along = sum((gradient[name] * vector[name]).sum() for name in vector)
    expected = dict(zip(own, torch.autograd.grad(along, list(own.values())), strict=True))
    _, _, tape = loss_gradient(net, weights, observed)
    product = hessian_product(tape, vector)
    assert set(product) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(product[name], value, rtol=1e-10, atol=1e-11)
        assert value.abs().max() > 1e-3


def test_the_hessian_is_symmetric():
    net, weights, observed, u = problem()
    w = {name: value.flip(0).square() for name, value in u.items()}
    _, _, tape = loss_gradient(net, weights, observed)
    h_u, h_w = hessian_product(tape, u), hessian_product(tape, w)
    one = sum((w[name] * h_u[name]).flatten(1).sum(1) for name in u)
    other = sum((u[name] * h_w[name]).flatten(1).sum(1) for name in u)
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivatives_of_an_activation(name):
    a = torch.linspace(-6, 6, 101, dtype=torch.float64).requires_grad_()
    value, derivative, derivatives = ACTIVATIONS[name]
    expected = [value(a)]
    for _ in range(3):
        expected.append(torch.autograd.grad(expected[-1].sum(), a, create_graph=True)[0])
    for found, wanted in zip(derivatives(a), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(derivative(a, value(a)), expected[1], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_derivatives_are_finite_wherever_the_weights_go(name, dtype):
    a = torch.tensor([-1e30, -1e4, -50.0, 0.0, 50.0, 1e4, 1e30], dtype=dtype)
    assert all(value[1:-1].isfinite().all() for value in ACTIVATIONS[name].derivatives(a))
