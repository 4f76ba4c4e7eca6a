"""Reading a Hamiltonian, where the adapted system is a known law."""

import dataclasses
import math

import pytest
import torch

from meta_hamiltonian.dynamics import hamiltonian_field
from meta_hamiltonian.dynamics.domain import Exclusion
from meta_hamiltonian.inference.symbolic import read_symbolically
from meta_hamiltonian.inference.terms import library
from meta_hamiltonian.learners import Adapted, AdaptedSystems
from meta_hamiltonian.models import ParametricHamiltonian
from meta_hamiltonian.systems import Domain, Duffing, Pendulum, SimulatedSystem, Spring


class Family(SimulatedSystem):
    """A law H(q, p, *parameters), of all positions and all momenta."""

    parameter_names, parameter_ranges = ("a",), ((0.5, 2.0),)

    def __init__(self, domain, law):
        self.domain, self.law = domain, law

    def hamiltonian(self, x, parameters):
        return self.law(*x.chunk(2, -1), *parameters.unbind(-1))

    def field(self, x, parameters):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.hamiltonian(x, parameters).sum(), x)
        return hamiltonian_field(gradient)


def squares(x):
    return x.square().sum(-1)


def lotka_volterra(q, p, a, b, c, d):
    return (a * p - b * p.exp() + c * q - d * q.exp())[..., 0]


def henon_heiles(q, p, m, k, l):
    q1, q2 = q.unbind(-1)
    return squares(p) / (2 * m) + k * squares(q) / 2 + l * (q1**2 * q2 - q2**3 / 3)


def kepler(q, p, m, k):
    return squares(p) / (2 * m) - k / (q - q.new_tensor(CENTRE)).norm(dim=-1)


def double_pendulum(q, p, m1, m2, l1, l2):
    (q1, q2), (p1, p2), difference = q.unbind(-1), p.unbind(-1), q[..., 0] - q[..., 1]
    squared = m2 * l2**2 * p1**2 + (m1 + m2) * l1**2 * p2**2 - 2 * m2 * l1 * l2 * p1 * p2 * difference.cos()
    kinetic = squared / (2 * m2 * l1**2 * l2**2 * (m1 + m2 * difference.sin() ** 2))
    return kinetic - (m1 + m2) * l1 * q1.cos() - m2 * l2 * q2.cos()


def ring(q, p, m, a, b, c, d):
    step = q.roll(-1, -1) - q
    on_site = c * squares(q) / 2 + d * squares(q**2) / 4
    return squares(p) / (2 * m) + a * squares(step) / 2 + b * squares(step**2) / 4 + on_site


def two_bodies(q, p, m1, m2):
    distance = (q[..., :2] - q[..., 2:]).norm(dim=-1)
    return squares(p[..., :2]) / (2 * m1) + squares(p[..., 2:]) / (2 * m2) - m1 * m2 / distance


def charge_in_a_magnetic_field(q, p, m, b):
    (q1, q2), (p1, p2) = q.unbind(-1), p.unbind(-1)
    return ((p1 + b * q2 / 2) ** 2 + (p2 - b * q1 / 2) ** 2) / (2 * m)


def toda_chain(q, p):
    return squares(p) / 2 + (q[..., :-1] - q[..., 1:]).exp().sum(-1)


def toda_ring(q, p):
    return squares(p) / 2 + (q - q.roll(-1, -1)).exp().sum(-1)


def coupled_pendulums(q, p, m, k):
    return squares(p) / (2 * m) - m * q.cos().sum(-1) + k * (q[..., 0] - q[..., 1]) ** 2 / 2


def elastic_pendulum(q, p, m, k, l):
    (r, angle), (pr, momentum) = q.unbind(-1), p.unbind(-1)
    return pr**2 / (2 * m) + momentum**2 / (2 * m * r**2) + k * (r - l) ** 2 / 2 - m * r * angle.cos()


