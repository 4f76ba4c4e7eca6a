"""The Triton candidate for MAML's step, run by Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Layers, a width that is no power of two, more points than a block has, masks, and rates that are learned.
PROGRAM = """
import copy, sys
sys.path.insert(0, sys.argv[1])
import torch
from fused_maml import FusedMAML
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import MAML
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import HenonHeiles

system = HenonHeiles()
torch.manual_seed(0)
net = HamiltonianNetwork(width=24, depth=3, domain=system.domain, inputs="raw")
episodes = sample_episodes(system, 2, 40, 40, 0, dtype=torch.float32)
episodes.support.mask = torch.arange(40) < torch.tensor([[40], [11]])
found = []
for kind, dtype in ((MAML, torch.float64), (FusedMAML, torch.float32)):
    learner = kind(copy.deepcopy(net), lr=0.01, inner_steps=2, learn_lr=True, scale="task").to(dtype)
    loss = learner.meta_loss(episodes.to(dtype))
    found.append([loss, *torch.autograd.grad(loss, list(learner.parameters()))])
print(max(((b - a).norm() / a.norm()).item() for a, b in zip(*found, strict=True)))
"""


def test_the_kernels_give_mamls_gradient_to_the_digits_of_float32():
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", PROGRAM, str(BENCHMARKS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-6  # 2e-7, as where products are plain float32
