"""TorchOpt: a differentiable optimizer whose state and network are restored after each task."""

import torch
import torchopt
from plain_torch import body, head, loss
from torch import nn
from work import INNER_LR, INNER_STEPS, OUTER_LR, Program, episodes


def maml(tasks: int) -> Program:
    net = nn.Sequential(*body(), head())
    parameters = list(net.parameters())
    inner = torchopt.MetaSGD(net, lr=INNER_LR)
    outer = torch.optim.Adam(parameters, OUTER_LR)
    support, query = episodes(tasks).support, episodes(tasks).query

    def meta_loss():
        start = torchopt.extract_state_dict(net, by="reference"), torchopt.extract_state_dict(inner, by="reference")
        total = 0.0
        for i in range(tasks):
            for _ in range(INNER_STEPS):
                inner.step(loss(net, support.x[i], support.dxdt[i]))
            total = total + loss(net, query.x[i], query.dxdt[i])
            torchopt.recover_state_dict(net, start[0])
            torchopt.recover_state_dict(inner, start[1])
        return total / tasks

    def step():
        outer.zero_grad()
        meta_loss().backward()
        outer.step()

    return Program(step, lambda: torch.cat([value.flatten() for value in torch.autograd.grad(meta_loss(), parameters)]))
