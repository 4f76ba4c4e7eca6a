"""Mass matrices: momenta, velocities and their rates along a motion, and how they are kept."""

import json

import numpy as np
import pytest
import torch

from meta_hamiltonian.dynamics import Domain, Inertia, KineticEnergies
from meta_hamiltonian.dynamics.inertia import Entry, Factor, Factors

ONE, BETWEEN, SQUARE = Factor.one(2), Factor((0, 0), (1, -1)), Factor((2, 0), (0, 0))
MIXED = Factor((1, 0), (0, 2), True)
ARM = Inertia((Entry(0, 0, ONE), Entry(0, 1, BETWEEN), Entry(1, 1, ONE), Entry(1, 1, SQUARE)), (2.0, 0.5, 1.5, 0.3))


def motion(t):
    """Positions, velocities and accelerations of a smooth motion."""
    q = torch.stack([t.sin(), 0.7 * (2 * t).cos()], dim=-1)
    v = torch.stack([t.cos(), -1.4 * (2 * t).sin()], dim=-1)
    a = torch.stack([-t.sin(), -2.8 * (2 * t).cos()], dim=-1)
    return q, v, a


def test_factors_and_their_slopes():
    factors = Factors([ONE, BETWEEN, SQUARE, MIXED, Factor((-1, 1), (0, 0))])
    q = torch.tensor([[0.7, -1.2], [1.3, 0.4]], dtype=torch.float64)
    x, y = q.unbind(-1)
    expected = torch.stack([torch.ones_like(x), (x - y).cos(), x**2, x * (2 * y).sin(), y / x], dim=-1)
    torch.testing.assert_close(factors(q), expected)
    torch.testing.assert_close(factors.gradient(q), torch.vmap(torch.func.jacrev(factors))(q))


def test_slopes_are_finite_where_a_position_is_zero():
    factors = Factors([SQUARE, Factor((1, 1), (0, 0)), BETWEEN])
    zero = torch.zeros(1, 2, dtype=torch.float64)
    torch.testing.assert_close(factors.gradient(zero), torch.vmap(torch.func.jacfwd(factors))(zero))


def test_momenta_and_velocities_belong_to_each_other():
    q, v, a = motion(torch.linspace(0, 3, 7, dtype=torch.float64))
    p = ARM.momenta(q, v)
    x, y = q.unbind(-1)
    torch.testing.assert_close(p[:, 0], 2 * v[:, 0] + 0.5 * (x - y).cos() * v[:, 1])
    torch.testing.assert_close(p[:, 1], 0.5 * (x - y).cos() * v[:, 0] + (1.5 + 0.3 * x**2) * v[:, 1])
    torch.testing.assert_close(ARM.velocities(q, p), v)
    dp = ARM.momentum_rates(q, v, a)
    torch.testing.assert_close(ARM.accelerations(q, v, dp), a)


def test_rates_of_momenta_are_their_time_derivatives():
    t = torch.linspace(0, 3, 7, dtype=torch.float64)
    _, rates = torch.func.jvp(lambda t: ARM.momenta(*motion(t)[:2]), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(ARM.momentum_rates(*motion(t)), rates)


def test_errors_of_momenta_are_those_of_independent_velocities():
    q = torch.tensor([[0.3, 0.9]], dtype=torch.float64)
    error = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    unit = torch.randn(200000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = ARM.momenta(q.expand(len(unit), 2), unit * error).std(0)
    torch.testing.assert_close(ARM.errors(q, error)[0], drawn, rtol=0.02, atol=0)


@pytest.mark.parametrize("masses", [3.0, (3.0, 3.0), [3.0, 3.0]])
def test_numbers_are_a_constant_inertia(masses):
    inertia = Inertia.of(masses, 2)
    v = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    assert inertia.constant
    torch.testing.assert_close(inertia.momenta(torch.zeros_like(v), v), 3 * v)
    assert Inertia.of(inertia, 2) is inertia


def test_words_say_each_place():
    assert ARM.words(("x", "y")) == "M11 = 2, M12 = 0.5 cos(x - y), M22 = 1.5 + 0.3 x^2"
    negative = Inertia((Entry(0, 0, ONE), Entry(0, 0, MIXED)), (-1.0, -0.25))
    assert negative.words(("x", "y")) == "M11 = -1 - 0.25 x sin(2 y)"
    assert Inertia.of(2.0, 1).words(("q",)) == "M = 2"


def test_a_domain_keeps_the_mass_matrices_of_its_family():
    """As values that any checkpoint holds."""
    energies = KineticEnergies(
        ARM.entries, (SQUARE, MIXED), (1.0, 0.0, 1.0, 0.2), ARM.values, ((0.1,),) * 4, 0.01, (ARM.values,)
    )
    domain = Domain.box((1.0, 1.0, 1.0, 1.0), kinetic=energies)
    again = Domain.from_settings(json.loads(json.dumps(domain.settings())))
    assert again == domain
    assert again.kinetic == energies
    assert hash(again) == hash(domain)
    np.testing.assert_allclose(energies.typical.values, ARM.values)
