"""The work that every library is given: one outer step with Adam, from the same weights on the same tasks."""

import dataclasses
from collections.abc import Callable

import torch

from meta_hamiltonian.episodes import Episodes, sample_episodes
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum

WIDTH, DEPTH, POINTS, INNER_STEPS = 64, 3, 50, 5
INNER_LR, OUTER_LR = 0.005, 1e-3
FLOP_PER_TASK = 79.5e6  # of the matrix products of a second-order step, however it is written


@dataclasses.dataclass(frozen=True)
class Program:
    """A library's program: a step, and the meta-gradient for the body and the head as one vector."""

    step: Callable[[], object]
    gradient: Callable[[], torch.Tensor]


def network(seed: int = 0) -> HamiltonianNetwork:
    torch.manual_seed(seed)
    return HamiltonianNetwork(width=WIDTH, depth=DEPTH, input_scale=Pendulum().state_box)


def episodes(tasks: int) -> Episodes:
    return sample_episodes(Pendulum(), tasks, POINTS, POINTS, seed=0)


def layers() -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """The initial weights for libraries that do not know the network: (weight, bias) of the layers, and the head."""
    net = network()
    return [(layer.weight.detach(), layer.bias.detach()) for layer in net.body], net.head.weight.detach()
