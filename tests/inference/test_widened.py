"""Samples of a fit further from their mean, as the family's own recordings ask for."""

import torch

from meta_hamiltonian.dynamics import Forces
from meta_hamiltonian.inference.solution import Solution
from meta_hamiltonian.inference.widened import widened
from meta_hamiltonian.models import Adapted, AdaptedSystems, HamiltonianNetwork
from meta_hamiltonian.systems import Spring


def solution():
    generator = torch.Generator().manual_seed(0)
    net = HamiltonianNetwork(width=4, depth=1, domain=Spring().domain).double()
    heads = torch.randn(200, 1, 4, generator=generator).double()
    d = 0.05 + 0.02 * torch.randn(200, 1, generator=generator).double().abs()
    forces = Forces(("viscous",), d, 0.01, torch.randn(200, 1, 1, generator=generator).double())
    samples = AdaptedSystems(net, {"head.weight": heads}, torch.ones(200).double(), forces)
    ends = torch.randn(200, 2, generator=generator).double()
    return Solution(samples[0], samples, ends[0], ends, torch.ones(2).double(), sampled_forces=forces)


def test_samples_keep_their_mean_and_spread_by_the_factor():
    before = solution()
    after = widened(before, 1.5)
    assert before.samples is not None
    assert after.samples is not None
    assert before.samples.forces is not None
    assert after.samples.forces is not None
    assert isinstance(after.adapted, Adapted)
    for one, other in (
        (before.samples.parameters["head.weight"], after.samples.parameters["head.weight"]),
        (before.samples.forces.gains, after.samples.forces.gains),
        (before.end_samples, after.end_samples),
    ):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(other.mean(0), one.mean(0))
        torch.testing.assert_close(other.std(0), 1.5 * one.std(0))


def test_friction_takes_energy_out_however_wide_its_samples_are():
    after = widened(solution(), 50.0)
    assert after.sampled_forces is not None
    assert (after.sampled_forces.coefficients >= 0).all()
    assert (after.sampled_forces.coefficients == 0).any()


def test_a_factor_of_1_changes_nothing():
    before = solution()
    assert widened(before, 1.0) is before
    points = before._replace(samples=None, end_samples=None)
    assert widened(points, 2.0) is points, "without a posterior there is nothing to widen"
