"""The published methods against their equations, written out with plain automatic differentiation and NumPy."""

import dataclasses

import numpy as np
import pytest
import torch

from meta_hamiltonian.config import ConfigError
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import CAMEL, CAVIA, MAML, SVD, CoDA, FunctionEncoder
from meta_hamiltonian.models import DissipativeNetwork, HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum, Spring

WIDTH, TASKS, RATE = 6, 3, 0.05
BOX = torch.tensor(Pendulum().state_box, dtype=torch.float64)


def network(seed=0, **more):
    torch.manual_seed(seed)
    return HamiltonianNetwork(**{"width": WIDTH, "depth": 1, "domain": Pendulum().domain, **more})


def tasks():
    return sample_episodes(Pendulum(), TASKS, 8, 10, seed=0, dtype=torch.float64)


def field(energy, x):
    """Equation (1) for an energy of states [points, 2], by automatic differentiation."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    return torch.stack([gradient[:, 1], -gradient[:, 0]], dim=-1)


def loss(energy, points):
    return (field(energy, points.x) - points.dxdt).square().sum(-1).mean()


def descend(learner, episodes, steps=3):
    """Steps of plain gradient descent, and what the learner's parameters are after each."""
    path = []
    for _ in range(steps):
        learner.zero_grad()
        learner.meta_loss(episodes).backward()
        with torch.no_grad():
            for value in learner.parameters():
                if value.grad is not None:
                    value -= RATE * value.grad
        path.append({name: value.detach().clone() for name, value in learner.named_parameters()})
    return path


def follow(start, total, steps=3):
    """The same steps for the mean loss of the tasks, as a function of the parameters by name."""
    own, path = start, []
    for _ in range(steps):
        leaves = {name: value.detach().clone().requires_grad_() for name, value in own.items()}
        gradients = torch.autograd.grad(total(leaves), list(leaves.values()))
        own = {
            name: value.detach() - RATE * gradient
            for (name, value), gradient in zip(leaves.items(), gradients, strict=True)
        }
        path.append(own)
    return path


def assert_same_path(found, expected):
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            torch.testing.assert_close(one[name], value, rtol=1e-9, atol=1e-12, msg=name)
    assert any((found[0][name] - found[-1][name]).abs().max() > 1e-3 for name in expected[0]), "it moved"


def test_camel_moves_heads_and_body_together_along_the_gradient_of_one_loss():
    learner = CAMEL(network(), dimension=2)
    learner.prepare(TASKS)
    torch.nn.init.normal_(learner.contexts, std=0.5)
    learner = learner.double()
    episodes = tasks()
    start = {name: value.detach().clone() for name, value in learner.named_parameters()}

    def total(own):
        losses = []
        for task in range(TASKS):

            def energy(x, w=own["contexts"][task]):
                hidden = torch.tanh((x / BOX) @ own["net.body.0.weight"].T + own["net.body.0.bias"])
                c, v = hidden @ own["net.head.weight"][0], hidden @ own["directions"]
                return c + v @ w

            losses.append(loss(energy, episodes.points[task]))
        return torch.stack(losses).mean()

    assert_same_path(descend(learner, episodes), follow(start, total))


def test_camel_learns_the_head_of_a_task_that_is_drawn_and_no_other():
    learner = CAMEL(network(), dimension=2)
    learner.prepare(5)
    episodes = sample_episodes(Pendulum(), 5, 8, 10, seed=0)[torch.tensor([3, 1])]
    learner.meta_loss(episodes).backward()
    assert learner.contexts.grad is not None
    assert (learner.contexts.grad.abs().sum(1) > 0).tolist() == [False, True, False, True, False]


def test_camel_and_the_function_encoder_adapt_by_least_squares():
    """For a fixed body H = c + w · v; w by NumPy from fields of c and of each component of v."""
    x, dxdt = (part[0] for part in (tasks().support.x, tasks().support.dxdt))
    grid = Pendulum().domain.grid(5)
    camel, encoder = CAMEL(network(), dimension=2).double(), FunctionEncoder(network(), basis=2, ridge=0.3).double()
    for learner in (camel, encoder):

        def parts(x, learner=learner):
            body, rows = learner.net.body[0], learner.directions.T
            heads = torch.cat([learner.net.head.weight, rows])
            fields = [field(lambda x, w=w: torch.tanh((x / BOX) @ body.weight.T + body.bias) @ w, x) for w in heads]
            return [one.detach().numpy().ravel() for one in fields]

        c, *v = parts(x)
        b, left = np.stack(v, axis=1), dxdt.numpy().ravel() - c
        if learner is camel:
            w = np.linalg.lstsq(b, left, rcond=None)[0]
        else:
            w = np.linalg.solve(b.T @ b / 8 + 0.3 * np.eye(2), b.T @ left / 8)
        c, *v = parts(grid)
        expected = (c + np.stack(v, axis=1) @ w).reshape(-1, 2)
        np.testing.assert_allclose(learner.adapt(x, dxdt).field(grid).numpy(), expected, rtol=1e-7, atol=1e-9)


