"""The network with a dissipation: linear in its head for training, and never gaining energy in a prediction."""

import pytest
import torch

from meta_hamiltonian.dynamics.friction import FRICTION
from meta_hamiltonian.models import AdaptedSystems, DissipativeNetwork, FieldOf, HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import Damped, Driven, HenonHeiles, Pendulum, Resistance

KINDS = ["viscous", "quadratic", "dry", None]
FAMILIES = {"n=1": Pendulum(), "n=2": HenonHeiles(), "driven": Driven(Pendulum())}


@pytest.fixture(params=KINDS, ids=str)
def kind(request):
    return request.param


@pytest.fixture(params=FAMILIES)
def net(request, kind):
    torch.manual_seed(0)
    damped = 1 if request.param == "driven" else None
    return DissipativeNetwork(
        width=9, depth=2, domain=FAMILIES[request.param].domain, friction=kind, friction_width=5, damped=damped
    ).double()


def states(net, tasks=4, points=30):
    return net.domain.draw(0, ("x",), range(tasks), points)


def heads(net, tasks=4, size=1.0):
    """Weights of random signs: half of what they say of friction brings energy in."""
    generator = torch.Generator().manual_seed(1)
    return {"head.weight": size * torch.randn(tasks, *net.head.weight.shape, dtype=torch.float64, generator=generator)}


def power(net, parameters, x):
    """dH/dt along the predicted field."""
    field = net.field_with(parameters, x)
    gradient = torch.func.grad(lambda x: net.energy_with(parameters, x).sum())(x)
    return (gradient * field).sum(-1), (gradient * field).abs().sum(-1)


def test_the_field_that_is_trained_is_linear_in_the_head(net):
    x = states(net)
    features = net.field_features(x)
    torch.testing.assert_close(net.head(features)[..., 0], net.linear_field(x), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(net.linear_field(x[0]), net.linear_field(x)[0])


def test_many_tasks_with_their_own_weights_are_the_tasks_one_by_one(net):
    x = states(net)
    generator = torch.Generator().manual_seed(2)
    own = {
        name: value + torch.randn(4, *value.shape, dtype=torch.float64, generator=generator) / 10
        for name, value in net.named_parameters()
    }
    for kept in (own, {"head.weight": own["head.weight"]}):
        together = net.linear_field_with(kept, x)
        for task in range(4):
            alone = {f"net.{name}": value[task] for name, value in kept.items()}
            found = torch.func.functional_call(FieldOf(net), alone, (x[task],))
            torch.testing.assert_close(together[task], found, rtol=1e-10, atol=1e-12)


def test_the_field_of_the_energy_is_that_of_a_hamiltonian_network(net):
    """With c = 0."""
    x, head = states(net), heads(net)
    head["head.weight"][..., net.energy_width :] = 0
    n = net.domain.degrees_of_freedom
    gradient = torch.func.grad(lambda x: net.energy_with(head, x).sum())(x)
    expected = torch.cat([gradient[..., n:], -gradient[..., :n]], dim=-1)
    torch.testing.assert_close(net.field_with(head, x), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_no_head_makes_energy_rise(net, size):
    """However hostile: at random states, at rest, and where the momentum is next to nothing."""
    n, x = net.domain.degrees_of_freedom, states(net, points=300)
    x[:, :50, n:] = 0
    x[:, 50:100, n:] *= 1e-9
    head = heads(net, size=size)
    rate, scale = power(net, head, x)
    assert rate.isfinite().all()
    assert (rate <= 1e-12 * scale + 1e-14 * scale.max()).all()
    assert (rate < -1e-6 * scale).any(), "some of it is friction"


def test_along_a_predicted_orbit_energy_falls(net):
    tasks = 6
    systems = AdaptedSystems(net, heads(net, tasks), torch.ones(tasks, dtype=torch.float64))
    x0 = states(net, tasks, 1)[:, 0] / 4
    t = torch.linspace(0, 1.0, 11, dtype=torch.float64)
    orbits = systems.rollout(x0, t)
    energy = systems.energy(orbits.states.transpose(0, 1))
    assert (energy.diff(dim=1) <= 1e-6 * energy.abs().amax(1, keepdim=True)).all()
    assert (energy[:, -1] < energy[:, 0] - 1e-5).any()


def test_with_positive_coefficients_the_force_is_against_the_momentum(net):
    x, head = states(net), heads(net)
    head["head.weight"].abs_()
    n = net.domain.degrees_of_freedom
    p = x[..., n : n + net.damped] / net.state_box[n : n + net.damped]
    assert ((net.force_with(head, x) * p).sum(-1) <= 0).all()


@pytest.mark.parametrize("kind", ["viscous", "quadratic"])
def test_a_known_kind_is_exact_for_a_constant_mass(kind):
    net = DissipativeNetwork(width=3, depth=1, domain=Pendulum().domain, friction=kind).double()
    x = states(net)
    mass, d = 3.0, 0.7
    v, half = x[..., 1] / mass, net.state_box[1]
    c = d * (half / mass) ** {"viscous": 1, "quadratic": 2}[kind]
    force = net.force_with({"head.weight": torch.full((4, 1, 4), c.item(), dtype=torch.float64)}, x)
    torch.testing.assert_close(force[..., 0], -d * FRICTION[kind].force(v, 1.0))


def test_the_gradient_is_finite_at_rest():
    net = DissipativeNetwork(width=3, depth=1, domain=Pendulum().domain).double()
    x = torch.zeros(5, 2, dtype=torch.float64)
    net.field(x).square().sum().backward()
    assert all(value.grad is None or value.grad.isfinite().all() for value in net.parameters())


def test_a_family_that_loses_energy_changes_an_energy_only_network_and_no_other():
    settings = {"_target_": "x.Net", "width": 3}
    resistance = Damped(Pendulum(), "dry").resistance
    assert resistance == Resistance("dry", 0.05, 1)
    found = HamiltonianNetwork.settings_for_friction(settings, resistance)
    assert found == {
        "_target_": "meta_hamiltonian.models.DissipativeNetwork", "width": 3, "friction": "dry", "damped": 1
    }  # fmt: skip
    assert "friction" not in HamiltonianNetwork.settings_for_friction(settings, None)
    assert VectorFieldNetwork.settings_for_friction(settings, resistance) == settings
    assert DissipativeNetwork.settings_for_friction(settings, resistance) == settings | {"damped": 1}


def test_more_damped_degrees_of_freedom_than_there_are_are_refused():
    with pytest.raises(ValueError, match="damped=2 is not allowed: there are 1 degrees of freedom"):
        DissipativeNetwork(width=3, depth=1, domain=Pendulum().domain, damped=2)
