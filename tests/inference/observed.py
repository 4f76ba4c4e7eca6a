"""One pendulum, observed in many ways, and the learner that is adapted to it."""

import functools
from pathlib import Path

import numpy as np
import torch

from meta_hamiltonian import load
from meta_hamiltonian.observations import Derivatives, Trajectory
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()
PARAMETERS = torch.tensor([[0.8, 1.1, 0.3]], dtype=torch.float64)  # m, l, q0
INERTIA = (PARAMETERS[0, 0] * PARAMETERS[0, 1] ** 2).item()  # with which p is the true one
DATA = Path(__file__).parents[1] / "data"


@functools.cache
def learner(name="ridge"):
    return load(DATA / f"{name}.ckpt")


def orbit(x0, t):
    return SYSTEM.orbit(torch.tensor([x0], dtype=torch.float64), PARAMETERS, t)[:, 0]


def points(count=25, noise=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = SYSTEM.domain.draw(seed, ("observed",), range(1), count)[0]
    dxdt = SYSTEM.field(x, PARAMETERS)
    noisy = [
        v + noise * v.square().mean(0).sqrt() * torch.randn(v.shape, generator=generator).double() for v in (x, dxdt)
    ]
    return Derivatives(*(v.numpy() for v in noisy))


def swing(columns="t,q,p", x0=(1.5, 0.0), instants=80, until=10.0, noise=0.0, seed=0):
    t = torch.linspace(0, until, instants, dtype=torch.float64)
    x = orbit(x0, t).numpy()
    x = x + noise * np.random.default_rng(seed).normal(size=x.shape) * np.abs(x).max(0)
    q, p = x[:, :1], x[:, 1:]
    return Trajectory(t.numpy(), q, p if "p" in columns else None, p / INERTIA if "v" in columns else None, "")
