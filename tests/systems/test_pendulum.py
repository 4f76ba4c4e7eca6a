import math

import numpy as np
import pytest
import torch
from scipy import integrate as scipy_integrate
from scipy import optimize, stats

from meta_hamiltonian.systems import Pendulum


def energy(q, p, parameters, gravity=1.0):
    """The protocol's H(q, p), in NumPy."""
    m, l, q0 = parameters
    return p**2 / (2 * m * l**2) + m * gravity * l * (1 - np.cos(q - q0))


def states(tasks, points, seed=0):
    box = torch.tensor([2 * math.pi, 20.0], dtype=torch.float64)
    unit = torch.rand(tasks, points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return box * (2 * unit - 1)


@pytest.fixture(params=[1.0, 9.81])
def system(request):
    return Pendulum(gravity=request.param)


def test_the_energy_is_that_of_the_protocol(system):
    parameters = system.sample_parameters(20, seed=0)
    x = states(20, 30)
    expected = energy(x[..., 0].numpy(), x[..., 1].numpy(), [v[:, None] for v in parameters.T.numpy()], system.gravity)
    np.testing.assert_allclose(system.hamiltonian(x, parameters[:, None]).numpy(), expected, rtol=1e-13, atol=1e-13)


def test_energy_of_a_pendulum_by_hand():
    """m = 2, l = 3, hanging sideways of its rest angle with p = 6: 36 / 36 + 2 * 3 * 1 = 7."""
    x = torch.tensor([0.5 + math.pi / 2, 6.0], dtype=torch.float64)
    parameters = torch.tensor([2.0, 3.0, 0.5], dtype=torch.float64)
    assert Pendulum().hamiltonian(x, parameters).item() == pytest.approx(7.0, rel=1e-14)


def test_the_field_is_the_symplectic_gradient_by_autograd(system):
    parameters = system.sample_parameters(20, seed=1)
    x = states(20, 30).requires_grad_()
    (gradient,) = torch.autograd.grad(system.hamiltonian(x, parameters[:, None]).sum(), x)
    expected = torch.stack([gradient[..., 1], -gradient[..., 0]], dim=-1)
    torch.testing.assert_close(system.field(x.detach(), parameters[:, None]), expected, rtol=1e-12, atol=1e-12)


def test_the_field_is_the_symplectic_gradient_by_finite_differences(system):
    parameters = system.sample_parameters(20, seed=2)
    x = states(20, 30)
    q, p = x[..., 0].numpy(), x[..., 1].numpy()
    columns = [v[:, None] for v in parameters.T.numpy()]
    h = 1e-5
    dh_dq = (energy(q + h, p, columns, system.gravity) - energy(q - h, p, columns, system.gravity)) / (2 * h)
    dh_dp = (energy(q, p + h, columns, system.gravity) - energy(q, p - h, columns, system.gravity)) / (2 * h)
    field = system.field(x, parameters[:, None]).numpy()
    np.testing.assert_allclose(field, np.stack([dh_dp, -dh_dq], axis=-1), rtol=1e-6, atol=1e-5)


def test_one_state_of_one_system_needs_no_leading_dimensions():
    system = Pendulum()
    parameters = system.sample_parameters(3, seed=0)
    x = states(3, 4)
    many = system.field(x, parameters[:, None])
    torch.testing.assert_close(system.field(x[1, 2], parameters[1]), many[1, 2], rtol=0, atol=0)


def test_parameters_follow_the_priors():
    parameters = Pendulum().sample_parameters(5000, seed=0).numpy()
    assert parameters.shape == (5000, 3)
    for values, (low, high) in zip(parameters.T, [(0.5, 5), (0.5, 5), (-math.pi, math.pi)], strict=True):
        assert stats.kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3
        assert low <= values.min()
        assert values.max() <= high
    correlations = np.corrcoef(parameters.T)[~np.eye(3, dtype=bool)]
    assert np.abs(correlations).max() < 4.5 / math.sqrt(5000)


def test_system_i_of_a_split_is_the_same_in_any_range():
    system = Pendulum()
    whole = system.sample_parameters(30, seed=5, split="val")
    assert torch.equal(system.sample_parameters(range(11, 17), seed=5, split="val"), whole[11:17])


def test_splits_and_seeds_share_no_parameter():
    system = Pendulum()
    drawn = [
        system.sample_parameters(200, seed=seed, split=split) for seed in (0, 1) for split in ("train", "val", "test")
    ]
    values = torch.cat(drawn).flatten()
    assert len(values.unique()) == len(values)


@pytest.mark.parametrize("gravity", [0.0, -1.0, math.inf, math.nan])
def test_a_gravity_that_is_not_above_zero_is_refused(gravity):
    with pytest.raises(ValueError, match="gravity"):
        Pendulum(gravity)


def largest_amplitude(m, l, gravity):
    """A_max of the protocol, by bisection: 2.5, or where m l √(2 g l (1 − cos A)) = 20."""

    def excess(swing):
        return m * l * math.sqrt(2 * gravity * l * (1 - math.cos(swing))) - 20

    return 2.5 if excess(2.5) <= 0 else optimize.brentq(excess, 0.0, 2.5, xtol=1e-14)


def test_initial_amplitudes_are_uniform_up_to_the_largest_that_stays_in_the_box(system):
    parameters = system.sample_parameters(1000, seed=0, split="test")
    x0 = system.sample_initial_states(parameters, seed=0)
    assert (x0[:, 1] == 0).all()
    amplitude = (x0[:, 0] - parameters[:, 2]).numpy()
    largest = np.array([largest_amplitude(m, l, system.gravity) for m, l, _ in parameters.tolist()])
    assert 0.05 < (largest < 2.5).mean() < 0.95, "both limits are tried"
    fraction = amplitude / largest
    assert fraction.min() >= 1 / 8 - 1e-9
    assert fraction.max() <= 1 + 1e-9
    assert stats.kstest(fraction, "uniform", args=(1 / 8, 7 / 8)).pvalue > 1e-3


def test_initial_states_depend_on_seed_and_split():
    system = Pendulum()
    parameters = system.sample_parameters(50, seed=0, split="test")
    draws = [system.sample_initial_states(parameters, seed, split)[:, 0] for seed, split in [(0, "test"), (1, "test")]]
    draws.append(system.sample_initial_states(parameters, 0, "val")[:, 0])
    assert all((draws[i] != draws[j]).all() for i in range(3) for j in range(i))
    assert torch.equal(draws[0], system.sample_initial_states(parameters, 0, "test")[:, 0])


@pytest.fixture(scope="module", params=[(1.0, 20.0), (9.81, 4.0)], ids=["g=1", "g=9.81"])
def orbits(request):
    """The true orbits of 40 systems, from their initial states."""
    gravity, horizon = request.param
    system = Pendulum(gravity)
    parameters = system.sample_parameters(40, seed=3, split="test")
    t = torch.linspace(0, horizon, 201, dtype=torch.float64)
    x0 = system.sample_initial_states(parameters, seed=3)
    return system, parameters, t, system.orbit(x0, parameters, t)


def test_orbits_begin_at_their_initial_states(orbits):
    system, parameters, _, states = orbits
    assert states.shape == (201, 40, 2)
    assert torch.equal(states[0], system.sample_initial_states(parameters, seed=3))


def test_true_orbits_stay_inside_the_state_box(orbits):
    *_, states = orbits
    reach = states.abs().amax((0, 1))
    assert reach[0] <= 2 * math.pi
    assert 10 < reach[1] <= 20 + 1e-9


def test_orbits_agree_with_scipy(orbits):
    system, parameters, t, states = orbits
    for i, (m, l, q0) in enumerate(parameters[:8].tolist()):

        def field(_, x, m=m, l=l, q0=q0):
            return [x[1] / (m * l**2), -m * system.gravity * l * math.sin(x[0] - q0)]

        reference = scipy_integrate.solve_ivp(
            field, (0, t[-1].item()), states[0, i].numpy(), method="DOP853", t_eval=t.numpy(), rtol=1e-13, atol=1e-13
        )
        np.testing.assert_allclose(states[:, i].numpy(), reference.y.T, rtol=0, atol=1e-8)


def test_orbits_conserve_energy(orbits):
    system, parameters, _, states = orbits
    energies = system.hamiltonian(states, parameters)
    drift = (energies - energies[0]).abs().amax(0) / energies[0]
    assert drift.max() < 1e-9


def test_orbits_swing_symmetrically_about_the_rest_angle():
    """A small swing is harmonic: its period is 2π √(l / g)."""
    parameters = torch.tensor([[1.0, 2.0, 0.7]], dtype=torch.float64)
    period = 2 * math.pi * math.sqrt(2.0)
    x0 = torch.tensor([[0.7 + 1e-3, 0.0]], dtype=torch.float64)
    t = torch.tensor([0.0, period / 2, period], dtype=torch.float64)
    q = Pendulum().orbit(x0, parameters, t)[:, 0, 0]
    torch.testing.assert_close(q - 0.7, torch.tensor([1e-3, -1e-3, 1e-3]).double(), rtol=1e-5, atol=0)
