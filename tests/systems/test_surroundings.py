"""Families with friction, and driven ones."""

import math

import pytest
import torch
from contract import DampedContract, SystemContract

from meta_hamiltonian.config import ConfigError
from meta_hamiltonian.systems import (
    Damped,
    Domain,
    Driven,
    Duffing,
    Exclusion,
    HenonHeiles,
    Pendulum,
    SimulatedSystem,
    Spring,
)


class TestViscousPendulum(DampedContract):
    @pytest.fixture
    def plain(self):
        return Pendulum()

    @pytest.fixture
    def system(self, plain):
        return Damped(plain, "viscous")


class TestQuadraticDuffing(DampedContract):
    @pytest.fixture
    def plain(self):
        return Duffing()

    @pytest.fixture
    def system(self, plain):
        return Damped(plain, "quadratic")


class TestDrySpring(DampedContract):
    @pytest.fixture
    def plain(self):
        return Spring()

    @pytest.fixture
    def system(self, plain):
        return Damped(plain, "dry")


class TestSeveralDegreesOfFreedomWithFriction(DampedContract):
    @pytest.fixture
    def plain(self):
        system = HenonHeiles()
        system.horizon = 2.0
        return system

    @pytest.fixture
    def system(self, plain):
        return Damped(plain, "quadratic")


class TestDrivenPendulum(SystemContract):
    @pytest.fixture
    def system(self):
        return Driven(Pendulum())


class TestDrivenSpringWithFriction(DampedContract):
    coefficient = 3

    @pytest.fixture
    def plain(self):
        return Driven(Spring())

    @pytest.fixture
    def system(self):
        return Driven(Damped(Spring(), "viscous"))


def test_a_damped_spring_moves_as_its_solution_says():
    """q = exp(−γt) (cos Ωt + (γ/Ω) sin Ωt) from q = 1 at rest, with γ = d / 2m and Ω² = k/m − γ²."""
    m, k, d = 2.0, 3.0, 0.4
    parameters = torch.tensor([[m, k, 0.0, d]], dtype=torch.float64)
    t = torch.linspace(0, 10, 41, dtype=torch.float64)
    orbit = Damped(Spring()).orbit(torch.tensor([[1.0, 0.0]]), parameters, t)[:, 0]
    gamma = d / (2 * m)
    omega = (k / m - gamma**2) ** 0.5
    expected = torch.exp(-gamma * t) * (torch.cos(omega * t) + gamma / omega * torch.sin(omega * t))
    torch.testing.assert_close(orbit[:, 0], expected, rtol=0, atol=1e-9)


def test_a_driven_spring_moves_as_its_solution_says():
    """q = A / (k − m ω²) (cos ωt − cos ω₀t) from rest, where the phase begins at 0."""
    m, k, amplitude, omega = 2.0, 3.0, 0.7, 0.5
    parameters = torch.tensor([[m, k, 0.0, amplitude, omega]], dtype=torch.float64)
    t = torch.linspace(0, 10, 41, dtype=torch.float64)
    orbit = Driven(Spring()).orbit(torch.zeros(1, 4), parameters, t)[:, 0]
    expected = amplitude / (k - m * omega**2) * (torch.cos(omega * t) - torch.cos((k / m) ** 0.5 * t))
    torch.testing.assert_close(orbit[:, 0], expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(orbit[:, 1], omega * t, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kind", "name"), [("viscous", "d/M"), ("quadratic", "d/M²"), ("dry", "d")])
def test_the_coefficient_of_friction_in_momenta_is_linear(kind, name):
    system = Damped(Pendulum(), kind)
    parameters = system.sample_parameters(5, 0)
    m, l, _, d = parameters.unbind(-1)
    power = {"d/M": 1, "d/M²": 2, "d": 0}[name]
    found = system.linear_parameters(parameters)
    torch.testing.assert_close(found[name], d / (m * l**2) ** power)
    assert len(found) == 4


class Relativistic(Spring):
    """Whose velocity is not proportional to its momentum."""

    def hamiltonian(self, x, parameters):
        return (1 + x[..., 1] ** 2).sqrt() + parameters[..., 1] * x[..., 0] ** 2 / 2

    field = SimulatedSystem.field


def test_where_the_mass_is_not_constant_there_is_no_such_coefficient():
    system = Damped(Relativistic())
    assert "d/M" not in system.linear_parameters(system.sample_parameters(3, 0))


def test_what_a_family_excludes_stays_excluded_where_it_is_driven():
    class Ring(Spring):
        domain = Domain.box((4.0, 6.0), exclusions=(Exclusion(((1, 0), (0, 1)), (1.0, 2.0), 0.5),))

    domain = Driven(Ring()).domain
    assert domain.names == ("q", "phi", "p", "I")
    x = torch.tensor([[1.0, 3.0, 2.0, 5.0], [2.0, 1.0, 1.0, 2.0]], dtype=torch.float64)
    assert domain.excluded(x).tolist() == [True, False]


def test_within_the_horizon_some_members_lose_most_of_their_energy_and_some_little():
    for kind in ("viscous", "quadratic", "dry"):
        system = Damped(Pendulum(), kind)
        parameters = system.sample_parameters(20, 0)
        x0 = system.sample_initial_states(parameters, 0)
        first, last = system.hamiltonian(system.orbit(x0, parameters, torch.tensor([0.0, system.horizon])), parameters)
        lost = 1 - last / first
        assert lost.max() > 0.8
        assert lost.min() < 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Damped(Spring(), low=-0.1), "low=-0.1 is not allowed"),
        (lambda: Damped(Spring(), low=0.5, high=0.2), r"high=0\.2 is not allowed with low=0\.5"),
        (lambda: Damped(Spring(), "sticky"), "friction=sticky .*viscous, quadratic, dry"),
        (lambda: Damped(Spring(), "dry", width=0.0), "width=0.0 is not allowed"),
        (lambda: Driven(Spring(), slowest=3.0, fastest=2.0), "fastest=2 is not allowed with slowest=3"),
        (lambda: Driven(Spring(), high=math.inf), "high=inf is not allowed"),
    ],
)
def test_a_range_that_is_none_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