CENTRE = (0.2, -0.1)
PLANE = ((1, 0, 0, 0), (0, 1, 0, 0))
APART = ((1, 0, -1, 0, 0, 0, 0, 0), (0, 1, 0, -1, 0, 0, 0, 0))
RING = Domain.box([1.0] * 16, lattice="ring")
LONG_RING = Domain.box([1.0] * 64, lattice="ring")
POLAR = Domain.box({"r": (0.5, 2), "phi": (-1.5, 1.5), "pr": (-2, 2), "pphi": (-2, 2)}, angles=["phi"])
KEPLER = Family(Domain.box((2, 2, 1.5, 1.5), exclusions=(Exclusion(PLANE, CENTRE, 0.4),)), kepler)
OF_RING = {
    "Σ p_i²": 0.5 / 0.8,
    "Σ (q_{i+1} − q_i)²": 0.3,
    "Σ (q_{i+1} − q_i)⁴": 0.175,
    "Σ q_i²": 0.25,
    "Σ q_i⁴": 0.225,
}
LAWS = {
    "spring": (Spring(), (0.8, 1.1, 0.3), {"p²": 0.5 / 0.8, "q": -0.33, "q²": 0.55}),
    "pendulum": (
        Pendulum(),
        (0.8, 1.1, 0.3),
        {"p²": 0.5 / (0.8 * 1.1**2), "sin q": -0.88 * math.sin(0.3), "cos q": -0.88 * math.cos(0.3)},
    ),
    "Duffing": (Duffing(), (0.8, -1.1, 0.9), {"p²": 0.5 / 0.8, "q²": -0.55, "q⁴": 0.225}),
    "Lotka-Volterra": (
        Family(Domain.box((1.5, 1.5)), lotka_volterra),
        (0.7, 0.6, 0.8, 0.9),
        {"p": 0.7, "exp(p)": -0.6, "q": 0.8, "exp(q)": -0.9},
    ),
    "Kepler": (KEPLER, (0.8, 1.1), {"p1²": 0.5 / 0.8, "p2²": 0.5 / 0.8, "1/|q − (0.2, −0.1)|": -1.1}),
    "Hénon-Heiles": (
        Family(Domain.box([1.0] * 4), henon_heiles),
        (0.8, 1.1, 0.9),
        {"p1²": 0.5 / 0.8, "p2²": 0.5 / 0.8, "q1²": 0.55, "q2²": 0.55, "q1² q2": 0.9, "q2³": -0.3},
    ),
    "ring of 8": (Family(RING, ring), (0.8, 0.6, 0.7, 0.5, 0.9), OF_RING),
    "ring of 32": (Family(LONG_RING, ring), (0.8, 0.6, 0.7, 0.5, 0.9), OF_RING),
    "two bodies": (
        Family(Domain.box([2.0] * 8, exclusions=(Exclusion(APART, (0, 0), 0.5),)), two_bodies),
        (0.8, 1.1),
        {
            **{"p1²": 0.5 / 0.8, "p2²": 0.5 / 0.8, "p3²": 0.5 / 1.1, "p4²": 0.5 / 1.1},
            "1/|(q1 − q3, q2 − q4)|": -0.88,
        },
    ),
    "charge in a magnetic field": (
        Family(Domain.box([2.0] * 4), charge_in_a_magnetic_field),
        (0.8, 0.6),
        {
            **{"p1²": 0.5 / 0.8, "p2²": 0.5 / 0.8, "q1²": 0.045 / 0.8, "q2²": 0.045 / 0.8},
            **{"q2 p1": 0.3 / 0.8, "q1 p2": -0.3 / 0.8},
        },
    ),
    "Toda chain": (
        Family(Domain.box([1.5] * 6), toda_chain),
        (),
        {"p1²": 0.5, "p2²": 0.5, "p3²": 0.5, "exp(q1 − q2)": 1.0, "exp(q2 − q3)": 1.0},
    ),
    "Toda ring": (Family(RING, toda_ring), (), {"Σ p_i²": 0.5, "Σ exp(q_i − q_{i+1})": 1.0}),
    "coupled pendulums": (
        Family(Domain.box((2.0, 2.0, 2.0, 2.0), angles=("q1", "q2")), coupled_pendulums),
        (0.8, 1.1),
        {"p1²": 0.5 / 0.8, "p2²": 0.5 / 0.8, "cos q1": -0.8, "cos q2": -0.8, "(q1 − q2)²": 0.55},
    ),
    "elastic pendulum": (
        Family(POLAR, elastic_pendulum),
        (0.8, 5.0, 1.1),
        {"pr²": 0.5 / 0.8, "pphi²/r²": 0.5 / 0.8, "r²": 2.5, "r": -5.5, "r cos phi": -0.8},
    ),
}


class Perturbed(ParametricHamiltonian):
    """A law, and besides it a smooth field of this part of its size that no formula is known of."""

    part = 1e-4

    def field_with(self, parameters, x):
        field, half = super().field_with(parameters, x), x.new_tensor(self.domain.half_widths)
        generator = torch.Generator().manual_seed(0)
        waves, phases = torch.randn(x.shape[-1], 20, generator=generator), 6 * torch.rand(20, generator=generator)
        other = (torch.sin(x / half @ waves.to(x) + phases) @ waves.to(x).mT) / half.flip(-1)
        return field + self.part * other * field.square().mean().sqrt() / other.square().mean().sqrt()


