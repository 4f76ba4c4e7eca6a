"""The outer updates of CAMEL and CAVIA, derived by hand and computed by NumPy alone, on three small tasks.

Both methods have one hidden layer, H(x) = w · h with h = tanh(W x / box + β), so that the field is Ω g with

g = Wᵀ (w ⊙ (1 − h²)) / box.

In CAMEL w = c + V ωₜ, with numbers ωₜ that belong to the task t; in CAVIA β = b + U φ, with a context φ.
"""

import numpy as np
import torch

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import CAMEL, CAVIA
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum

TASKS, WIDTH, RATE, INNER_RATE, INNER_STEPS = 3, 5, 0.05, 0.3, 2
BOX = np.array(Pendulum().state_box)
# A step along the imaginary axis has the derivative of an analytic function as its imaginary part, to rounding.
TINY = 1e-30


def gradients(points, first, bias, head):
    """∂L/∂W, ∂L/∂β and ∂L/∂w of L = mean ‖Ω g − y‖², by the chain rule; the arguments may be complex."""
    x, y = points
    h = np.tanh(x / BOX @ first.T + bias)
    slope = 1 - h**2
    g = (head * slope) @ first / BOX
    # ‖Ω g − y‖² = (g_p − y_q)² + (g_q + y_p)²
    by_g = 2 * (g - np.stack([-y[:, 1], y[:, 0]], axis=1)) / len(x)
    by_active = (by_g / BOX) @ first.T  # with respect to w ⊙ (1 − h²)
    by_inside = by_active * head * (-2 * h) * slope
    by_first = (head * slope).T @ (by_g / BOX) + by_inside.T @ (x / BOX)
    return by_first, by_inside.sum(0), (by_active * slope).sum(0)


def camel_step(tasks, own):
    """Plain gradient descent on (1/T) Σₜ L(θ, ωₜ), on θ and all ωₜ at once."""
    total = {name: np.zeros_like(value) for name, value in own.items()}
    for t, points in enumerate(tasks):
        omega = own["contexts"][t]
        by_first, by_bias, by_head = gradients(
            points, own["first"], own["bias"], own["head"] + own["directions"] @ omega
        )
        total["first"] += by_first / TASKS
        total["bias"] += by_bias / TASKS
        total["head"] += by_head / TASKS
        total["directions"] += np.outer(by_head, omega) / TASKS
        total["contexts"][t] += own["directions"].T @ by_head / TASKS
    return {name: value - RATE * total[name] for name, value in own.items()}


def cavia_gradients(points, own, context):
    """∂L/∂θ by name, and ∂L/∂φ."""
    by_first, by_bias, by_head = gradients(points, own["first"], own["bias"] + own["columns"] @ context, own["head"])
    by_theta = {"first": by_first, "bias": by_bias, "head": by_head, "columns": np.outer(by_bias, context)}
    return by_theta, own["columns"].T @ by_bias


def cavia_step(tasks, own):
    """Plain gradient descent on the mean query loss at φₙ(θ), where φₖ₊₁ = φₖ − α ∂L_support/∂φ (φₖ, θ) and φ₀ = 0.

    Backwards through the inner steps, with λ = ∂L_query/∂φ at φₙ, each of them adds −α ∂/∂θ (∂L_support/∂φ · λ), and
    takes λ to λ − α ∂²L_support/∂φ² λ. Both are derivatives of the support gradients along λ.
    """
    total = {name: np.zeros_like(value) for name, value in own.items()}
    for support, query in tasks:
        path = [np.zeros(own["columns"].shape[1])]
        for _ in range(INNER_STEPS):
            path.append(path[-1] - INNER_RATE * cavia_gradients(support, own, path[-1])[1])
        by_theta, along = cavia_gradients(query, own, path.pop())
        for context in reversed(path):
            change, curvature = cavia_gradients(support, own, context + 1j * TINY * along)
            for name, value in change.items():
                by_theta[name] = by_theta[name] - INNER_RATE * value.imag / TINY
            along = along - INNER_RATE * curvature.imag / TINY
        for name, value in by_theta.items():
            total[name] += value / TASKS
    return {name: value - RATE * total[name] for name, value in own.items()}


def network():
    torch.manual_seed(0)
    return HamiltonianNetwork(width=WIDTH, depth=1, domain=Pendulum().domain)


def tasks():
    return sample_episodes(Pendulum(), TASKS, 6, 7, seed=0, dtype=torch.float64)


def arrays(points, task):
    return points.x[task].numpy(), points.dxdt[task].numpy()


def follow(learner, names, episodes, numpy_tasks, step):
    """Takes three steps along the learner's gradient, and compares each with that of `step`."""
    own = {name: learner.get_parameter(full).detach().numpy().copy() for name, full in names.items()}
    own["head"] = own["head"][0]
    first = {name: value.copy() for name, value in own.items()}
    for _ in range(3):
        learner.zero_grad()
        learner.meta_loss(episodes).backward()
        with torch.no_grad():
            for value in learner.parameters():
                value -= RATE * value.grad
        own = step(numpy_tasks, own)
        for name, full in names.items():
            found = learner.get_parameter(full).detach().numpy().reshape(own[name].shape)
            np.testing.assert_allclose(found, own[name], rtol=1e-10, atol=1e-10, err_msg=name)
    for name, value in own.items():
        assert np.abs(value - first[name]).max() > 1e-3, f"{name} has moved"


def test_camel_takes_the_steps_that_were_derived_by_hand():
    learner = CAMEL(network(), dimension=2)
    learner.prepare(TASKS)
    torch.nn.init.normal_(learner.contexts, std=0.5)
    names = {
        "first": "net.body.0.weight",
        "bias": "net.body.0.bias",
        "head": "net.head.weight",
        "directions": "directions",
        "contexts": "contexts",
    }
    episodes = tasks()
    points = [arrays(episodes.points, t) for t in range(TASKS)]
    follow(learner.double(), names, episodes, points, camel_step)


def test_cavia_takes_the_steps_that_were_derived_by_hand():
    learner = CAVIA(network(), dimension=2, lr=INNER_RATE, inner_steps=INNER_STEPS)
    names = {
        "first": "net.body.0.weight",
        "bias": "net.body.0.bias",
        "head": "net.head.weight",
        "columns": "columns.0",
    }
    episodes = tasks()
    both = [(arrays(episodes.support, t), arrays(episodes.query, t)) for t in range(TASKS)]
    follow(learner.double(), names, episodes, both, cavia_step)
