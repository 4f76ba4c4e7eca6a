"""higher: a differentiable inner optimizer, task by task."""

import higher
import torch
from plain_torch import body, head, loss
from torch import nn
from work import INNER_LR, INNER_STEPS, OUTER_LR, Program, episodes


def maml(tasks: int) -> Program:
    net = nn.Sequential(*body(), head())
    inner = torch.optim.SGD(net.parameters(), lr=INNER_LR)
    outer = torch.optim.Adam(net.parameters(), OUTER_LR)
    support, query = episodes(tasks).support, episodes(tasks).query

    def backward():
        for i in range(tasks):
            with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (functional, optimizer):
                for _ in range(INNER_STEPS):
                    optimizer.step(loss(functional, support.x[i], support.dxdt[i]))
                (loss(functional, query.x[i], query.dxdt[i]) / tasks).backward()

    def step():
        outer.zero_grad()
        backward()
        outer.step()

    def gradient():
        outer.zero_grad()
        backward()
        return torch.cat([value.grad.flatten() for value in net.parameters()])

    return Program(step, gradient)
