import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import integrate

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.evaluation import make_test_set, measure
from meta_hamiltonian.learners import ANIL, MAML
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Damped, Driven, Pendulum, Spring

SYSTEM = Pendulum()
SQUARED_DIAMETER = (4 * math.pi) ** 2 + 40.0**2  # of the state box: 41.9²


@pytest.fixture(scope="module")
def hundred():
    """The protocol's number of test systems."""
    return make_test_set(SYSTEM, n_systems=100, shots=25, seed=0)


@pytest.fixture(scope="module")
def few(hundred):
    """The first four of them."""
    return dataclasses.replace(
        hundred,
        parameters=hundred.parameters[:4],
        support=hundred.support[:4],
        grid=hundred.grid[:4],
        grid_field=hundred.grid_field[:4],
        orbit=hundred.orbit[:, :4],
    )


def zero(x, parameters):
    return torch.zeros_like(x)


def true_energy(x, parameters):
    q, p = x[..., 0], x[..., 1]
    m, l, q0 = parameters.T
    return p**2 / (2 * m * l**2) + m * l * (1 - torch.cos(q - q0))


def all_finite(errors):
    return all(getattr(errors, field.name).isfinite().all() for field in dataclasses.fields(errors))


def test_the_test_set_is_that_of_the_protocol(few):
    assert few.support.x.shape == (4, 25, 2)
    assert few.grid.shape == few.grid_field.shape == (4, 2500, 2)
    q, p = np.meshgrid(np.linspace(-2 * np.pi, 2 * np.pi, 50), np.linspace(-20, 20, 50), indexing="ij")
    np.testing.assert_allclose(few.grid[2].numpy(), np.stack([q.ravel(), p.ravel()], -1), rtol=0, atol=1e-12)
    m, l, q0 = few.parameters[2].tolist()
    field = np.stack([p / (m * l**2), -m * l * np.sin(q - q0)], -1).reshape(-1, 2)
    np.testing.assert_allclose(few.grid_field[2].numpy(), field, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(few.t.numpy(), np.arange(201) / 10, rtol=0, atol=1e-12)
    assert few.orbit.shape == (201, 4, 2)
    assert torch.equal(few.orbit[0], SYSTEM.sample_initial_states(few.parameters, seed=0, split="test"))
    torch.testing.assert_close(few.initial_energy, true_energy(few.orbit[0], few.parameters))
    assert {few.grid.dtype, few.support.x.dtype, few.orbit.dtype} == {torch.float64}


def test_the_systems_and_their_points_are_the_first_of_the_test_split(few):
    """So that fewer systems or shots are the first of more, and no seed of the training split reaches them."""
    episodes = sample_episodes(SYSTEM, 2, 10, 0, seed=0, split="test", dtype=torch.float64)
    assert torch.equal(few.parameters[:2], episodes.parameters)
    assert torch.equal(few.support.x[:2, :10], episodes.support.x)
    assert torch.equal(few.support.dxdt[:2, :10], episodes.support.dxdt)


def test_the_truth_has_no_error(few, adapted_to):
    errors = measure([adapted_to(SYSTEM, few.parameters)], few)[0]
    assert errors.field_mse.max() == 0
    assert errors.field_rel.max() == 0
    assert errors.state_mse.max() < 1e-10
    assert errors.energy_mse.max() < 1e-10
    assert not errors.diverged.any()
    torch.testing.assert_close(errors.orbits, few.orbit, rtol=0, atol=1e-5)


def test_the_zero_field_scores_what_the_protocol_says(hundred, adapted_to):
    errors = measure([adapted_to(SYSTEM, hundred.parameters, zero)], hundred)[0]
    torch.testing.assert_close(errors.field_rel, torch.ones(100).double(), rtol=1e-13, atol=0)
    torch.testing.assert_close(errors.field_mse, hundred.grid_field.square().sum(-1).mean(-1), rtol=1e-13, atol=0)
    assert 60 < errors.field_mse.mean() < 90  # about 74
    moved = (hundred.orbit - hundred.orbit[0]).square().sum(-1).mean(0)
    torch.testing.assert_close(errors.state_mse, moved, rtol=1e-12, atol=0)
    assert moved.min() > 0.01
    assert errors.energy_mse.max() < 1e-20, "a pendulum that stays where it is keeps its energy"
    assert not errors.diverged.any()


def test_angles_are_not_wrapped(few, adapted_to):
    """A full turn away is as far away as it is."""
    turned = dataclasses.replace(few, orbit=few.orbit + torch.tensor([2 * math.pi, 0.0]).double())
    turned = dataclasses.replace(turned, orbit=torch.cat([few.orbit[:1], turned.orbit[1:]]))
    errors = measure([adapted_to(SYSTEM, few.parameters)], turned)[0]
    expected = torch.full((4,), (2 * math.pi) ** 2 * 200 / 201).double()
    torch.testing.assert_close(errors.state_mse, expected, rtol=1e-5, atol=0)


def nan_near_the_corner(x, parameters):
    """Right wherever the orbits go, not a number at the last point of the grid."""
    at_corner = (x >= torch.tensor([2 * math.pi - 1e-6, 20 - 1e-6])).all(-1, keepdim=True)
    return torch.where(at_corner, math.nan, SYSTEM.field(x, parameters))


@pytest.mark.parametrize(
    "law",
    [lambda x, parameters: x * math.nan, lambda x, parameters: x / 0.0, nan_near_the_corner],
    ids=["nan", "infinite", "nan at one point"],
)
def test_a_field_that_is_not_finite_counts_as_the_zero_field_and_as_diverged(law, few, adapted_to):
    """And the three other systems of the batch are judged as if they were alone."""

    def only_second(x, parameters):
        ours = (parameters == few.parameters[1]).all(-1, keepdim=True)
        return torch.where(ours, law(x, parameters), SYSTEM.field(x, parameters))

    errors = measure([adapted_to(SYSTEM, few.parameters, only_second)], few)[0]
    assert all_finite(errors)
    assert errors.diverged.tolist() == [False, True, False, False]
    assert errors.field_rel[1].item() == pytest.approx(1, rel=1e-13)
    assert errors.field_mse[1].item() == pytest.approx(few.grid_field[1].square().sum(-1).mean().item(), rel=1e-13)
    assert errors.state_mse[1].item() == pytest.approx(SQUARED_DIAMETER, rel=1e-12)
    others = torch.tensor([0, 2, 3])
    assert errors.field_mse[others].max() == 0
    assert errors.state_mse[others].max() < 1e-10
    assert errors.energy_mse[others].max() < 1e-10


def test_a_field_that_is_not_finite_anywhere_leaves_the_orbit_at_its_start(few, adapted_to):
    errors = measure([adapted_to(SYSTEM, few.parameters, lambda x, parameters: x * math.nan)], few)[0]
    assert torch.equal(errors.orbits, few.orbit[:1].expand(201, 4, 2))
    assert errors.energy_mse.max() < 1e-20


def test_a_diverged_orbit_is_frozen_at_twice_the_box(few, adapted_to):
    """p(t) = c t until 40: the state error is fixed, the energy error that of p = 40 from then on."""
    rate = 7.0

    def kicked(x, parameters):
        return torch.zeros_like(x) + torch.tensor([0.0, rate], dtype=x.dtype)

    errors = measure([adapted_to(SYSTEM, few.parameters, kicked)], few)[0]
    assert errors.diverged.all()
    torch.testing.assert_close(
        errors.state_mse, torch.full((4,), SQUARED_DIAMETER, dtype=torch.float64), rtol=1e-12, atol=0
    )
    p = (rate * few.t).clamp(max=40.0)[:, None]
    states = torch.stack([few.orbit[0, :, 0].expand(201, 4), p.expand(201, 4)], dim=-1)
    torch.testing.assert_close(errors.orbits, states, rtol=0, atol=0.02)
    energy = true_energy(states, few.parameters) - true_energy(few.orbit[0], few.parameters)
    torch.testing.assert_close(errors.energy_mse, energy.square().mean(0), rtol=3e-3, atol=0)
    assert errors.field_mse.isfinite().all()


@pytest.mark.parametrize(
    "law",
    [
        lambda x, parameters: x**3 + 10,
        lambda x, parameters: (x / 2).square().exp(),
        lambda x, parameters: 1e8 * SYSTEM.field(x, parameters),
        lambda x, parameters: 1e200 * x,
    ],
    ids=["cube", "exponential", "fast", "enormous"],
)
def test_violent_fields_have_finite_errors(law, few, adapted_to):
    errors = measure([adapted_to(SYSTEM, few.parameters, law)], few)[0]
    assert errors.diverged.all()
    assert all_finite(errors)


@pytest.mark.parametrize("learner_class", [MAML, ANIL])
def test_adaptation_at_a_rate_far_too_large_has_finite_errors(learner_class, few):
    learner = learner_class(HamiltonianNetwork(width=8, depth=2), lr=1e6)
    (adapted,) = learner.adapt_tasks(few.support, [60])
    assert all_finite(measure([adapted], few)[0])


def numpy_field(layers, head, box):
    """The field of a tanh network with these weights, its gradient carried back by hand."""

    def field(x):
        hidden, slopes = x / box, []
        for weight, bias in layers:
            hidden = np.tanh(hidden @ weight.T + bias)
            slopes.append(1 - hidden**2)
        gradient = head * slopes[-1]
        for (weight, _), slope in zip(layers[:0:-1], slopes[-2::-1], strict=True):
            gradient = (gradient @ weight) * slope
        gradient = gradient @ layers[0][0] / box
        return np.stack([gradient[..., 1], -gradient[..., 0]], axis=-1)

    return field


def test_the_errors_of_an_adapted_network_by_numpy_and_scipy(few):
    """Everything again: the grid, the fields, the true and the predicted orbits, the energies."""
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=10, depth=2, input_scale=SYSTEM.state_box)
    with torch.no_grad():
        for value in net.parameters():  # as large as trained ones
            value.mul_(4)
    (adapted,) = MAML(net, lr=0.3, scale="task").adapt_tasks(few.support, [10])
    errors = measure([adapted], few)[0]
    assert not errors.diverged.any(), "nothing is frozen here"
    assert (errors.field_rel - 1).abs().min() > 0.01, "nor close to the zero field"

    t = np.linspace(0, 20, 201)
    grid = np.stack(np.meshgrid(np.linspace(-2 * np.pi, 2 * np.pi, 50), np.linspace(-20, 20, 50)), axis=-1).reshape(
        -1, 2
    )
    for i, (m, l, q0) in enumerate(few.parameters.tolist()):
        own = {name: value[i].numpy() for name, value in adapted.parameters.items()}
        layers = [(own[f"body.{j}.weight"], own[f"body.{j}.bias"]) for j in range(2)]
        predicted = numpy_field(layers, own["head.weight"][0], np.float32([2 * np.pi, 20]).astype(float))
        scale = math.sqrt((few.support.dxdt[i].numpy() ** 2).mean())

        def learned(x, predicted=predicted, scale=scale):
            return scale * predicted(x)

        def true(x, m=m, l=l, q0=q0):
            return np.stack([x[..., 1] / (m * l**2), -m * l * np.sin(x[..., 0] - q0)], axis=-1)

        start = few.orbit[0, i].numpy()

        def orbit(field, start=start):
            return integrate.solve_ivp(
                lambda _, x: field(x), (0, 20), start, method="DOP853", t_eval=t, rtol=1e-12, atol=1e-12
            ).y.T

        difference = ((learned(grid) - true(grid)) ** 2).sum(-1).mean()
        assert errors.field_mse[i].item() == pytest.approx(difference, rel=1e-4)
        assert errors.field_rel[i].item() == pytest.approx(difference / (true(grid) ** 2).sum(-1).mean(), rel=1e-4)
        states = orbit(learned)
        distance = ((states - orbit(true)) ** 2).sum(-1).mean()
        assert errors.state_mse[i].item() == pytest.approx(distance, rel=1e-4)
        energies = states[:, 1] ** 2 / (2 * m * l**2) + m * l * (1 - np.cos(states[:, 0] - q0))
        assert errors.energy_mse[i].item() == pytest.approx(((energies - energies[0]) ** 2).mean(), rel=1e-4)
        assert np.abs(states - states[0]).max() > 0.1, "it moves"


