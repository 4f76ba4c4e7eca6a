"""Kinetic energies with mass matrices that depend on the positions, against p·M⁻¹p / 2 as it is written."""

import dataclasses

import pytest
import torch

from meta_hamiltonian.dynamics import Domain, Inertia, KineticEnergies
from meta_hamiltonian.dynamics.inertia import Entry, Factor
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.models.inputs import Inputs
from meta_hamiltonian.models.kinetics import Kinetics

ONE = Factor.one(2)
DOMAIN = Domain.box({"r": (0.2, 1.5), "b": (-2, 2), "p": (-3, 1), "pb": (-2, 2)}, angles=("b",))
BOTH = Domain.box({"a": (-2, 2), "b": (-2, 2), "pa": (-3, 1), "pb": (-2, 2)}, angles=("a", "b"))
OF_ANGLES = KineticEnergies(
    (Entry(0, 0, ONE), Entry(0, 1, Factor((0, 0), (1, -1))), Entry(1, 1, ONE)),
    (),
    (1.0, 0.0, 1.0),
    (0.6, 0.2, 0.4),
    ((0.05, 0.0), (0.01, 0.03), (-0.05, 0.02)),
)
OF_LENGTHS = KineticEnergies(
    (Entry(0, 0, ONE), Entry(1, 1, Factor((2, 0), (0, 0))), Entry(0, 1, Factor((1, 0), (0, 1)))),
    (),
    (1.0, 1.0, 0.0),
    (0.6, 0.5, 0.1),
    ((0.1, 0.0), (-0.1, 0.02), (0.02, 0.01)),
)


def spanned(domain, energies):
    return energies.spanned(domain.sobol(256), torch.tensor(domain.half_widths, dtype=torch.float64))


CASES = {"two angles": (BOTH, OF_ANGLES), "a length and an angle": (DOMAIN, OF_LENGTHS)}


def true_energy(inertia, x):
    q, p = x.chunk(2, dim=-1)
    return (p * inertia.velocities(q, p)).sum(-1) / 2


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def kinetics(case):
    domain, energies = case
    return Kinetics(spanned(domain, energies), domain).double()


@pytest.fixture
def x(case):
    return case[0].sobol(32)


def natural(domain, x):
    return Inputs(domain, "natural").double()(x)[:, 0]


def test_terms_are_sums_of_the_energies_of_mass_matrices(case, kinetics, x):
    domain, energies = case
    found = spanned(domain, energies)
    matrices = [Inertia(energies.entries, one) for one in found.matrices]
    each = torch.stack([true_energy(one, x) for one in matrices], dim=-1)
    torch.testing.assert_close(kinetics(natural(domain, x)), each @ kinetics.mixture, rtol=1e-9, atol=1e-9)
    exact = spanned(domain, dataclasses.replace(energies, error=1e-9))
    assert len(kinetics) == len(found.sums) < len(matrices)
    assert len(found.sums) < len(exact.sums)


def test_derivatives_are_those_of_the_terms(case, kinetics, x):
    u = natural(case[0], x)
    c = torch.randn(len(kinetics), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(kinetics.rates(u), torch.vmap(torch.func.jacrev(kinetics))(u))
    torch.testing.assert_close(kinetics.gradient(u, c), c @ kinetics.rates(u))
    hessian = torch.vmap(torch.func.hessian(lambda one: (kinetics(one) * c).sum()))(u)
    torch.testing.assert_close(kinetics.hessian(u, c), hessian)


def test_the_terms_span_the_kinetic_energy_of_any_member(case, kinetics):
    domain, energies = case
    x = domain.sobol(400)
    unit = torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, factor = (torch.tensor(one, dtype=torch.float64) for one in (energies.mean, energies.factor))
    terms = kinetics(natural(domain, x))
    for z in unit:
        energy = true_energy(energies.inertia(mean + factor @ z), x)
        left = energy - terms @ torch.linalg.lstsq(terms, energy[:, None]).solution[:, 0]
        assert left.norm() < 1e-3 * energy.norm()


def test_no_terms_are_made_of_a_matrix_that_is_not_positive_in_the_domain(case):
    domain, energies = case
    mixed = [5.0 if entry.i != entry.j else value for entry, value in zip(energies.entries, energies.mean, strict=True)]
    other = KineticEnergies(energies.entries, (), energies.fixed, tuple(mixed), energies.factor)
    assert spanned(domain, other) is None
    # A network does without them: its hidden units are multiplied by momenta as well.
    assert not NaturalNetwork(4, 9, dataclasses.replace(domain, kinetic=other)).has_kinetic_energies
    assert NaturalNetwork(4, 9, dataclasses.replace(domain, kinetic=spanned(domain, energies))).has_kinetic_energies


def test_a_network_has_the_terms_where_its_domain_says_so(case):
    """A constant mass matrix needs none: its energy is a sum of products of momenta."""
    domain, energies = case
    constant = KineticEnergies((Entry(0, 0, ONE), Entry(1, 1, ONE)), (), (1.0, 1.0), (0.4, 0.6), ((0.1,), (-0.1,)))
    counts = [
        NaturalNetwork(4, 9, dataclasses.replace(domain, kinetic=one)).head.in_features
        for one in (None, spanned(domain, constant), spanned(domain, energies))
    ]
    assert counts[0] == counts[1] < counts[2]
