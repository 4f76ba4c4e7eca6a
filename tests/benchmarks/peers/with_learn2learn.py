"""learn2learn: clone and adapt, task by task, as in its examples."""

import torch
from plain_torch import BOX, body, head, loss
from torch import nn
from work import INNER_LR, INNER_STEPS, OUTER_LR, Program, episodes

from meta_hamiltonian.learners.numerics import learn2learn as l2l


def maml(tasks: int) -> Program:
    net = nn.Sequential(*body(), head())
    algorithm = l2l.MAML(net, lr=INNER_LR)
    support, query = episodes(tasks).support, episodes(tasks).query

    def meta_loss():
        total = 0.0
        for i in range(tasks):
            clone = algorithm.clone()
            for _ in range(INNER_STEPS):
                clone.adapt(loss(clone, support.x[i], support.dxdt[i]))
            total = total + loss(clone, query.x[i], query.dxdt[i])
        return total / tasks

    return _program(list(net.parameters()), meta_loss)


def anil(tasks: int) -> Program:
    """The field is linear in the head: its features, the body's Jacobian, are computed once for all inner steps."""
    features, last = body(), head()
    algorithm = l2l.MAML(last, lr=INNER_LR)
    support, query = episodes(tasks).support, episodes(tasks).query

    def rows(x):
        # Two columns of a Jacobian by differentiating vᵀJ for v: twice as fast here as torch.func.jacfwd.
        x = x.clone().requires_grad_()
        phi = features(x / BOX)
        v = torch.zeros_like(phi, requires_grad=True)
        (product,) = torch.autograd.grad(phi, x, v, create_graph=True)
        (by_q,) = torch.autograd.grad(product[:, 0].sum(), v, create_graph=True)
        (by_p,) = torch.autograd.grad(product[:, 1].sum(), v, create_graph=True)
        return torch.stack([by_p, -by_q], dim=1)

    def error(last, rows, dxdt):
        return (last(rows)[..., 0] - dxdt).square().sum(-1).mean()

    def meta_loss():
        total = 0.0
        for i in range(tasks):
            clone, inputs = algorithm.clone(), rows(support.x[i])
            for _ in range(INNER_STEPS):
                clone.adapt(error(clone, inputs, support.dxdt[i]))
            total = total + error(clone, rows(query.x[i]), query.dxdt[i])
        return total / tasks

    return _program([*features.parameters(), *last.parameters()], meta_loss)


def _program(parameters, meta_loss) -> Program:
    optimizer = torch.optim.Adam(parameters, OUTER_LR)

    def step():
        optimizer.zero_grad()
        meta_loss().backward()
        optimizer.step()

    return Program(step, lambda: torch.cat([value.flatten() for value in torch.autograd.grad(meta_loss(), parameters)]))
