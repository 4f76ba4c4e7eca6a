"""This package."""

import torch
from work import INNER_LR, INNER_STEPS, OUTER_LR, Program, episodes, network

from meta_hamiltonian.learners import ANIL, MAML, Ridge

LEARNERS = {"maml": MAML, "anil": ANIL}


def gradient_learner(algorithm: str, tasks: int, **arguments) -> Program:
    return _program(LEARNERS[algorithm](network(), INNER_LR, INNER_STEPS, **arguments), tasks)


def ridge(tasks: int) -> Program:
    return _program(Ridge(network()), tasks)


def _program(learner, tasks: int) -> Program:
    optimizer = torch.optim.Adam(learner.parameters(), OUTER_LR)
    observed = episodes(tasks)

    def step():
        optimizer.zero_grad()
        learner.meta_loss(observed).backward()
        optimizer.step()

    def gradient():
        loss = learner.meta_loss(observed)
        return torch.cat([value.flatten() for value in torch.autograd.grad(loss, list(learner.net.parameters()))])

    return Program(step, gradient)
