"""What a network is given of a state, and the network for a solved head, against automatic differentiation."""

import math

import pytest
import torch

from meta_hamiltonian.dynamics import Domain, Exclusion, KineticEnergies, autograd_field
from meta_hamiltonian.dynamics.inertia import Entry, Factor
from meta_hamiltonian.models import FieldNetwork, HamiltonianNetwork, NaturalNetwork, VectorFieldNetwork
from meta_hamiltonian.models.inputs import Inputs

AROUND = Exclusion(((1, 0, 0, 0), (0, 1, 0, 0)), (0.3, -0.2), 0.5)
DOMAINS = {
    "a logarithm of two": Domain.box(
        {"q1": (-3, 2), "q2": (-4, 4), "p1": (-1, 4), "p2": (-1, 1)}, ("q2",), None, ("q1", "p1")
    ),
    "two singularities": Domain.box(
        (3.0, 3.0, 2.0, 2.0), exclusions=(AROUND, Exclusion(((1, 0, 0, 0), (0, 1, 0, 0)), (-2, 1), 0.1))
    ),
    "a molecule": Domain.box({"q": (-3e-10, 2e-10), "p": (-1e-24, 4e-24)}),
    "lengths": Domain.box({"q": (-3, 2), "p": (-1, 4)}),
    "angles": Domain.box({"q1": (-4, 4), "q2": (-4, 4), "p1": (-2, 3), "p2": (-2, 2)}, angles=("q1", "q2")),
    "singularity": Domain.box((3.0, 3.0, 2.0, 2.0), exclusions=(AROUND,)),
    "a radius": Domain.box(
        {"r": (0.5, 2.5), "phi": (-4, 4), "p_r": (-1, 4), "p_phi": (-2, 3)},
        angles=("phi",),
        exclusions=(Exclusion.around_zero(0, 4, 0.3),),
    ),
    "two arms": Domain.box(
        {"q1": (-4, 4), "q2": (-4, 4), "p1": (-2, 3), "p2": (-2, 2)},
        angles=("q1", "q2"),
        kinetic=KineticEnergies(
            (
                Entry(0, 0, Factor.one(2)),
                Entry(0, 1, Factor((0, 0), (1, -1))),
                Entry(1, 1, Factor.one(2)),
            ),
            (),
            (1.0, 0.0, 1.0),
            (0.6, 0.2, 0.4),
            ((0.05, 0.0), (0.01, 0.03), (-0.05, 0.02)),
            matrices=((0.6, 0.2, 0.4), (0.65, 0.21, 0.35), (0.55, 0.22, 0.42)),
            sums=((1.0, 0.0, 0.0), (0.5, -0.7, 0.0), (0.0, 1.0, -0.9)),
        ),
    ),
    "ring": Domain.box((1.5,) * 10, lattice="ring"),
    "ring of angles": Domain.box(
        {f"{k}{i}": (-3.2, 3.2) for k in "qp" for i in range(4)}, ("q0", "q1", "q2", "q3"), lattice="ring"
    ),
    "four": Domain.box((1.0, 2.0, 3.0, 4.0) * 2),
}
NETWORKS = {
    "natural": lambda domain: NaturalNetwork(width=9, domain=domain),
    "with powers": lambda domain: NaturalNetwork(width=9, domain=domain, degree=4),
    "one layer": lambda domain: HamiltonianNetwork(width=7, depth=1, activation="sin", domain=domain, inputs="natural"),
    "two layers": lambda domain: HamiltonianNetwork(width=5, depth=2, domain=domain, inputs="natural"),
}


@pytest.fixture(params=DOMAINS)
def domain(request):
    return DOMAINS[request.param]


@pytest.fixture(params=NETWORKS)
def net(request, domain):
    torch.manual_seed(0)
    return NETWORKS[request.param](domain).double()


@pytest.fixture
def x(domain):
    return domain.draw(0, ("natural",), range(3), 4)