def adapted(system, parameters, network=ParametricHamiltonian):
    net = network(system).double().requires_grad_(False)
    own = torch.tensor([parameters], dtype=torch.float64).reshape(1, -1)
    return Adapted(AdaptedSystems(net, {"physical": own}, torch.ones(1, dtype=torch.float64)))


@pytest.mark.parametrize("name", LAWS)
def test_a_law_is_read_as_it_is_written(name):
    system, parameters, expected = LAWS[name]
    near = system.domain.sobol(40)
    reading = read_symbolically(adapted(system, parameters), None, near)
    assert dict(zip(reading.terms, reading.coefficients, strict=True)) == pytest.approx(expected, rel=1e-6)
    assert reading.error < 1e-8
    assert str(reading).startswith("H = ")

    reading = read_symbolically(adapted(system, parameters, Perturbed), None, near)
    assert dict(zip(reading.terms, reading.coefficients, strict=True)) == pytest.approx(expected, rel=0.01)
    assert 1e-6 < reading.error < 0.005


@pytest.mark.parametrize("network", [ParametricHamiltonian, Perturbed])
def test_a_force_has_its_centre_anywhere_in_what_the_domain_excludes(network):
    around = Domain.box((2, 2, 1.5, 1.5), exclusions=(Exclusion(PLANE, (0, 0), 0.6),))
    reading = read_symbolically(adapted(Family(around, kepler), (0.8, 1.1), network), None, around.sobol(40))
    expected = LAWS["Kepler"][2]
    close = 1e-6 if network is ParametricHamiltonian else 0.01
    assert dict(zip(reading.terms, reading.coefficients, strict=True)) == pytest.approx(expected, rel=close)


def random_field(q, p):
    x = torch.cat([q, p], dim=-1)
    waves = torch.randn(x.shape[-1], 20, generator=torch.Generator().manual_seed(0)).to(x)
    return torch.sin(x @ waves).sum(-1)


@pytest.mark.parametrize(
    ("system", "parameters"),
    [
        (Family(Domain.box((3.0, 3.0, 4.0, 4.0), angles=("q1", "q2")), double_pendulum), (0.7, 0.5, 0.9, 0.6)),
        (Family(Domain.box((1.0, 1.0)), random_field), ()),
        (Family(Domain.box([1.0] * 8), random_field), ()),
        (Family(RING, random_field), ()),
    ],
)
def test_a_law_in_other_terms_is_refused_in_words(system, parameters):
    reading = read_symbolically(adapted(system, parameters), None, system.domain.sobol(40))
    assert not reading.terms
    assert reading.error > 0.05
    assert "\n" not in str(reading)
    assert str(reading).startswith("H cannot be read in simple terms: no sum of up to ")


def pendulums(spread, count=500):
    """Systems that a posterior might consist of."""
    net = ParametricHamiltonian(Pendulum()).double().requires_grad_(False)
    noise = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = torch.tensor([0.8, 1.1, 0.0], dtype=torch.float64) + spread * noise
    return AdaptedSystems(net, {"physical": own}, torch.ones(count, dtype=torch.float64))


