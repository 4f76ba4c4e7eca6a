"""The solver whose orbits have steps of their own."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from meta_hamiltonian.dynamics import integrate, reference_orbits, solve
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()
T = torch.linspace(0, 20, 101, dtype=torch.float64)


def nowhere(x):
    return torch.zeros(len(x), dtype=torch.bool)


@pytest.fixture(scope="module")
def swings():
    parameters = SYSTEM.sample_parameters(6, seed=3, split="test")
    return parameters, SYSTEM.sample_initial_states(parameters, seed=3)


def by_scipy(parameters, x0):
    m, l, q0 = parameters.tolist()
    done = solve_ivp(
        lambda _, x: [x[1] / (m * l**2), -m * l * math.sin(x[0] - q0)],
        (0, 20),
        x0.numpy(),
        method="DOP853",
        t_eval=T.numpy(),
        rtol=1e-13,
        atol=1e-13,
    )
    return done.y.T


def test_both_solvers_agree_with_scipy(swings):
    parameters, x0 = swings
    field = lambda x: SYSTEM.field(x, parameters)  # noqa: E731
    predicted, true = solve(field, x0, T, nowhere, 1e-10), reference_orbits(field, x0, T, 1e-12)
    for i in range(len(x0)):
        expected = by_scipy(parameters[i], x0[i])
        np.testing.assert_allclose(predicted.states[:, i], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(true[:, i], expected, rtol=0, atol=3e-9)
    assert not predicted.diverged.any()
    assert predicted.until.tolist() == [20.0] * len(x0)
    assert set(predicted.reasons) == {""}


def test_an_orbit_does_not_depend_on_its_company(swings):
    parameters, x0 = swings
    together = solve(lambda x: SYSTEM.field(x, parameters), x0, T, nowhere, 1e-8).states
    for i in range(len(x0)):
        alone = solve(lambda x, own=parameters[i, None]: SYSTEM.field(x, own), x0[i, None], T, nowhere, 1e-8)
        torch.testing.assert_close(alone.states[:, 0], together[:, i], rtol=1e-10, atol=1e-10)


def test_orbits_that_have_ended_are_left_out_and_change_nothing():
    """Swings of very different frequencies, some of which leave the region."""
    frequencies = torch.linspace(0.2, 8.0, 100, dtype=torch.float64)
    x0 = torch.tensor([1.0, 0.0], dtype=torch.float64) * torch.linspace(0.5, 1.0, 100, dtype=torch.float64)[:, None]
    evaluated = []

    def some(rows):
        own = frequencies[rows]

        def field(x):
            evaluated.append(len(x))
            return torch.stack([own * x[:, 1], -own * x[:, 0]], dim=-1)

        return field

    def fast_and_far(x):
        return x[..., 1].abs() > 0.99

    whole = solve(some(slice(None)), x0, T, fast_and_far, 1e-8)
    before, _ = sum(evaluated), evaluated.clear()
    parts = solve(some(slice(None)), x0, T, fast_and_far, 1e-8, some=some)
    assert sum(evaluated) < 0.7 * before
    assert 0 < whole.diverged.sum() < 100
    torch.testing.assert_close(parts.states, whole.states, rtol=0, atol=1e-13)
    torch.testing.assert_close(parts.until, whole.until, rtol=0, atol=0)
    assert (parts.diverged == whole.diverged).all()
    assert parts.reasons == whole.reasons


def test_a_smaller_tolerance_gives_a_smaller_error(swings):
    parameters, x0 = swings
    true = SYSTEM.orbit(x0, parameters, T)
    errors = [
        (solve(lambda x: SYSTEM.field(x, parameters), x0, T, nowhere, tolerance).states - true).abs().max().item()
        for tolerance in (1e-4, 1e-7, 1e-10)
    ]
    assert errors[2] < errors[1] / 50 < errors[0] / 2500
    assert errors[2] < 1e-6


def test_a_field_that_jumps_is_crossed():
    """Gravity that changes its strength at q = 0, a bouncing that has its exact solution piece by piece."""

    def field(x):
        return torch.stack([x[:, 1], torch.where(x[:, 0] > 0, -1.0, 4.0).to(x.dtype)], dim=-1)

    x0 = torch.tensor([[1.0, 0.0], [0.5, 0.0]], dtype=torch.float64)
    found = solve(field, x0, T, nowhere, 1e-9)
    assert not found.diverged.any()
    energy = found.states[..., 1] ** 2 / 2 + torch.where(found.states[..., 0] > 0, 1.0, -4.0) * found.states[..., 0]
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=0, atol=1e-5)


LAWS = {
    "cube": lambda x: x**3,
    "infinite": lambda x: x / 0,
    "not a number": lambda x: x * math.nan,
    "root": lambda x: 1 + (2 - x).sqrt(),
    "sliding": lambda x: -torch.sign(x - 0.25),
    "fast": lambda x: 1e7 * torch.stack([x[:, 1], -x[:, 0]], dim=-1),
    "enormous": lambda x: 1e300 * x,
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_an_orbit_that_cannot_go_on_ends_and_says_when_and_why(law):
    calls = []

    def field(x):
        calls.append(1)
        return torch.cat([torch.stack([x[:1, 1], -x[:1, 0]], dim=-1), law(x[1:])])

    x0 = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    found = solve(field, x0, T, nowhere, 1e-8)
    assert found.diverged.tolist() == [False, True]
    assert found.states.isfinite().all()
    assert found.until[1] < 20
    assert found.reasons[1] in (
        "its field is not a finite number there",
        "its steps became too short to follow it",
    )
    torch.testing.assert_close(found.states[:, 0], torch.stack([T.cos(), -T.sin()], -1), rtol=0, atol=1e-6)
    later = found.until[1] <= T
    assert (found.states[later, 1] == found.states[-1, 1]).all()
    assert len(calls) < 20_000


def test_an_orbit_ends_at_the_last_instant_inside_the_region():
    velocity = torch.tensor([3.0, -1.0], dtype=torch.float64)
    found = solve(lambda x: velocity.expand_as(x), torch.zeros(1, 2).double(), T, lambda x: x[:, 0] > 40, 1e-8)
    assert found.until.item() == pytest.approx(13.2)  # the last instant before 40 / 3
    torch.testing.assert_close(found.states[:67, 0], T[:67, None] * velocity, rtol=1e-9, atol=1e-9)
    assert (found.states[66:] == found.states[66]).all()
    assert found.reasons == ["it leaves the region that orbits are followed in"]


def test_an_orbit_that_begins_outside_stays_there():
    found = solve(lambda x: x, torch.full((1, 2), 50.0).double(), T, lambda x: x[:, 0] > 40, 1e-8)
    assert found.diverged.all()
    assert found.until.item() == 0.0
    assert (found.states == 50).all()


@pytest.mark.parametrize("size", [1e-9, 1.0])
def test_a_small_orbit_is_as_accurate_as_a_large_one(size):
    x0 = size * torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    field = lambda x: torch.stack([x[:, 1], -x[:, 0]], -1)  # noqa: E731
    exact = size * torch.stack([T.cos(), -T.sin()], -1)
    for states in (
        solve(field, x0, T, nowhere, 1e-10, sizes=(size, size)).states,
        reference_orbits(field, x0, T, 1e-12, (size, size)),
        integrate(field, x0, T, nowhere, 1e-10, (size, size)).states,
    ):
        assert (states[:, 0] - exact).abs().max() < 1e-7 * size


def test_a_tenth_of_a_second_and_a_century_are_the_same_orbit():
    """No floor is in the units of anybody's clock."""
    x0 = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    t = torch.linspace(0, 6.0, 31, dtype=torch.float64)
    for unit in (1e-9, 1.0, 1e9):
        found = solve(lambda x, u=unit: torch.stack([x[:, 1], -x[:, 0]], -1) / u, x0, unit * t, nowhere, 1e-10)
        torch.testing.assert_close(found.states[:, 0, 0], t.cos(), rtol=0, atol=1e-7)
