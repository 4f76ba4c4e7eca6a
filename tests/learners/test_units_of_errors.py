"""No unit rules a training: errors are added up in units in which every coordinate counts."""

import torch

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.numerics.directions import HeadRows, find_directions
from meta_hamiltonian.models.natural import NaturalNetwork
from meta_hamiltonian.systems import SimulatedSystem
from meta_hamiltonian.training.levenberg_marquardt import VariableProjection

FINE = 1e4
"""So many of the small unit of length are one of the large."""


class Anharmonic(SimulatedSystem):
    """p²/2m + k q⁴/4, its length in a unit that is so many times as small."""

    parameter_names = ("m", "k")
    parameter_ranges = ((0.5, 2.0), (0.5, 2.0))
    domain = Domain.box({"q": (-1, 1), "p": (-1, 1)})
    unit = 1.0

    def hamiltonian(self, x, parameters):
        q, p = x.unbind(-1)
        m, k = parameters.unbind(-1)
        return self.unit * (p**2 / (2 * m) + k * (q / self.unit) ** 4 / 4)


class AnharmonicInFineUnits(Anharmonic):
    domain = Domain.box({"q": (-FINE, FINE), "p": (-1, 1)})
    unit = FINE


def problem(system, noise=1e-20):
    torch.manual_seed(0)
    learner = Ridge(NaturalNetwork(2, 8, system.domain), rank=3, noise=noise).double()
    learner.net.head.weight.data *= system.unit  # the mean head, in the unit of energy
    return learner, sample_episodes(system, 6, 20, 20, seed=0, dtype=torch.float64)


def test_errors_are_added_up_as_they_are_where_the_box_is_about_as_wide_in_every_coordinate():
    assert Domain.box({"q": (-6.3, 6.3), "p": (-20, 20)}).error_scales == (1.0, 1.0)
    assert Domain.box({"q": (-500, 500), "p": (-0.1, 0.1)}).error_scales == (1.0, 0.1 / 500)


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
