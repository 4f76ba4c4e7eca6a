"""What happens to a coefficient of friction that is hardly above 0 when the noise is found again."""

from types import SimpleNamespace

import torch

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.inference.orbit_fit import _Fits, _Fitted


def fitted(kinds, coefficients, noise=1.0):
    """A law with a head of one unknown; its shot has whatever else is asked of it."""
    theta = torch.tensor([0.5, *coefficients], dtype=torch.float64)
    net = SimpleNamespace(domain=Domain.box((1.0, 1.0)))
    law = SimpleNamespace(kinds=kinds, sizes=(1, len(kinds), 0), net=net)
    shot = SimpleNamespace(theta=theta, nodes=torch.zeros(1, 2), cost=1.0, design=torch.ones(1))
    return _Fitted(law, shot, torch.tensor([noise], dtype=torch.float64))


class Fits(_Fits):
    """Laws that were fitted, whose coefficients all fall by the same when they are fitted again."""

    def __init__(self, falls, *laws):
        self.falls, self.fits = falls, {one.law.kinds: one for one in laws}

    def _known(self, law):
        return None

    def _noise(self, shot):
        return torch.tensor([2.0], dtype=torch.float64)

    def _shot(self, law, theta, nodes, noise, known, robust):
        return fitted(law.kinds, (theta[1:] - self.falls).tolist()).shot


def test_it_is_left_out_so_that_no_friction_brings_energy_in():
    both, one = fitted(("viscous", "dry"), [0.3, 0.01]), fitted(("viscous",), [0.3])
    kept = Fits(0.1, both, one).refined(("viscous", "dry"))
    assert kept.law.kinds == ("viscous",)
    assert kept.shot.theta[1] > 0


def test_the_last_kind_goes_too():
    none = fitted((), [])
    assert Fits(0.1, fitted(("dry",), [0.01]), none).refined(("dry",)).law.kinds == ()


def test_one_that_stays_above_0_is_kept():
    assert Fits(0.1, fitted(("dry",), [0.5])).refined(("dry",)).law.kinds == ("dry",)
