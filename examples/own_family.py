"""A family of one's own: molecules that vibrate in a Morse potential, from the class to an adapted member.

python examples/own_family.py --steps 600
"""

import argparse

import torch

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import ANIL
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Domain, SimulatedSystem, register


@register
class Morse(SimulatedSystem):
    """H = p² / 2m + D (1 − exp(−a q))²: soft when stretched, hard when compressed."""

    parameter_names = ("m", "D", "a")
    parameter_ranges = ((0.5, 2.0), (0.5, 2.0), (0.5, 1.0))
    domain = Domain.box({"q": (-1.0, 2.0), "p": (-2.0, 2.0)})

    def hamiltonian(self, x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """The energy; the field follows by automatic differentiation."""
        q, p = x.unbind(-1)
        m, depth, a = parameters.unbind(-1)
        return p**2 / (2 * m) + depth * (1 - torch.exp(-a * q)) ** 2


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=600, help="outer steps")
options = parser.parse_args()

torch.manual_seed(0)
system = Morse()
learner = ANIL(HamiltonianNetwork(domain=system.domain, width=32, depth=2), lr=0.02, learn_lr=True, scale="task")
optimizer = torch.optim.Adam(learner.parameters(), lr=5e-3)
for step in range(options.steps):
    episodes = sample_episodes(system, tasks=32, support=50, query=50, seed=step)
    optimizer.zero_grad()
    loss = learner.meta_loss(episodes)
    loss.backward()
    optimizer.step()
    if step % 100 == 0 or step == options.steps - 1:
        print(f"step {step:4d}: query loss {loss.item():.2e}")

new = sample_episodes(system, tasks=1, support=25, query=1, seed=1, split="new")
adapted = learner.adapt(new.support.x[0], new.support.dxdt[0], steps=50)
grid = system.domain.grid(50).float()
true = system.field(grid, new.parameters)
error = (adapted.field(grid) - true).square().sum(-1).mean() / true.square().sum(-1).mean()
print(f"relative error of the field of a new molecule, from 25 points: {error.sqrt():.1%}")
