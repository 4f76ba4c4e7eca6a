"""Features that depend on numbers of each member beside the state."""

import dataclasses
import math

import pytest
import torch

from meta_hamiltonian.config import ConfigError
from meta_hamiltonian.dynamics import Domain, Singularity
from meta_hamiltonian.models import AdaptedSystems, DissipativeNetwork, HamiltonianNetwork, NaturalNetwork
from meta_hamiltonian.models.network import FieldNetwork
from meta_hamiltonian.systems import Chain, DoublePendulum, Kepler, Pendulum

NETWORKS = {
    "a place": lambda: NaturalNetwork(width=12, domain=Kepler(centre=1.0).domain),
    "angles": lambda: NaturalNetwork(width=12, domain=DoublePendulum().domain),
    "a ring": lambda: NaturalNetwork(width=12, domain=Chain(3).domain),
    "raw": lambda: HamiltonianNetwork(2, 8, 1, "sin", domain=Pendulum().domain),
    "three layers": lambda: HamiltonianNetwork(2, 6, 3, "tanh", domain=Pendulum().domain, inputs="natural"),
}


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    """That of a network."""
    return request.param


@pytest.fixture
def net(name: str) -> FieldNetwork:
    """A network with two latents."""
    torch.manual_seed(0)
    net = NETWORKS[name]().double().requires_grad_(False)
    net.set_latents(2)
    return net


def case(net: FieldNetwork) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """States of three tasks, and their heads and latents."""
    generator = torch.Generator().manual_seed(1)
    x = net.domain.sobol(12).unflatten(0, (3, 4))
    head = torch.randn(3, 1, net.head.in_features, dtype=torch.float64, generator=generator)
    z = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    return x, {"head.weight": head, "latents": z}


def test_field_is_that_of_the_energy_of_each_member(net: FieldNetwork) -> None:
    x, parameters = case(net)
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(net.energy_with(parameters, x).sum(), x)
    dq, dp = gradient.chunk(2, dim=-1)
    torch.testing.assert_close(net.field_with(parameters, x), torch.cat([dp, -dq], dim=-1), rtol=1e-9, atol=1e-11)
    features = net.field_features(net.beside(x, parameters))
    from_features = (features @ parameters["head.weight"].mT.unsqueeze(1))[..., 0]
    torch.testing.assert_close(net.field_with(parameters, x), from_features, rtol=1e-9, atol=1e-11)


def test_derivatives_are_those_of_automatic_differentiation(net: FieldNetwork) -> None:
    x, parameters = case(net)
    by_rule = FieldNetwork.latent_slopes(net, parameters, x)
    torch.testing.assert_close(net.latent_slopes(parameters, x), by_rule, rtol=1e-8, atol=1e-10)
    by_rule = FieldNetwork.jacobian_with(net, parameters, x)
    torch.testing.assert_close(net.jacobian_with(parameters, x), by_rule, rtol=1e-8, atol=1e-10)
    inputs = net.beside(x, parameters).flatten(0, 1)
    columns = parameters["head.weight"].mT.repeat_interleave(4, dim=0)
    net.requires_grad_()
    names = [name for name, _ in net.named_parameters() if not name.startswith("head.")]

    prefixed = [f"net.{name}" for name in names]

    def field(*own: torch.Tensor) -> torch.Tensor:
        rows = torch.func.functional_call(Features(net), dict(zip(prefixed, own, strict=True)), (inputs,))
        return (rows @ columns)[..., 0]

    own = tuple(dict(net.named_parameters())[name].detach() for name in names)
    parts = torch.autograd.functional.jacobian(field, own)
    by_rule = torch.cat([part.flatten(2) for part in parts], dim=-1)
    torch.testing.assert_close(net.body_jacobian(inputs, columns), by_rule, rtol=1e-8, atol=1e-10)


