"""How many terms a family has, and what the head knows of them."""

import sys
from pathlib import Path

import pytest
import torch

from meta_hamiltonian.dynamics import hamiltonian_field
from meta_hamiltonian.evaluation.identify import identify
from meta_hamiltonian.learners import AdaptedSystems, Oracle
from meta_hamiltonian.models import ParametricHamiltonian
from meta_hamiltonian.systems import Domain, Duffing, HenonHeiles, Pendulum, SimulatedSystem, Spring

sys.path.append(str(Path(__file__).parents[1] / "inference"))
from observed import learner


def test_the_pendulum_has_three_terms_and_the_head_knows_them():
    found = identify(learner(), Pendulum(), 60)
    assert found.terms == 3
    assert set(found.r2) == {"1/(m l²)", "m l cos q0", "m l sin q0"}
    assert all(value > 0.999999 for value in found.r2.values())
    assert found.error < 1e-5
    assert found.singular_values[2] > 1e3 * found.singular_values[3]


def test_a_learner_that_knows_little_is_not_said_to_know_much():
    found = identify(learner("maml"), Pendulum(), 30)
    assert found.error > 1e-3
    assert found.terms <= 3
    assert min(found.r2.values()) < 0.99


@pytest.mark.parametrize("system", [Pendulum(), HenonHeiles()])
def test_the_true_law_is_identified_too(system):
    """Its numbers are the physical parameters, in which the Hamiltonian need not be linear."""
    found = identify(Oracle(ParametricHamiltonian(system)), system, 12)
    assert found.error < 1e-6
    assert found.terms == 3
    assert set(found.r2) == set(system.linear_parameters(torch.ones(1, 3)))


class Exact(Oracle):
    """A learner that knows the parameters, whatever it observes."""

    def adapt_tasks(self, points, steps):
        own = self.net.system.sample_parameters(len(points.x), 0, "identify")
        return [AdaptedSystems(self.net, {"physical": own}, torch.ones(len(own), dtype=torch.float64)) for _ in steps]


class Ring(SimulatedSystem):
    """A ring of 32 particles in quartic potentials, with quartic springs between them."""

    parameter_names = ("m", "a", "b", "c", "d")
    parameter_ranges = ((0.5, 2.0),) * 5
    domain = Domain.box([1.0] * 64, lattice="ring")

    def hamiltonian(self, x, parameters):
        raise NotImplementedError

    def field(self, x, parameters):
        q, p = x.chunk(2, -1)
        m, a, b, c, d = parameters.unsqueeze(-1).unbind(-2)
        step = q.roll(-1, -1) - q
        force = a * step + b * step**3
        return hamiltonian_field(torch.cat([force.roll(1, -1) - force + c * q + d * q**3, p / m], dim=-1))


@pytest.mark.parametrize(
    ("system", "terms"), [(Spring(), 3), (Pendulum(), 3), (Duffing(), 3), (HenonHeiles(), 3), (Ring(), 5)]
)
def test_an_exact_learner_has_as_many_terms_as_the_law(system, terms):
    found = identify(Exact(ParametricHamiltonian(system).double()), system, 40)
    assert found.terms == terms
    assert found.singular_values[terms - 1] > 1e-3
    assert found.singular_values[terms] < 1e-13
