"""Systems of several degrees of freedom, and predictions of them that are a bit off, without any training."""

import math

import torch

from meta_hamiltonian.dynamics import Exclusion
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.evaluation import Result, TestSet
from meta_hamiltonian.evaluation.errors import Errors
from meta_hamiltonian.figures import Shown
from meta_hamiltonian.models import AdaptedSystems, ParametricHamiltonian
from meta_hamiltonian.systems import Domain, SimulatedSystem

LONG = ("angle_of_the_inner_arm", "angle_of_the_outer_arm", "momentum_of_the_inner_arm", "momentum_of_the_outer_arm")


class Planet(SimulatedSystem):
    """Around a centre of attraction, whose surroundings are excluded."""

    parameter_names = ("m", "k")
    parameter_ranges = ((0.8, 1.25), (0.8, 1.25))
    domain = Domain.box((2, 2, 2, 2), exclusions=(Exclusion(((1, 0, 0, 0), (0, 1, 0, 0)), (0, 0), 0.5),))
    horizon = 4.0

    def hamiltonian(self, x, parameters):
        q, p = x.chunk(2, dim=-1)
        m, k = parameters.unbind(-1)
        return p.square().sum(-1) / (2 * m) - k / q.norm(dim=-1)

    def sample_initial_states(self, parameters, seed, split="test"):
        return torch.tensor([[1.2, 0.3, -0.1, 0.8]], dtype=torch.float64).expand(len(parameters), -1)


class Rotors(SimulatedSystem):
    """Two free rotors with names and units that are long; the first one turns."""

    parameter_names = ("m",)
    parameter_ranges = ((0.8, 1.25),)
    domain = Domain.box(
        dict.fromkeys(LONG, (-math.pi, math.pi)),
        angles=LONG[:2],
        units=dict.fromkeys(LONG[2:], "kg m² / s"),
        time_unit="milliseconds",
        energy_unit="kg m² / s²",
    )
    horizon = 2000.0
    turns = True

    def hamiltonian(self, x, parameters):
        return x[..., 2:].square().sum(-1) / (2 * parameters[..., 0]) + x[..., 1].cos()

    def sample_initial_states(self, parameters, seed, split="test"):
        return torch.tensor([[4.0, 2.5, 1.0, 0.1]], dtype=torch.float64).expand(len(parameters), -1)


def ring(n: int) -> SimulatedSystem:
    """So many particles on a ring of springs, the middle one displaced."""

    class Ring(SimulatedSystem):
        parameter_names = ("m", "k")
        parameter_ranges = ((0.8, 1.25), (0.5, 1.0))
        domain = Domain.box([1.0] * n + [1.5] * n, lattice="ring")
        horizon = 10.0

        def hamiltonian(self, x, parameters):
            q, p = x.chunk(2, dim=-1)
            m, k = parameters.unbind(-1)
            return p.square().sum(-1) / (2 * m) + k * (q.roll(-1, -1) - q).square().sum(-1) / 2

        def sample_initial_states(self, parameters, seed, split="test"):
            bump = 0.8 * torch.exp(-((torch.arange(n, dtype=torch.float64) - n / 2) ** 2))
            return torch.cat([bump, torch.zeros_like(bump)]).expand(len(parameters), -1)

    return Ring()


def slightly_off(system: SimulatedSystem, parameters: torch.Tensor, error: float) -> AdaptedSystems:
    """The true law with parameters that are wrong by this part."""
    net = ParametricHamiltonian(system).double()
    return AdaptedSystems(net, {"physical": parameters * (1 + error)}, parameters.new_ones(len(parameters)))


def shown_of(system: SimulatedSystem, errors: dict[int, float] | None = None) -> Shown:
    """Predictions from K = 5 points after each number of steps, each with its error of parameters and orbit.

    Orbits are curves that nobody integrated.
    """
    parameters = system.sample_parameters(1, 0, "test")
    x = system.sample_states(parameters, 0, ("seen",), range(1), 5)
    seen = Points(x, system.field(x, parameters[:, None]))
    t = torch.linspace(0, system.horizon, 201, dtype=torch.float64)
    orbit = _curve(system, system.sample_initial_states(parameters, 0)[0], t)[:, None]
    test = TestSet(system, parameters, seen, x, seen.dxdt, t, orbit)
    results = []
    for steps, error in (errors or {0: 0.2, 1: 0.1, 5: 0.01}).items():
        size, diverged = torch.full((1,), error**2, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)
        measured = Errors(
            size, size, size, size, size, diverged, orbit * (1 + error * t[:, None, None] / system.horizon)
        )
        results.append(Result(5, steps, measured, slightly_off(system, parameters, error), 0.0, unknowns=3))
    return Shown.of(results, test, 0)


def _curve(system: SimulatedSystem, start: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """From this state: positions and momenta turn into each other, angles go twice around."""
    phase = 4 * math.pi * t / system.horizon
    q, p = start.chunk(2)
    curve = torch.cat([torch.outer(phase.cos(), q), torch.outer(phase.sin(), -q) + torch.outer(phase.cos(), p)], dim=-1)
    turns = torch.tensor([coordinate.turns for coordinate in system.domain.coordinates])
    return torch.where(turns, start + phase[:, None], curve)
