"""A family with an unknown inside the law, outside the package, and a learner that a short training leaves."""

import functools

import torch

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.systems import Domain, SimulatedSystem, register
from meta_hamiltonian.training.levenberg_marquardt import (
    LevenbergMarquardt,
    VariableProjection,
    projected_parameters,
)

WIDTH, RANK, STEPS = 24, 6, 24


@register
class Morse(SimulatedSystem):
    """Molecules of reduced mass m, depth D and a width that is not known: H = p² / (2m) + D (1 − exp(−a q))².

    Morse: Diatomic molecules according to the wave mechanics. Physical Review 34, 1929.
    """

    parameter_names = ("m", "D", "a")
    parameter_ranges = ((0.5, 2.0), (0.5, 2.0), (0.6, 1.6))
    domain = Domain.box({"q": (-0.8, 2.0), "p": (-2.0, 2.0)})
    horizon = 20.0

    def hamiltonian(self, x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        q, p = x.unbind(-1)
        m, depth, a = parameters.unbind(-1)
        return p**2 / (2 * m) + depth * (1 - torch.exp(-a * q)) ** 2


@functools.cache
def trained(latents: int = 1) -> Ridge:
    """After a few steps on 20 members each."""
    torch.manual_seed(0)
    system = Morse()
    net = NaturalNetwork(2, WIDTH, system.domain)
    learner = Ridge(net, rank=RANK, noise=1e-10, scale="task", latents=latents).double()
    optimizer = LevenbergMarquardt(projected_parameters(learner).values())
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        members = range(20 * step, 20 * step + 20)
        batch = rescaled(sample_episodes(system, members, 25, 25, seed=0, dtype=torch.float64))
        problem = VariableProjection(learner, batch)
        optimizer.step(lambda problem=problem: problem)
        assert problem.z is not None
        learner.standardise(problem.z)
        falling.step()
    learner.calibrate(sample_episodes(system, 40, 25, 25, seed=0, split="val", dtype=torch.float64))
    return learner.requires_grad_(False)
