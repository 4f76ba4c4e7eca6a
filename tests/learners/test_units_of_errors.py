"""No unit rules a training: errors are added up in units in which every coordinate counts."""

import pytest
import torch

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.numerics.directions import HeadRows, find_directions
from meta_hamiltonian.learners.numerics.linear_head import balanced, balanced_variance, head_problem
from meta_hamiltonian.models.natural import NaturalNetwork
from meta_hamiltonian.systems import SimulatedSystem
from meta_hamiltonian.training.levenberg_marquardt import VariableProjection

FINE = 1e4
"""So many of the small unit of length are one of the large."""


class Anharmonic(SimulatedSystem):
    """p²/2m + k q⁴/4, its length and its momentum in units that are so many times as small."""

    parameter_names = ("m", "k")
    parameter_ranges = ((0.5, 2.0), (0.5, 2.0))
    domain = Domain.box({"q": (-1, 1), "p": (-1, 1)})
    unit, unit_of_momentum = 1.0, 1.0

    def hamiltonian(self, x, parameters):
        q, p = x[..., 0] / self.unit, x[..., 1] / self.unit_of_momentum
        m, k = parameters.unbind(-1)
        return self.unit * self.unit_of_momentum * (p**2 / (2 * m) + k * q**4 / 4)


class AnharmonicInFineUnits(Anharmonic):
    domain = Domain.box({"q": (-FINE, FINE), "p": (-1, 1)})
    unit = FINE


class AnharmonicMolecule(Anharmonic):
    domain = Domain.box({"q": (-1e-10, 1e-10), "p": (-1e-24, 1e-24)})
    unit, unit_of_momentum = 1e-10, 1e-24


def problem(system, noise=1e-20):
    torch.manual_seed(0)
    learner = Ridge(NaturalNetwork(2, 8, system.domain), rank=3, noise=noise).double()
    learner.net.head.weight.data *= system.unit  # the mean head, in the unit of energy
    return learner, sample_episodes(system, 6, 20, 20, seed=0, dtype=torch.float64)


def test_errors_are_added_up_as_they_are_where_the_box_is_about_as_wide_in_every_coordinate():
    assert Domain.box({"q": (-6.3, 6.3), "p": (-20, 20)}).error_scales == (1.0, 1.0)
    assert Domain.box({"q": (-500, 500), "p": (-0.1, 0.1)}).error_scales == (1.0, 0.1 / 500)


def test_energies_have_a_unit_of_their_own_where_rates_would_be_far_from_those_of_the_box():
    assert Domain.box({"q": (-FINE, FINE), "p": (-1, 1)}).energy_scale == 1.0
    molecule = Domain.box({"q1": (0, 2e-10), "q2": (-3e-10, 3e-10), "p1": (-1e-24, 1e-24), "p2": (-4e-24, 4e-24)})
    assert molecule.energy_scale == pytest.approx(1e-10 * 1e-24 / 3e-10)


def test_variances_of_rates_are_added_up_in_these_units():
    """As the squares of rows are."""
    net = NaturalNetwork(2, 8, AnharmonicInFineUnits.domain).double()
    errors = torch.randn(5, 400, 2, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([FINE, 3.0])
    rows = balanced(net, errors.flatten(1)[..., None])
    variance = balanced_variance(net, errors.square().mean(1)).mean(-1)
    torch.testing.assert_close(variance, rows.square().mean((1, 2)))
    assert (variance > 4 * FINE**2).all()


def test_the_misfit_of_a_family_is_measured_in_these_units():
    sizes = []
    for kind in (Anharmonic, AnharmonicInFineUnits):
        learner, episodes = problem(kind())
        learner.calibrate(episodes)
        rows = balanced(learner.net, head_problem(learner.net, episodes.query)[0])
        sizes.append((rows @ learner.misfit_factor).square().mean().sqrt())
    assert sizes[0] > 0.01
    torch.testing.assert_close(sizes[1], FINE * sizes[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("other", [AnharmonicInFineUnits, AnharmonicMolecule])
def test_a_new_member_with_noise_is_predicted_as_well_in_any_unit(other):
    errors = []
    for kind in (Anharmonic, other):
        torch.manual_seed(0)
        system = kind()
        learner = Ridge(NaturalNetwork(2, 8, system.domain, degree=4), rank="auto", scale="task").double()
        learner.find_prior(sample_episodes(system, 12, 20, 20, seed=0, dtype=torch.float64))
        learner.calibrate(sample_episodes(system, 12, 20, 20, seed=2, dtype=torch.float64))
        seen = sample_episodes(system, 10, 6, 50, seed=1, dtype=torch.float64, noise=0.05)
        missed = torch.zeros(2, dtype=torch.float64)
        for i in range(len(seen)):
            support, query = seen.support[slice(i, i + 1)], seen.query[slice(i, i + 1)]
            found = learner.adapt(support.x[0], support.dxdt[0]).field(query.x[0])
            missed += (found - query.dxdt[0]).square().mean(0) / query.dxdt[0].square().mean(0)
        errors.append((missed / len(seen)).sqrt())
    assert (errors[0] < 0.1).all()
    torch.testing.assert_close(errors[1], errors[0], rtol=0.1, atol=0)


def test_a_second_order_step_is_the_same_in_any_unit():
    """All rates are FINE times as large there, in the units in which they are added up."""
    whole, fine = (
        VariableProjection(*problem(kind())).normal_equations() for kind in (Anharmonic, AnharmonicInFineUnits)
    )
    torch.testing.assert_close(fine.loss, FINE**2 * whole.loss, rtol=1e-6, atol=0)
    body = slice(0, 8)  # some of its weights, whose equations scale like the loss
    expected = FINE**2 * whole.matrix[body, body]
    torch.testing.assert_close(fine.matrix[body, body], expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())


def test_held_out_heads_are_compared_in_these_units():
    losses = []
    for kind in (Anharmonic, AnharmonicInFineUnits):
        learner, episodes = problem(kind())
        losses.append(find_directions(HeadRows.of(learner.net, episodes), 1e-20, 4).losses)
    torch.testing.assert_close(losses[1], FINE**2 * losses[0], rtol=1e-3, atol=0)