def test_the_field_is_the_symplectic_gradient_of_the_energy(net, x):
    expected = autograd_field(net, x)
    torch.testing.assert_close(net.field(x), expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(net.field_features(x) @ net.head.weight[0], expected, rtol=1e-11, atol=1e-13)


def test_every_task_has_its_own_head(net, x):
    heads = {"head.weight": torch.randn(3, 1, net.head.in_features, dtype=torch.float64)}
    fields, energies = net.field_with(heads, x), net.energy_with(heads, x)
    for i, head in enumerate(heads["head.weight"]):
        own = torch.func.functional_call(net, {"head.weight": head}, (x[i],))
        torch.testing.assert_close(energies[i], own, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(fields[i], net.field_features(x[i]) @ head[0], rtol=1e-10, atol=1e-12)


def test_rates_with_respect_to_the_body_are_those_of_automatic_differentiation(net, x):
    points = x.flatten(0, 1)
    columns = torch.randn(len(points), net.head.in_features, 1, dtype=torch.float64)
    found, expected = net.body_jacobian(points, columns), FieldNetwork.body_jacobian(net, points, columns)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_jacobian_of_the_field_is_that_of_automatic_differentiation(net, x):
    heads = {"head.weight": torch.randn(3, 1, net.head.in_features, dtype=torch.float64)}
    found = net.jacobian_with(heads, x)
    torch.testing.assert_close(found, FieldNetwork.jacobian_with(net, heads, x), rtol=1e-10, atol=1e-11)
    features, alone = net.features_and_jacobian(x[1], heads["head.weight"][1].mT)
    torch.testing.assert_close(features, net.field_features(x[1]))
    torch.testing.assert_close(alone, found[1])


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_whole_turn_changes_nothing(kind):
    domain = DOMAINS["angles"]
    net, x = NETWORKS[kind](domain).double(), domain.draw(0, ("turn",), range(1), 6)[0]
    turned = x + 2 * math.pi * torch.tensor([1.0, -2.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(net.field(turned), net.field(x), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_ring_has_the_symmetries_of_a_ring(kind):
    domain = DOMAINS["ring"]
    net, x = NETWORKS[kind](domain).double(), domain.draw(0, ("ring",), range(1), 6)[0]
    sites = x.unflatten(-1, (2, 5))
    torch.testing.assert_close(net(sites.roll(2, -1).flatten(-2)), net(x), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(net(sites.flip(-1).flatten(-2)), net(x), rtol=1e-11, atol=1e-12)


def test_a_body_on_a_ring_has_as_many_weights_for_many_particles_as_for_few():
    few, many = (NaturalNetwork(domain=Domain.box((1.0,) * 2 * n, lattice="ring")) for n in (4, 32))
    assert [p.shape for p in few.parameters()] == [p.shape for p in many.parameters()]


def test_inputs_lie_between_minus_one_and_one_and_keep_their_digits(domain):
    x = domain.draw(1, ("inputs",), range(1), 200)[0]
    u = Inputs(domain, "natural").double()(x)
    assert u.abs().max() <= 1 + 1e-12
    raw = Inputs(domain).double()
    half, centre = (torch.tensor(v, dtype=torch.float64) for v in (domain.half_widths, domain.centre))
    assert torch.equal(raw(x)[:, 0], (x - centre) / half)
    assert raw.scaled
    assert raw.windows == 1


def test_a_power_of_the_distance_is_an_exponential_of_its_input():
    domain = DOMAINS["singularity"]
    x = domain.draw(1, ("inputs",), range(1), 50)[0]
    s = Inputs(domain, "natural").double()(x)[:, 0, -1]
    r = AROUND.distance(x)
    slope = (r[1] / r[0]).log() / (s[1] - s[0])
    torch.testing.assert_close(r, r[0] * (slope * (s - s[0])).exp(), rtol=1e-10, atol=0)


def test_a_positive_quantity_is_given_beside_its_logarithm():
    domain = Domain.box({"q": (-3, 2), "p": (-1, 4)}, logarithms=("q",))
    x = domain.draw(1, ("inputs",), range(1), 50)[0]
    u = Inputs(domain, "natural").double()(x)[:, 0]
    positive = x[:, 0].exp()
    torch.testing.assert_close(u[:, 2] - u[0, 2], (positive - positive[0]) * 2 / (math.exp(2) - math.exp(-3)))


def test_a_network_without_physics_is_given_the_same():
    domain = DOMAINS["angles"]
    net, x = VectorFieldNetwork(domain=domain, inputs="natural").double(), domain.draw(0, ("mlp",), range(2), 3)
    torch.testing.assert_close(net.field_with({}, x), net.field(x))
    torch.testing.assert_close(net.field(x + x.new_tensor([2 * math.pi, 0, 0, 0])), net.field(x))


def test_other_inputs_are_refused():
    with pytest.raises(ValueError, match="inputs=polar is not allowed: give one of raw, natural, null"):
        HamiltonianNetwork(inputs="polar")