def cavia_energy(own, context):
    """The context stands beside the state: a first layer with more inputs."""
    first = torch.cat([own["net.body.0.weight"], own["columns.0"]], dim=1)

    def energy(x):
        inputs = torch.cat([x / BOX, context.expand(len(x), -1)], dim=1)
        return torch.tanh(inputs @ first.T + own["net.body.0.bias"]) @ own["net.head.weight"][0]

    return energy


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("backend", ["vectorized", "learn2learn"])
def test_cavia_changes_the_context_alone_and_learns_through_the_inner_steps(first_order, backend):
    learner = CAVIA(network(), dimension=2, lr=0.3, inner_steps=3, first_order=first_order, backend=backend).double()
    episodes = tasks()
    start = {name: value.detach().clone() for name, value in learner.named_parameters()}

    def total(own):
        losses = []
        for task in range(TASKS):
            context = torch.zeros(2, dtype=torch.float64, requires_grad=True)
            for _ in range(3):
                inner = loss(cavia_energy(own, context), episodes.support[task])
                (gradient,) = torch.autograd.grad(inner, context, create_graph=not first_order)
                context = context - 0.3 * gradient
            losses.append(loss(cavia_energy(own, context), episodes.query[task]))
        return torch.stack(losses).mean()

    assert_same_path(descend(learner, episodes), follow(start, total))

    support, own = episodes.support[0], dict(learner.named_parameters())
    context = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    for _ in range(5):
        (gradient,) = torch.autograd.grad(loss(cavia_energy(own, context), support), context)
        context = (context - 0.3 * gradient).detach().requires_grad_()
    grid = Pendulum().domain.grid(5)
    expected = field(cavia_energy(own, context), grid).detach()
    torch.testing.assert_close(learner.adapt(support.x, support.dxdt, steps=5).field(grid), expected)


def test_coda_moves_all_weights_in_the_directions_of_the_hypernetwork():
    learner = CoDA(network(), dimension=2, context_penalty=0.1, weight_penalty=0.01)
    learner.prepare(TASKS)
    torch.nn.init.normal_(learner.contexts, std=0.5)
    learner = learner.double()
    with torch.no_grad():
        learner.directions[4] = 0.0  # a row that the penalty has made 0 has no direction, and no NaN
    episodes = tasks()
    start = {name: value.detach().clone() for name, value in learner.named_parameters()}
    shapes = {name: value.shape for name, value in learner.net.named_parameters()}

    def total(own):
        lengths = [row.norm() for i, row in enumerate(own["directions"]) if i != 4]
        losses = []
        for task in range(TASKS):
            xi = own["contexts"][task]
            moved = (own["directions"] @ xi).split([shape.numel() for shape in shapes.values()])
            theta = {n: own[f"net.{n}"] + m.reshape(s) for (n, s), m in zip(shapes.items(), moved, strict=True)}

            def energy(x, theta=theta):
                hidden = torch.tanh((x / BOX) @ theta["body.0.weight"].T + theta["body.0.bias"])
                return hidden @ theta["head.weight"][0]

            losses.append(loss(energy, episodes.points[task]) + 0.1 * xi.square().sum() + 0.01 * sum(lengths))
        return torch.stack(losses).mean()

    (found,), (expected,) = descend(learner, episodes, 1), follow(start, total, 1)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_modulated_layers_are_the_shared_ones_with_singular_values_and_shifts_of_their_own():
    learner = SVD(network(depth=2), dimension=3, rank=4).double()
    z = torch.randn(5, 3, dtype=torch.float64)
    said = learner.hyper(z)
    ranks = [2, 4]  # the first layer has two inputs
    weights, at = learner.weights(z), 0
    for i, rank in enumerate(ranks):
        d, shift = said[:, at : at + rank].clamp_min(0.0), said[:, at + rank : at + rank + WIDTH]
        at += rank + WIDTH
        layer = learner.net.body[i]
        for task in range(5):
            sum_of_ranks = sum(
                d[task, j] * torch.outer(learner.left[i][:, j], learner.right[i][:, j]) for j in range(rank)
            )
            torch.testing.assert_close(weights[f"body.{i}.weight"][task], layer.weight + sum_of_ranks)
            torch.testing.assert_close(weights[f"body.{i}.bias"][task], layer.bias + shift[task])
    assert at == said.shape[1]
    assert (learner.penalty(0 * z) - learner.locality * learner.hyper.weight.square().sum()).abs().max() < 1e-12


