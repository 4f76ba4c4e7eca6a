"""Reading a Hamiltonian, where the adapted system is a known law."""

import numpy as np
import pytest
import torch

from meta_hamiltonian.inference.symbolic import library, read_symbolically
from meta_hamiltonian.learners import Adapted, AdaptedSystems
from meta_hamiltonian.models import ParametricHamiltonian
from meta_hamiltonian.systems import HenonHeiles, Pendulum

PARAMETERS = torch.tensor([[0.8, 1.1, 0.3]], dtype=torch.float64)  # m, l, q0


def system(spread=0.0, count=1):
    net = ParametricHamiltonian(Pendulum()).double().requires_grad_(False)
    noise = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return AdaptedSystems(net, {"physical": PARAMETERS * (1 + spread * noise)}, torch.ones(count, dtype=torch.float64))


def near():
    return torch.tensor(Pendulum().state_box) * (2 * torch.rand(30, 2, dtype=torch.float64) - 1)


def test_a_pendulum_is_read_as_a_pendulum():
    reading = read_symbolically(Adapted(system()), None, near())
    m, l, q0 = PARAMETERS[0].numpy()
    expected = {"p²": 1 / (2 * m * l**2), "sin q": -m * l * np.sin(q0), "cos q": -m * l * np.cos(q0)}
    assert dict(zip(reading.terms, reading.coefficients, strict=True)) == pytest.approx(expected, rel=1e-6)
    assert reading.error < 1e-8
    assert "p²" in str(reading)


def test_coefficients_are_as_uncertain_as_the_samples():
    reading = read_symbolically(Adapted(system()), system(0.001, 500), near())
    spread = dict(zip(reading.terms, reading.deviations, strict=True))
    m, l, _ = PARAMETERS[0]
    kinetic = 1 / (2 * m * l**2)
    assert spread["p²"] == pytest.approx(kinetic.item() * 0.001 * 5**0.5, rel=0.15)  # of m and of l²


def test_terms_are_named_for_each_degree_of_freedom():
    names = [name for name, _ in library(4)]
    assert len(set(names)) == len(names) == 2 * 9 + 3
    assert {"p1²", "cos q2", "cos(q1 − q2)"} <= set(names)


def test_a_law_in_other_terms_is_not_read_in_these():
    """Hénon and Heiles' cubic coupling is in no library of pairs and single coordinates."""
    family = HenonHeiles()
    net = ParametricHamiltonian(family).double().requires_grad_(False)
    own = torch.tensor([[1.0, 0.5, 1.0]], dtype=torch.float64)
    adapted = Adapted(AdaptedSystems(net, {"physical": own}, torch.ones(1, dtype=torch.float64)))
    reading = read_symbolically(adapted, None, family.domain.sobol(40))
    assert reading.error > 0.05
    assert str(reading).startswith("no sum of the terms that are tried comes nearer to the field than 0.")
