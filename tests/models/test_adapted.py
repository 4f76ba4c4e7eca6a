"""One adapted system: what it says of an orbit that ends, and angles that go round."""

import math
import warnings
from pathlib import Path

import pytest
import torch

from meta_hamiltonian import load
from meta_hamiltonian.models import HamiltonianNetwork, StoppedOrbitWarning
from meta_hamiltonian.models.adapted import Adapted, AdaptedSystems
from meta_hamiltonian.systems import Domain, Pendulum

SYSTEM = Pendulum()
DATA = Path(__file__).parents[1] / "data"
PARAMETERS = torch.tensor([[0.8, 1.1, 0.3]], dtype=torch.float64)


@pytest.fixture
def pendulum(adapted_to):
    return Adapted(adapted_to(SYSTEM, PARAMETERS))


def test_a_pendulum_that_goes_over_the_top_is_followed(pendulum):
    t = torch.linspace(0, 20, 201, dtype=torch.float64)
    x0 = torch.tensor([0.0, 6.0], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        orbit = pendulum.rollout(x0, t)
    assert orbit[-1, 0] > 10 * 2 * math.pi
    torch.testing.assert_close(orbit, SYSTEM.orbit(x0[None], PARAMETERS, t)[:, 0], rtol=0, atol=1e-5)
    energy = pendulum.energy(orbit)
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-8, atol=0)


def test_a_trained_network_is_asked_inside_its_box():
    """It knows nothing of periods: whole turns away it is asked at the same states."""
    learner = load(DATA / "ridge.ckpt")
    x = torch.rand(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 20.0])
    adapted = learner.adapt(x, SYSTEM.field(x, PARAMETERS))
    far = x + torch.tensor([6 * math.pi, 0.0], dtype=torch.float64)
    torch.testing.assert_close(adapted.field(far), adapted.field(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(adapted.energy(far), adapted.energy(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        learner.adapt(far, SYSTEM.field(x, PARAMETERS)).field(x), adapted.field(x), rtol=1e-6, atol=1e-9
    )
    over = adapted.rollout(torch.tensor([0.0, 6.0], dtype=torch.float64), torch.linspace(0, 20, 21).double())
    true = SYSTEM.orbit(torch.tensor([[0.0, 6.0]]).double(), PARAMETERS, torch.linspace(0, 20, 21).double())
    torch.testing.assert_close(over, true[:, 0], rtol=0, atol=1e-3)


def runaway(x, parameters):
    return torch.stack([torch.zeros_like(x[..., 0]), torch.full_like(x[..., 1], 4.0)], dim=-1)


def test_an_orbit_that_leaves_says_when_and_why(adapted_to):
    adapted = Adapted(adapted_to(SYSTEM, PARAMETERS, runaway))
    t = torch.linspace(0, 20, 21, dtype=torch.float64)
    with pytest.warns(StoppedOrbitWarning, match="ends at t = 10 of 20: it leaves the region"):
        orbit = adapted.rollout(torch.zeros(2, dtype=torch.float64), t)
    assert orbit.shape == (21, 2)
    torch.testing.assert_close(orbit[10:, 1], torch.full((11,), 40.0).double()), "it stays where it left"
    known = adapted.orbits(torch.zeros(1, 2, dtype=torch.float64), t)
    assert known.diverged.tolist() == [True]
    assert known.until.tolist() == [10.0]
    assert "leaves" in known.reasons[0]


def test_the_energy_of_many_degrees_of_freedom_has_its_minimum_without_a_grid_that_grows():
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=6, depth=1, domain=Domain.box([1.0] * 16)).double().requires_grad_(False)
    weights = {name: value[None] for name, value in net.named_parameters() if name.startswith("head")}
    adapted = Adapted(AdaptedSystems(net, weights, torch.ones(1, dtype=torch.float64)))
    x = net.domain.draw(0, ("a",), range(1), 2000)[0]
    assert adapted.energy(x).min() > -1e-9
