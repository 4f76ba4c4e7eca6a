"""Meta-trains the closed-form learner in Python, and adapts it to a pendulum that it has never seen.

python examples/train_and_adapt.py --steps 300
"""

import argparse

import torch

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection, projected_parameters

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300, help="outer steps")
options = parser.parse_args()

torch.manual_seed(0)
system = Pendulum(gravity=1.0)
net = HamiltonianNetwork(state_dim=2, width=48, depth=1, activation="sin", input_scale=system.state_box)
learner = Ridge(net, rank=6, noise=1e-10, scale="task").double()

# The outer loop: Levenberg-Marquardt on equation (7), the heads of all tasks solved for.
optimizer = LevenbergMarquardt(projected_parameters(learner).values())
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
for step in range(options.steps):
    episodes = sample_episodes(system, tasks=50, support=50, query=50, seed=step, dtype=torch.float64)
    problem = VariableProjection(learner, rescaled(episodes))
    loss = optimizer.step(lambda problem=problem: problem)
    schedule.step()
    if step % 50 == 0 or step == options.steps - 1:
        print(f"step {step:4d}: query loss {loss:.2e}")
held_out = sample_episodes(system, tasks=100, support=50, query=50, seed=0, split="held out", dtype=torch.float64)
learner.calibrate(held_out)  # how heads are distributed over the family: the prior of a new system

# A new pendulum, from 25 states and their derivatives.
new = sample_episodes(system, tasks=1, support=25, query=1, seed=1, split="new", dtype=torch.float64)
adapted = learner.adapt(new.support.x[0], new.support.dxdt[0])
grid = system.domain.grid(50)
true = system.field(grid, new.parameters)
print(f"field MSE {(adapted.field(grid) - true).square().sum(-1).mean():.2e} of {true.square().sum(-1).mean():.1f}")
orbit = adapted.rollout(torch.tensor([1.0, 0.0], dtype=torch.float64), torch.linspace(0, 5, 51, dtype=torch.float64))
print(f"after 5 time units: q = {orbit[-1, 0]:.6f}, p = {orbit[-1, 1]:.6f}")
