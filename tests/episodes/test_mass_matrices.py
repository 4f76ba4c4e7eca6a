"""Mass matrices of simulated families, found from states and rates."""

import pytest
import torch

from meta_hamiltonian.dynamics.inertia import Entry, Factor
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.episodes.kinetics import with_kinetic_energies
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.observations import Derivatives
from meta_hamiltonian.observations.lagrange import inertia_of
from meta_hamiltonian.systems import Chain, Damped, DoublePendulum, Kepler, LotkaVolterra, Pendulum

ONE = Factor.one(2)


def test_a_double_pendulum_has_the_mass_matrix_of_its_formula():
    system = DoublePendulum()
    energies = with_kinetic_energies(system).kinetic
    assert energies is not None
    assert set(energies.entries) == {Entry(0, 0, ONE), Entry(0, 1, Factor((0, 0), (1, -1))), Entry(1, 1, ONE)}
    parameters = system.sample_parameters(3, 1, "test")
    x = system.sample_states(parameters, 1, ("test",), range(3), 20)
    for own, states in zip(parameters, x, strict=True):
        rates = system.field(states, own[None])
        found = inertia_of(energies, Derivatives(states.numpy(), rates.numpy()))
        q, p = states.chunk(2, dim=-1)
        torch.testing.assert_close(found.momenta(q, rates[:, :2]), p, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("point", [(0.0, 0.0, 0.0, 0.0), (0.5, -1.0, 2.0, 1.0)])
def test_a_single_state_tells_what_the_family_does(point):
    system = DoublePendulum()
    energies = with_kinetic_energies(system).kinetic
    assert energies is not None
    x = torch.tensor([point], dtype=torch.float64)
    rates = system.field(x, system.sample_parameters(1, 1, "test"))
    found = inertia_of(energies, Derivatives(x.numpy(), rates.numpy()))
    matrix = found.matrix(torch.zeros(1, 2, dtype=torch.float64))
    assert (torch.linalg.eigvalsh(matrix) > 0).all()
    torch.testing.assert_close(found.momenta(x[:, :2], rates[:, :2]), x[:, 2:], rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("system", [Pendulum(), Kepler(), LotkaVolterra(), Chain(8), Chain(32)])
def test_a_family_with_constant_masses_or_without_any_needs_none(system):
    assert with_kinetic_energies(system) == system.domain


def test_friction_makes_no_difference():
    plain, other = (with_kinetic_energies(one).kinetic for one in (DoublePendulum(), Damped(DoublePendulum())))
    assert plain is not None
    assert other is not None
    assert other.entries == plain.entries


def test_with_its_kinetic_energies_a_family_needs_no_training():
    """A learner without them is at 1e-6 after 600 steps."""
    system = DoublePendulum()
    torch.manual_seed(0)
    net = NaturalNetwork(domain=with_kinetic_energies(system), width=12).double()
    learner = Ridge(net, rank="auto", noise=1e-10, scale="task").double()
    known = sample_episodes(system, 60, 50, 50, 0, "val", torch.float64)
    learner.find_rank(rescaled(known), spare=3)
    learner.calibrate(known)
    new = sample_episodes(system, 9, 100, 100, 0, "test", torch.float64)
    errors = []
    for support, query in zip(
        zip(new.support.x, new.support.dxdt, strict=True), zip(new.query.x, new.query.dxdt, strict=True), strict=True
    ):
        missed = learner.adapt(*support).field(query[0]) - query[1]
        errors.append((missed.square().mean() / query[1].square().mean()).item())
    assert sorted(errors)[4] < 1e-9
