import math

import pytest
import torch
from torch import Tensor

from meta_hamiltonian.systems import integrate

BOUNDS = torch.tensor([40.0, 40.0], dtype=torch.float64)
T = torch.linspace(0, 20, 101, dtype=torch.float64)


def oscillators(rates: Tensor):
    """Harmonic oscillators; from (1, 0) each goes through (cos ωt, −sin ωt)."""
    return lambda x: rates[:, None] * torch.stack([x[:, 1], -x[:, 0]], dim=-1)


def exact(rates: Tensor, t: Tensor) -> Tensor:
    phase = t[:, None] * rates
    return torch.stack([phase.cos(), -phase.sin()], dim=-1)


def at_one_zero(systems: int) -> Tensor:
    return torch.tensor([1.0, 0.0], dtype=torch.float64).expand(systems, 2)


def error(rates: Tensor, tolerance: float = 1e-8) -> Tensor:
    """The largest error of each oscillator's orbit, 5 time units long, when all are integrated together."""
    t = T[:26]
    orbits = integrate(oscillators(rates), at_one_zero(len(rates)), t, BOUNDS, tolerance)
    assert not orbits.diverged.any()
    return (orbits.states - exact(rates, t)).abs().amax((0, 2))


def test_a_fast_orbit_is_as_accurate_among_many_slow_ones_as_alone():
    """A mean of the error over the batch would allow it an error 20 times as large."""
    fast = torch.tensor([10.0], dtype=torch.float64)
    slow = torch.linspace(0.01, 0.1, 400, dtype=torch.float64)
    alone = error(fast)
    in_company = error(torch.cat([fast, slow]))
    assert alone < 1e-4
    assert in_company[0] < 1.5 * alone


def test_a_slow_orbit_is_as_accurate_beside_a_fast_one_as_alone():
    slow = torch.tensor([0.3], dtype=torch.float64)
    alone = error(slow)
    in_company = error(torch.cat([torch.tensor([10.0], dtype=torch.float64), slow]))
    assert in_company[1] <= 1.01 * alone


def test_orbits_alone_and_in_company_agree():
    rates = torch.tensor([0.2, 1.0, 7.0], dtype=torch.float64)
    together = integrate(oscillators(rates), at_one_zero(3), T[:26], BOUNDS, 1e-9).states
    for i in range(3):
        alone = integrate(oscillators(rates[i, None]), at_one_zero(1), T[:26], BOUNDS, 1e-9).states
        torch.testing.assert_close(together[:, i], alone[:, 0], rtol=0, atol=1e-6)


def test_a_smaller_tolerance_gives_a_smaller_error():
    rates = torch.tensor([2.0], dtype=torch.float64)
    errors = [error(rates, tolerance).item() for tolerance in (1e-5, 1e-8, 1e-11)]
    assert errors[2] < errors[1] / 100 < errors[0] / 10_000
    assert errors[2] < 1e-9


def test_states_between_steps_are_as_accurate_as_the_steps():
    """Asked for densely, most instants lie between two steps, where states are interpolated."""
    t = torch.linspace(0, 20, 2001, dtype=torch.float64)
    rates = torch.tensor([1.0], dtype=torch.float64)
    states = integrate(oscillators(rates), at_one_zero(1), t, BOUNDS, 1e-9).states
    assert (states - exact(rates, t)).abs().max() < 1e-6


def beside_an_oscillator(law):
    """System 0 is the unit oscillator, system 1 has the given law."""
    calls = []

    def field(x):
        calls.append(1)
        return torch.stack([torch.stack([x[0, 1], -x[0, 0]]), law(x[1])])

    return field, calls


def not_a_number_beyond_one(x):
    return torch.where(x[0] > 1, math.nan, torch.ones(2, dtype=x.dtype))


LAWS = {
    "cube": lambda x: x**3,  # at infinity after half a time unit
    "exponential": lambda x: x.square().clamp(max=800).exp(),
    "infinite": lambda x: x / 0,
    "not a number": lambda x: x * math.nan,
    "not a number later": not_a_number_beyond_one,
    "root": lambda x: (2 - x).sqrt(),  # not a number beyond 2
    "jump": lambda x: -torch.sign(x - 0.25),  # no step is small enough to cross it accurately
    "fast": lambda x: 1e7 * torch.stack([x[1], -x[0]]),
    "enormous": lambda x: 1e300 * x,
}


@pytest.mark.parametrize("bounds", [40.0, math.inf])
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_an_orbit_that_cannot_go_on_is_stopped_and_its_neighbour_is_right(law, bounds):
    field, calls = beside_an_oscillator(law)
    x0 = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    orbits = integrate(field, x0, T, torch.full((2,), bounds, dtype=torch.float64), 1e-8)
    assert orbits.diverged.tolist() == [False, True]
    assert orbits.states.isfinite().all()
    torch.testing.assert_close(orbits.states[:, 0], exact(torch.ones(1).double(), T)[:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(orbits.states[-1, 1], orbits.states[60, 1], rtol=0, atol=1e-12)  # at rest
    assert len(calls) < 10_000, "the number of steps is bounded, so that nothing hangs"


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_orbits_that_all_diverge_do_not_end_the_solve(law):
    x0 = torch.tensor([[0.5, 1.0], [0.5, 0.9]], dtype=torch.float64)
    orbits = integrate(lambda x: torch.stack([law(x[0]), law(x[1])]), x0, T, BOUNDS, 1e-8)
    assert orbits.diverged.tolist() == [True, True]
    assert orbits.states.isfinite().all()


def test_an_orbit_is_frozen_where_it_leaves_the_bounds():
    """At the constant velocity (3, −1) it leaves |q| <= 40 at t = 13.3 and is at rest from then on."""
    velocity = torch.tensor([3.0, -1.0], dtype=torch.float64)
    orbits = integrate(lambda x: velocity.expand_as(x), torch.zeros(1, 2).double(), T, BOUNDS, 1e-8)
    expected = torch.minimum(T, torch.tensor(40 / 3))[:, None] * velocity
    torch.testing.assert_close(orbits.states[:, 0], expected, rtol=0, atol=0.02)
    assert orbits.diverged.all()
    torch.testing.assert_close(orbits.states[70:], orbits.states[-1:].expand(31, 1, 2), rtol=0, atol=1e-12)


def test_an_orbit_just_inside_the_bounds_goes_on():
    """A circle of radius 39.99 within bounds of 40, beside one of radius 40.01, which is stopped."""
    x0 = torch.tensor([[28.0, 0.0], [28.0, 0.0]], dtype=torch.float64)
    x0[:, 1] = (torch.tensor([39.99, 40.01]).double().square() - 28.0**2).sqrt()
    orbits = integrate(oscillators(torch.ones(2).double()), x0, T, BOUNDS, 1e-9)
    assert orbits.diverged.tolist() == [False, True]
    phase = T[:, None]
    circle = x0[0] * phase.cos() + torch.stack([x0[0, 1], -x0[0, 0]]) * phase.sin()
    torch.testing.assert_close(orbits.states[:, 0], circle, rtol=0, atol=1e-5)


def test_an_orbit_that_begins_outside_the_bounds_stays_there():
    x0 = torch.tensor([[50.0, 0.0]], dtype=torch.float64)
    orbits = integrate(oscillators(torch.ones(1).double()), x0, T, BOUNDS, 1e-8)
    assert orbits.diverged.all()
    assert (orbits.states == x0).all()
