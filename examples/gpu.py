"""The outer step of MAML, on a GPU where there is one: the code is the same as on a CPU.

python examples/gpu.py --tasks 1000 --steps 100
"""

import argparse
import time

import torch

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import MAML
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--tasks", type=int, default=1000, help="tasks of a meta-batch")
parser.add_argument("--steps", type=int, default=100, help="outer steps")
parser.add_argument(
    "--compile", action="store_true", help="compile the step: half a minute that long trainings earn back"
)
options = parser.parse_args()

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
system = Pendulum(gravity=1.0)
net = HamiltonianNetwork(state_dim=2, width=64, depth=3, activation="tanh", input_scale=system.state_box)
learner = MAML(net, lr=0.02, inner_steps=5, learn_lr=True, scale="task", compile=options.compile).to(device)
optimizer = torch.optim.Adam(learner.parameters(), lr=1e-3, fused=device.type == "cuda")
# Episodes are drawn once and stay on the device.
episodes = sample_episodes(system, tasks=10 * options.tasks, support=50, query=50, seed=0).to(device)

began = time.perf_counter()
for step in range(options.steps):
    first = step % 10 * options.tasks
    optimizer.zero_grad()
    loss = learner.meta_loss(episodes[first : first + options.tasks])
    loss.backward()
    optimizer.step()
print(f"{device}: query loss {loss.item():.3f} after {options.steps} steps")
print(f"{options.steps * options.tasks / (time.perf_counter() - began):,.0f} tasks a second, the first step included")
