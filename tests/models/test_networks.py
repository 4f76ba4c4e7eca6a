import math

import pytest
import torch
from torch.func import functional_call, jacrev, vmap

from meta_hamiltonian.models import ACTIVATIONS, FieldNetwork, FieldOf, HamiltonianNetwork, VectorFieldNetwork

NETWORKS = [HamiltonianNetwork, VectorFieldNetwork]
BOXES = {2: (2 * math.pi, 20.0), 4: (1.0, 2.0, 3.0, 4.0)}


def double(network, state_dim=2, activation="tanh", width=7, depth=3, seed=0, box=True):
    torch.manual_seed(seed)
    scale = BOXES[state_dim] if box else None
    net = network(state_dim, width, depth, activation, scale).double()
    with torch.no_grad():
        for value in net.parameters():  # as large as trained ones: untrained networks are almost linear
            value.mul_(3)
    return net


def states(net, *shape, seed=1):
    """States in the whole box that the inputs are scaled to."""
    unit = torch.rand(*shape, net.state_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return net.state_box * (2 * unit - 1)


def symplectic_form(state_dim):
    one, zero = torch.eye(state_dim // 2, dtype=torch.float64), torch.zeros(state_dim // 2, state_dim // 2).double()
    return torch.cat([torch.cat([zero, one], 1), torch.cat([-one, zero], 1)])


def other_weights(net, tasks, names=None, seed=2):
    """Different weights for each task; of the named parameters only, where names are given."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value.detach() + 0.3 * torch.randn(tasks, *value.shape, dtype=value.dtype, generator=generator)
        for name, value in net.named_parameters()
        if names is None or name in names
    }


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("state_dim", [2, 4])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_field_is_the_symplectic_gradient_of_the_energy(activation, state_dim, depth):
    net = double(HamiltonianNetwork, state_dim, activation, depth=depth)
    x = states(net, 50).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    expected = gradient @ symplectic_form(state_dim).T
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(net.field(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_energy_is_the_network_written_out(activation):
    """By hand, so that forward and field cannot be wrong in the same way."""
    sigma = {"tanh": torch.tanh, "sin": torch.sin}
    sigma["softplus"] = lambda a: (1 + a.exp()).log()
    sigma["silu"] = lambda a: a / (1 + (-a).exp())
    net = double(HamiltonianNetwork, activation=activation)
    x = states(net, 20)
    hidden = x / torch.tensor(BOXES[2], dtype=torch.float64)
    for layer in net.body:
        hidden = sigma[activation](hidden @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net(x), hidden @ net.head.weight[0], rtol=1e-12, atol=1e-12)


def symplectic_defect(net):
    """JᵀΩ + ΩJ for the field's Jacobian J, zero where the flow of the field is symplectic."""
    x = states(net, 30)
    jacobians = vmap(jacrev(net.field))(x)
    omega = symplectic_form(net.state_dim)
    assert jacobians.abs().max() > 1e-3
    return (jacobians.mT @ omega + omega @ jacobians).abs().max()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("state_dim", [2, 4])
def test_a_hamiltonian_network_has_a_symplectic_flow(activation, state_dim):
    assert symplectic_defect(double(HamiltonianNetwork, state_dim, activation)) < 1e-10


@pytest.mark.parametrize("state_dim", [2, 4])
def test_a_plain_network_does_not_have_a_symplectic_flow(state_dim):
    assert symplectic_defect(double(VectorFieldNetwork, state_dim)) > 1e-3


def test_the_heads():
    hamiltonian = HamiltonianNetwork(4, 8, 2).head
    assert hamiltonian.weight.shape == (1, 8)
    assert hamiltonian.bias is None
    plain = VectorFieldNetwork(4, 8, 2).head
    assert plain.weight.shape == (4, 8)
    assert plain.bias is not None


@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_gets_a_gradient_from_the_field(network):
    net = double(network)
    net.field(states(net, 20)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_width_and_depth_are_those_of_the_hidden_layers(network, depth):
    net = network(2, 5, depth)
    assert [tuple(layer.weight.shape) for layer in net.body] == [(5, 2)] + [(5, 5)] * (depth - 1)


@pytest.mark.parametrize("state_dim", [2, 4])
def test_an_input_scale_divides_the_inputs_of_the_energy(state_dim):
    scaled = double(HamiltonianNetwork, state_dim)
    plain = double(HamiltonianNetwork, state_dim, box=False)
    plain.load_state_dict(scaled.state_dict())
    scale = torch.tensor(BOXES[state_dim], dtype=torch.float64)
    x = states(scaled, 40)
    torch.testing.assert_close(scaled(x), plain(x / scale), rtol=1e-13, atol=1e-13)
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(plain(y / scale).sum(), y)
    torch.testing.assert_close(scaled.field(x), gradient @ symplectic_form(state_dim).T, rtol=1e-11, atol=1e-13)


def test_an_input_scale_divides_the_inputs_of_a_plain_network():
    scaled = double(VectorFieldNetwork)
    plain = double(VectorFieldNetwork, box=False)
    plain.load_state_dict(scaled.state_dict())
    x = states(scaled, 40)
    torch.testing.assert_close(scaled.field(x), plain.field(x / scaled.state_box), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(), (5,), (3, 5)])
@pytest.mark.parametrize("state_dim", [2, 4])
def test_the_head_makes_the_field_out_of_the_features(network, shape, state_dim):
    net = double(network, state_dim)
    x = states(net, *shape)
    made = net.head(net.field_features(x)).reshape(x.shape)
    torch.testing.assert_close(made, net.field(x), rtol=1e-11, atol=1e-13)
    assert net.field(x).abs().max() > 1e-3


def test_features_do_not_depend_on_the_head():
    net = double(HamiltonianNetwork)
    x = states(net, 10)
    before = net.field_features(x)
    with torch.no_grad():
        net.head.weight.mul_(3)
    torch.testing.assert_close(net.field_features(x), before, rtol=0, atol=0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(), (5,), (3, 5)])
def test_states_may_have_any_leading_dimensions(network, shape):
    net = double(network)
    x = states(net, *shape)
    flat = x.reshape(-1, 2)
    torch.testing.assert_close(net.field(x).reshape(-1, 2), net.field(flat), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(net(x).reshape(len(flat), -1), net(flat).reshape(len(flat), -1), rtol=1e-12, atol=1e-14)


def assert_each_task_has_its_own_field(field_with, net, own, points=6):
    """Equal to a loop over the tasks, each a call of the network with that task's weights."""
    tasks = len(next(iter(own.values())))
    x = states(net, tasks, points)
    expected = torch.stack(
        [
            functional_call(FieldOf(net), {f"net.{name}": value[task] for name, value in own.items()}, (x[task],))
            for task in range(tasks)
        ]
    )
    assert (expected - net.field(x)).abs().amax((1, 2)).min() > 1e-3, "the weights matter"
    torch.testing.assert_close(field_with(own, x), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("state_dim", [2, 4])
def test_fields_of_many_tasks(network, activation, state_dim):
    net = double(network, state_dim, activation)
    own = other_weights(net, 5)
    assert_each_task_has_its_own_field(net.field_with, net, own)
    assert_each_task_has_its_own_field(lambda weights, x: FieldNetwork.field_with(net, weights, x), net, own)


@pytest.mark.parametrize("network", NETWORKS)
def test_fields_of_many_tasks_with_a_shared_body(network):
    net = double(network)
    own = other_weights(net, 5, {"head.weight", "head.bias"})
    assert_each_task_has_its_own_field(net.field_with, net, own)
    assert_each_task_has_its_own_field(lambda weights, x: FieldNetwork.field_with(net, weights, x), net, own)


@pytest.mark.parametrize("names", [{"body.0.weight"}, {"body.1.bias"}, {"body.0.weight", "body.0.bias"}])
@pytest.mark.parametrize("points", [5, 6, 7])
def test_fields_of_many_tasks_that_share_any_of_the_weights(names, points):
    """Whether the number of points is that of the tasks (5), of the features (7) or neither."""
    net = double(HamiltonianNetwork)
    assert_each_task_has_its_own_field(net.field_with, net, other_weights(net, 5, names), points)


@pytest.mark.parametrize("names", [None, {"head.weight"}])
def test_energies_of_many_tasks(names):
    net = double(HamiltonianNetwork)
    own = other_weights(net, 5, names)
    x = states(net, 5, 6)
    expected = torch.stack(
        [functional_call(net, {name: value[task] for name, value in own.items()}, (x[task],)) for task in range(5)]
    )
    assert (expected - net(x)).abs().max() > 1e-3
    torch.testing.assert_close(net.energy_with(own, x), expected, rtol=1e-12, atol=1e-13)


def test_gradients_of_many_tasks_reach_their_own_weights():
    net = double(HamiltonianNetwork)
    own = {name: value.requires_grad_() for name, value in other_weights(net, 4).items()}
    x = states(net, 4, 6)
    net.field_with(own, x)[2].square().sum().backward()
    for name, value in own.items():
        assert (value.grad[[0, 1, 3]] == 0).all(), name
        assert (value.grad[2] != 0).any(), name


def test_a_plain_network_has_no_energy():
    net = VectorFieldNetwork().double()
    with pytest.raises(TypeError, match="no energy"):
        net.energy_with(other_weights(net, 3), states(net, 3, 4))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "relu"}, "relu.*tanh.*silu"),
        ({"state_dim": 3}, "even number of coordinates"),
        ({"state_dim": 0}, "even number of coordinates"),
        ({"width": 0}, "width=0"),
        ({"depth": 0}, "depth=0"),
        ({"input_scale": (1.0,)}, "input_scale must be 2 numbers"),
        ({"input_scale": (1.0, 2.0, 3.0)}, "input_scale must be 2 numbers"),
        ({"input_scale": (1.0, 0.0)}, "above 0"),
        ({"input_scale": (1.0, -2.0)}, "above 0"),
        ({"input_scale": (1.0, math.nan)}, "above 0"),
    ],
)
def test_settings_that_make_no_network_are_refused(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        network(**arguments)


def test_the_state_box_keeps_its_digits_through_float32():
    half_widths = [2 * math.pi, 20.0]
    net = HamiltonianNetwork(input_scale=half_widths)
    assert net.state_box.dtype == torch.float32
    assert net.double().state_box.tolist() == half_widths
    assert net.float().state_box.dtype == torch.float32
    assert "state_box" not in dict(net.named_parameters())
