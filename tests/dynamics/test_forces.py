"""Friction, measured inputs, and the form in which their coefficients are solved for."""

import math

import numpy as np
import pytest
import torch

from meta_hamiltonian.dynamics import FRICTION, Forces, Signal, Terms

WIDTH = 0.05


def velocities(*shape, seed=0):
    """Fast ones and, in the last rows, some that are slower than dry friction's width."""
    v = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    v[-1] = v[-1] * WIDTH
    return v


def gradient(scalars, x):
    return torch.autograd.grad(scalars.sum(), x)[0]


def signal(inputs=2, instants=9, seed=1):
    generator = np.random.default_rng(seed)
    t = np.sort(generator.uniform(1.0, 5.0, instants))
    return Signal(torch.from_numpy(t), torch.from_numpy(generator.normal(size=(instants, inputs))))


def forces(kinds=tuple(FRICTION), tasks=2, n=2, inputs=2):
    generator = torch.Generator().manual_seed(2)
    coefficients = torch.rand(tasks, len(kinds), dtype=torch.float64, generator=generator)
    gains = torch.randn(tasks, n, inputs, dtype=torch.float64, generator=generator)
    return Forces(kinds, coefficients, WIDTH, gains, signal(inputs) if inputs else None)


@pytest.mark.parametrize("kind", FRICTION)
def test_a_force_is_the_gradient_of_its_rayleigh_function(kind):
    v = velocities(40, 3).requires_grad_()
    rayleigh = FRICTION[kind].rayleigh(v, WIDTH)
    assert rayleigh.shape == (40,)
    torch.testing.assert_close(FRICTION[kind].force(v, WIDTH), gradient(rayleigh, v), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", FRICTION)
def test_a_slope_is_the_derivative_of_the_force(kind):
    v = velocities(40, 3).requires_grad_()
    slope = gradient(FRICTION[kind].force(v, WIDTH), v)
    torch.testing.assert_close(FRICTION[kind].slope(v, WIDTH), slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", FRICTION)
def test_friction_takes_energy_out_in_every_coordinate_and_is_odd(kind):
    v = velocities(200, 3)
    force = FRICTION[kind].force(v, WIDTH)
    assert (v * force > 0).all(), "it is ∂R/∂v: what acts is against the velocity"
    assert torch.equal(FRICTION[kind].force(-v, WIDTH), -force)
    assert (FRICTION[kind].force(torch.zeros(1, 3), WIDTH) == 0).all()


@pytest.mark.parametrize(("kind", "factor"), [("viscous", 2.0), ("quadratic", 4.0)])
def test_twice_the_speed_is_so_many_times_the_force(kind, factor):
    v = velocities(20, 3)
    torch.testing.assert_close(FRICTION[kind].force(2 * v, WIDTH), factor * FRICTION[kind].force(v, WIDTH))


def test_dry_friction_has_one_size_at_any_speed_and_is_viscous_near_rest():
    fast = torch.tensor([[1.0, -20.0, 1e6]], dtype=torch.float64)
    slow = torch.tensor([[1e-4, -3e-5, 0.0]], dtype=torch.float64)
    dry = FRICTION["dry"]
    torch.testing.assert_close(dry.force(fast, WIDTH), fast.sign(), rtol=1e-12, atol=0)
    torch.testing.assert_close(dry.force(slow, WIDTH), slow / WIDTH, rtol=1e-5, atol=0)
    assert (dry.force(velocities(200, 3), WIDTH).abs() <= 1).all()
    # R goes from v²/2 width to |v| − width log 2, without overflow.
    expected = (fast.abs() - WIDTH * math.log(2)).sum(-1)
    torch.testing.assert_close(dry.rayleigh(fast, WIDTH), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(dry.rayleigh(slow, WIDTH), slow.square().sum(-1) / (2 * WIDTH), rtol=1e-4, atol=0)


def test_a_signal_is_linear_between_its_instants():
    given = signal()
    t = torch.cat([torch.linspace(given.t[0].item(), given.t[-1].item(), 301, dtype=torch.float64), given.t])
    expected = np.stack([np.interp(t.numpy(), given.t.numpy(), column) for column in given.u.T.numpy()], axis=-1)
    np.testing.assert_allclose(given(t).numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(given(given.t).numpy(), given.u.numpy(), rtol=1e-12, atol=1e-12)
    several = t[:300].reshape(3, 4, 25).transpose(0, 1)  # not contiguous
    np.testing.assert_array_equal(given(several).numpy(), given(t[:300]).reshape(3, 4, 25, 2).transpose(0, 1).numpy())


def test_a_signal_is_nothing_before_its_first_and_after_its_last_instant():
    given = signal()
    beyond = torch.tensor([-1e9, 0.0, given.t[0] - 1e-9, given.t[-1] + 1e-9, 1e9], dtype=torch.float64)
    assert (given(beyond) == 0).all()


def test_gains_are_what_each_momentum_receives_of_each_input():
    acting, v = forces(), velocities(2, 7, 2)
    t = torch.linspace(0, 6, 7, dtype=torch.float64).expand(2, 7)
    push = acting(v, t) - acting(v)
    for task in range(2):
        u = acting.signal(t[task])
        torch.testing.assert_close(push[task], u @ acting.gains[task].mT, rtol=1e-12, atol=1e-12)
    assert (push[:, 0] == 0).all(), "before the inputs begin"
    assert (push[:, 3] != 0).all()


def test_forces_add_up_and_each_system_has_coefficients_of_its_own():
    acting, v = forces(), velocities(2, 7, 2)
    torch.testing.assert_close(acting(v), sum(acting.each(v)))
    for task in range(2):
        expected = -sum(
            acting.coefficients[task, j] * FRICTION[kind].force(v[task], WIDTH) for j, kind in enumerate(acting.kinds)
        )
        torch.testing.assert_close(acting(v)[task], expected)
        torch.testing.assert_close(acting[task](v[task, None])[0], expected)
    assert acting[0:1].coefficients.shape == (1, 3)
    torch.testing.assert_close(acting[1:2](v[1:]), acting(v)[1:])


def test_a_system_without_forces_gets_none():
    nothing = forces(kinds=(), inputs=0)
    assert (nothing(velocities(2, 7, 2)) == 0).all()
    assert (nothing(velocities(2, 7, 2), torch.zeros(2, 7, dtype=torch.float64)) == 0).all()


def test_negative_coefficients_and_unknown_kinds_are_refused():
    gains = torch.zeros(2, 1, 0, dtype=torch.float64)
    one = torch.tensor([[0.1, 0.0], [0.1, -1e-9]], dtype=torch.float64)
    with pytest.raises(ValueError, match="at least 0: friction takes energy out"):
        Forces(("viscous", "dry"), one, WIDTH, gains)
    with pytest.raises(ValueError, match="friction sticky is not known; choose from viscous, quadratic, dry"):
        Forces(("viscous", "sticky"), one.abs(), WIDTH, gains)


@pytest.mark.parametrize("kinds", [(), ("dry",), ("viscous", "quadratic"), tuple(FRICTION)])
@pytest.mark.parametrize("inputs", [0, 1, 3])
@pytest.mark.parametrize("n", [1, 2])
def test_columns_times_coefficients_are_the_forces(kinds, inputs, n):
    """They are linear in the coefficients, and both have the same order of them."""
    given = signal(inputs) if inputs else None
    t = torch.linspace(1.5, 4.5, 11, dtype=torch.float64)
    t = t[(t > (0 if given is None else given.t[0])) & (t < (9 if given is None else given.t[-1]))]
    v = velocities(len(t), n)
    terms = Terms(kinds, WIDTH, None if given is None else given(t))
    count = terms.count(n)
    assert count == len(kinds) + n * inputs
    columns = terms.columns(v)
    assert columns.shape == (len(t), n, count)
    coefficients = torch.rand(4, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    acting = terms.forces(coefficients, n, given)
    assert (acting.kinds, acting.signal, acting.width) == (kinds, given, WIDTH)
    for task in range(4):
        found = acting[task](v[None], t[None])[0]
        torch.testing.assert_close(columns @ coefficients[task], found, rtol=1e-12, atol=1e-12)


def test_one_kind_less_leaves_the_others_in_order():
    terms = Terms(("viscous", "quadratic", "dry"), WIDTH, torch.ones(5, 2, dtype=torch.float64))
    fewer = terms.without("quadratic")
    assert fewer.kinds == ("viscous", "dry")
    assert (fewer.count(2), terms.count(2)) == (6, 7)
    v = velocities(5, 2)
    torch.testing.assert_close(fewer.columns(v), terms.columns(v)[..., [0, 2, 3, 4, 5, 6]])
    assert fewer.without("viscous").without("dry").kinds == ()