@pytest.mark.parametrize("kind", [CoDA, SVD])
def test_a_new_system_starts_from_the_mean_context_of_the_training_set(kind):
    learner = kind(network(), dimension=2).double()
    learner.prepare(4)
    torch.nn.init.normal_(learner.contexts)
    support = tasks().support
    (start,) = learner.adapt_tasks(support, [0])
    mean = learner.weights(learner.contexts.mean(0, keepdim=True))
    for name, value in mean.items():
        torch.testing.assert_close(start.parameters[name][0], value[0])


def trained(learner, steps, rate=0.01):
    """By Adam, on eight springs."""
    learner.prepare(8)
    episodes = sample_episodes(Spring(), 8, 20, 20, seed=0)
    optimizer = torch.optim.Adam(learner.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        learner.meta_loss(episodes).backward()
        optimizer.step()
    return learner


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda net: CAMEL(net, dimension=3, scale="task"), 150),
        (lambda net: CoDA(net, dimension=3, lr=0.1, steps=50, scale="task"), 200),
        (lambda net: SVD(net, dimension=3, rank=3, lr=0.1, steps=50, scale="task"), 200),
        (lambda net: FunctionEncoder(net, basis=6, scale="task"), 80),
        (lambda net: CAVIA(net, dimension=3, lr=0.3, inner_steps=2, scale="task"), 160),
    ],
    ids=["camel", "coda", "svd", "encoder", "cavia"],
)
def test_adaptation_to_springs_that_were_never_seen_learns_something(make, steps):
    learner = trained(make(network(width=16, depth=2, domain=Spring().domain)), steps)
    new = sample_episodes(Spring(), 10, 20, 50, seed=1, split="test", dtype=torch.float64)
    at = learner.tested_steps([0, learner.default_steps])
    *start, adapted = (one.field(new.query.x) for one in learner.adapt_tasks(new.support, at))
    size = new.query.dxdt.square().sum((1, 2))
    error = ((adapted - new.query.dxdt).square().sum((1, 2)) / size).median()
    assert error < 0.1
    for one in start:  # of those that take steps: they are what helps
        assert error < 0.7 * ((one - new.query.dxdt).square().sum((1, 2)) / size).median()


def test_the_loss_of_tasks_outside_the_training_set_is_that_of_adaptation():
    for kind in (CAMEL, CoDA, SVD):
        learner = kind(network(), dimension=2, scale="task").double()
        learner.prepare(TASKS)
        episodes = dataclasses.replace(tasks(), index=None)
        (adapted,) = learner.adapt_tasks(episodes.support, [learner.default_steps])
        error = (adapted.field(episodes.query.x) - episodes.query.dxdt) / adapted.scale[:, None, None]
        torch.testing.assert_close(learner.meta_loss(episodes), error.square().sum(-1).mean())


def test_contexts_need_a_training_set_of_a_known_size():
    learner = CAMEL(network(), dimension=2)
    with pytest.raises(ValueError, match=r"prepare\(3\)"):
        learner.meta_loss(tasks())
    with pytest.raises(ConfigError, match=r"data\.tasks=null .* give a number"):
        learner.prepare(None)
    learner.prepare(7)
    other = CAMEL(network(seed=1), dimension=2)
    other.load_state_dict(learner.state_dict())
    assert other.contexts.shape == (7, 2)


@pytest.mark.parametrize("kind", [CAVIA, SVD])
def test_friction_of_a_known_kind_has_no_layers_that_could_be_a_members_own(kind):
    with pytest.raises(ConfigError, match=r"leave model\.friction out"):
        kind(DissipativeNetwork(friction="viscous", domain=Spring().domain))


def test_unknowns_of_a_member_are_what_adaptation_finds():
    net = network()
    counts = {
        MAML(net).unknowns_of_a_member: WIDTH * 2 + WIDTH + WIDTH,
        CAMEL(net, dimension=5).unknowns_of_a_member: 5,
        CAVIA(net, dimension=4).unknowns_of_a_member: 4,
        CoDA(net, dimension=2).unknowns_of_a_member: 2,
        SVD(net, dimension=3).unknowns_of_a_member: 3,
        FunctionEncoder(net, basis=6).unknowns_of_a_member: 6,
    }
    assert all(found == expected for found, expected in counts.items())