def test_where_energy_is_lost_the_energy_error_is_against_the_true_energy_at_each_instant(adapted_to):
    test = make_test_set(Damped(Pendulum()), 3, shots=1, seed=0)
    exact = measure([adapted_to(test.system, test.parameters)], test)[0]
    assert (exact.energy_mse < 1e-10).all()
    assert (test.energy[0] > test.energy[-1]).all()
    assert test[1:].energy.shape == (201, 2)

    def without_friction(x, parameters):
        return Pendulum().field(x, parameters[..., :-1])

    found = measure([adapted_to(test.system, test.parameters, without_friction)], test)[0]
    expected = (test.energy - test.energy[0]).square().mean(0)  # its own energy stays that of the beginning
    torch.testing.assert_close(found.energy_mse, expected, rtol=1e-3, atol=1e-8)


def test_the_phase_of_a_drive_goes_round_and_is_not_lost(adapted_to):
    test = make_test_set(Driven(Spring()), 3, shots=1, seed=0)
    assert test.orbit[-1, :, 1].max() > 4 * torch.pi
    exact = measure([adapted_to(test.system, test.parameters)], test)[0]
    assert not exact.diverged.any()
    assert (exact.state_mse < 1e-8).all()
    assert torch.equal(test.energy, test.initial_energy[None])