class Features(torch.nn.Module):
    """`field_features` as a module's call."""

    def __init__(self, net: FieldNetwork):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A(x)."""
        return self.net.field_features(x)


def test_the_first_latents_are_the_place_of_a_singularity() -> None:
    domain = Kepler(centre=1.0).domain
    net = NaturalNetwork(width=12, domain=domain).double().requires_grad_(False)
    net.set_latents(2)
    z = torch.tensor([0.5, -1.0], dtype=torch.float64)
    place = z / math.sqrt(3)
    away = torch.tensor([[1.2, 0.4]], dtype=torch.float64)
    x = torch.cat([away + place, torch.zeros(1, 2, dtype=torch.float64)], dim=-1)
    distances = []
    for turn in (0.0, 1.0, 2.0):
        rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]).double()
        turned = torch.cat([away @ rotation.mT + place, x[:, 2:]], dim=-1)
        distances.append(net.inputs(torch.cat([turned, z[None]], dim=-1))[0, 0, -3])
    torch.testing.assert_close(torch.stack(distances), distances[0].expand(3))
    nearer = net.inputs(torch.cat([x[:, :2] - 0.3 * away, x[:, 2:], z[None]], dim=-1))[0, 0, -3]
    assert nearer < distances[0]


def test_a_member_leaves_out_the_surroundings_of_its_own_singularity() -> None:
    domain = Kepler(centre=1.0).domain
    net = NaturalNetwork(width=12, domain=domain).double()
    z = math.sqrt(3) * torch.tensor([0.6, -0.4], dtype=torch.float64)
    net.set_latents(1)
    assert net.domain_of(z[:1]) == domain  # where it is in the other direction is not known
    net.set_latents(2)
    (sun,) = net.domain_of(z).exclusions
    assert sun.centre == pytest.approx((0.6, -0.4))
    assert sun.radius == 0.5
    systems = AdaptedSystems(net, {"head.weight": net.head.weight[None], "latents": z[None]}, torch.ones(1).double())
    assert systems.domain.excluded(torch.tensor([0.7, -0.2, 0.0, 0.0]).double())
    assert not systems.domain.excluded(torch.zeros(4).double())


def test_more_and_fewer_latents_keep_the_weights_of_the_others(net: FieldNetwork) -> None:
    x, parameters = case(net)
    before = net.field_with(parameters, x)
    net.set_latents(3)
    more = parameters | {"latents": torch.nn.functional.pad(parameters["latents"], (0, 1))}
    torch.testing.assert_close(net.field_with(more, x), before)
    net.set_latents(2)
    torch.testing.assert_close(net.field_with(parameters, x), before)
    net.set_latents(0)
    assert net.latents == 0
    assert net.field_with({"head.weight": parameters["head.weight"]}, x).isfinite().all()


def test_latents_of_another_size_are_the_same_law(net: FieldNetwork) -> None:
    x, parameters = case(net)
    before = net.field_with(parameters, x)
    mean, scale = torch.tensor([0.3, -0.7]).double(), torch.tensor([2.0, 0.5]).double()
    net.rescale_latents(mean, scale)
    z = parameters["latents"]
    moved = z if net.inputs.places else (z - mean) / scale  # a place stays what it is
    torch.testing.assert_close(net.field_with(parameters | {"latents": moved}, x), before)


def test_weights_of_any_number_of_latents_are_loaded(name: str, net: FieldNetwork) -> None:
    x, parameters = case(net)
    loaded = NETWORKS[name]().double()
    loaded.load_state_dict(net.state_dict())
    torch.testing.assert_close(loaded.field_with(parameters, x), net.field_with(parameters, x))


def test_a_network_with_friction_has_no_latents() -> None:
    with pytest.raises(ConfigError, match="latents=1 is not allowed with DissipativeNetwork"):
        DissipativeNetwork(2).set_latents(1)


def test_a_singularity_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="a singularity needs a row of its matrix"):
        Singularity(((1, 0),), (0.0,), (0.0,), 0.5)
    box = Domain.box((1.0, 1.0))
    with pytest.raises(ValueError, match="the rows of a singularity's matrix must have 2 numbers"):
        dataclasses.replace(box, singularities=(Singularity(((1, 0, 0),), (0.0,), (1.0,), 0.5),))


def test_a_domain_with_singularities_survives_its_settings() -> None:
    domain = Kepler(centre=1.0).domain
    assert Domain.from_settings(domain.settings()) == domain