def swing(amplitude):
    unit = torch.rand(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return amplitude * (2 * unit - 1)


PENDULUM = adapted(Pendulum(), (0.8, 1.1, 0.0))


def test_coefficients_are_as_uncertain_as_the_samples():
    reading = read_symbolically(PENDULUM, pendulums(0.001), swing(3.0))
    spread = dict(zip(reading.terms, reading.deviations, strict=True))
    kinetic = 0.5 / (0.8 * 1.1**2)
    assert spread["p²"] == pytest.approx(kinetic * 0.001 * math.hypot(1 / 0.8, 2 / 1.1), rel=0.15)  # of m and of l²
    assert " (± 0.001) p²" in str(reading)
    assert "of the field, itself known to 0.0" in str(reading)


def test_terms_that_the_observations_do_not_tell_apart_are_named():
    """In a small swing a pendulum is a spring."""
    small = read_symbolically(PENDULUM, pendulums(0.01), swing(0.3))
    assert small.terms == ["p²", "cos q"]
    assert ("cos q", "q²") in small.alternatives
    assert "; q² would do as well as cos q" in str(small)
    assert not read_symbolically(PENDULUM, pendulums(0.01), swing(3.0)).alternatives


def test_a_field_that_the_observations_leave_open_is_not_read():
    reading = read_symbolically(PENDULUM, pendulums(0.3), swing(3.0))
    assert not reading.terms
    assert str(reading).endswith("% of the field uncertain")


def test_states_beyond_the_domain_do_not_count():
    """A law that holds in the domain alone, observed in it, beyond it, and in what it excludes."""

    def only_there(q, p, m, k):
        inside = ~KEPLER.domain.outside(torch.cat([q, p], dim=-1))
        return torch.where(inside, kepler(q, p, m, k), 100 * squares(q**2))

    system = Family(KEPLER.domain, only_there)
    near = torch.cat([KEPLER.domain.sobol(40), torch.tensor([[0.2, -0.1, 0, 0], [9, 9, 9, 9.0]])])
    reading = read_symbolically(adapted(system, (0.8, 1.1)), None, near)
    expected = LAWS["Kepler"][2]
    assert dict(zip(reading.terms, reading.coefficients, strict=True)) == pytest.approx(expected, rel=1e-6)

    nowhere = read_symbolically(adapted(system, (0.8, 1.1)), None, near[-2:])
    assert str(nowhere) == "H cannot be read in simple terms: no observed state lies in the domain"


@pytest.mark.parametrize(("factor", "what"), [(0.0, "vanishes"), (math.nan, "is not finite")])
def test_where_there_is_no_field_there_is_no_formula(factor, what):
    system = Family(Domain.box((1.0, 1.0)), lambda q, p, a: a * (q * p)[..., 0])
    reading = read_symbolically(adapted(system, (factor,)), None, system.domain.sobol(40))
    assert str(reading) == f"H cannot be read in simple terms: the learned field {what} near the observations"


def test_one_state_has_a_neighbourhood():
    reading = read_symbolically(adapted(Spring(), (0.8, 1.1, 0.3)), None, torch.tensor([[0.5, 0.2]]))
    assert set(reading.terms) == {"p²", "q", "q²"}


def test_a_conserved_momentum_is_no_noise_to_be_explained():
    free = Family(Domain.box((1.0, 1.0)), lambda q, p, m: squares(p) / (2 * m))
    reading = read_symbolically(adapted(free, (0.5,), Perturbed), None, free.domain.sobol(40))
    assert str(reading).startswith("H = 1 p² + const")


def test_coefficients_do_not_cancel():
    """In a narrow range all terms look alike, and a field that is known to a part of 1e-4 does not tell them apart."""
    near = torch.tensor([1.0, 0.0]) + torch.tensor([0.01, 0.3]) * torch.randn(40, 2, dtype=torch.float64)
    reading = read_symbolically(adapted(Duffing(), (0.8, -1.1, 0.9), Perturbed), None, near)
    assert reading.terms
    assert max(map(abs, reading.coefficients)) < 10


def test_every_kind_of_coordinate_has_its_terms():
    def names(domain):
        found = [term.name for term in library(domain)]
        assert len(set(found)) == len(found)
        return set(found)

    assert {"p1⁴", "q2³", "exp(−q1)", "q1 q2", "q1² q2²", "q1 p2", "(q1 − q2)⁴"} <= names(Domain.box([1.0] * 4))
    assert "q1 q2 q3" in names(Domain.box([1.0] * 6))
    angles = names(Domain.box([1.0] * 4, angles=("q1", "q2")))
    assert {"sin q1", "cos 2q2", "cos(q1 − q2)", "sin(q1 + q2)"} <= angles
    assert not {"exp(q1)", "q1 p1", "q1 q2"} & angles
    assert {"1/r", "log r", "1/r⁶", "r sin phi", "pphi²/r²"} <= names(POLAR)
    away = dataclasses.replace(POLAR, exclusions=(Exclusion.around_zero(0, 4, POLAR.coordinates[0].low / 2),))
    assert names(away) == names(POLAR), "1/|r| is 1/r"
    excluded = (Exclusion(((1, -1, 0, 0),), (-0.5,), 0.1), Exclusion(PLANE, (0, 0), 0.1))
    distances = names(Domain.box([1.0] * 4, exclusions=excluded))
    assert {"1/|q1 − q2 + 0.5|", "log |q|", "1/|q|¹²", "|q|²"} <= distances
    turning = names(Domain.box([4.0, 4.0, 1, 1], angles=("q1", "q2"), lattice="ring"))
    assert {"Σ cos q_i", "Σ cos(q_{i+1} − q_i)", "Σ p_{i+1} p_i"} <= turning
    assert len(names(Domain.box([1.0] * 64))) < 1000
    assert len(names(Domain.box([1.0] * 64, lattice="ring"))) < 40
