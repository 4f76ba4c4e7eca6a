"""Orbits of windows and their derivatives, against SciPy and central differences."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from meta_hamiltonian.dynamics import FRICTION, Signal
from meta_hamiltonian.inference.sensitivity import Law, follow, rates
from meta_hamiltonian.learners.learner import Latents, Unknowns
from meta_hamiltonian.models import HamiltonianNetwork, NaturalNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import Domain, Kepler

# Many small steps.
WIDTH = 0.3
SCALE = 0.7
BOX = Domain.box((2.0, 2.0, 2.0, 2.0))
KINDS = tuple(FRICTION)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def law(kinds=KINDS, trajectories=2, network=HamiltonianNetwork, domain=BOX, depth=1):
    torch.manual_seed(0)
    net = network(width=6, depth=depth, activation="sin", domain=domain).double().requires_grad_(False)
    features, outputs = net.head.in_features + (net.head.bias is not None), net.head.out_features
    head = Unknowns(0.4 * random(features, outputs), 0.1 * random(features, 3, seed=1), random(3, outputs, seed=2))
    t = torch.linspace(-1, 4, 11, dtype=torch.float64)
    signals = tuple(Signal(t + 0.1 * i, random(11, 2, seed=3 + i)) for i in range(trajectories))
    return Law(net, SCALE, head, kinds, WIDTH, signals)


def unknowns(law):
    _, friction, gains = law.sizes
    return torch.cat([law.head.value.flatten(), 0.1 + 0.2 * torch.arange(friction), 0.3 * random(gains, seed=9)])


def windows(law, rows=3, instants=3):
    """Starts, instants that are not equally far apart, and two trajectories."""
    start = 0.5 * random(rows, law.net.state_dim, seed=5)
    gaps = torch.rand(rows, instants, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    t = (0.1 + 0.6 * gaps).cumsum(1)
    return start, t, torch.arange(rows) % max(1, len(law.signals))


def equation_of_motion(law, theta, which):
    """dx/dt of one trajectory, from the energy by automatic differentiation and textbook formulas of friction."""
    v, d, g = law.split(theta)
    w = (law.head.centre + law.head.basis @ v)[:, 0]
    (layer,) = law.net.body
    friction = {
        "viscous": lambda s: s,
        "quadratic": lambda s: s * np.abs(s),
        "dry": lambda s: np.tanh(s / WIDTH),
    }

    def rate(t, x):
        x = torch.tensor(x, requires_grad=True)
        energy = SCALE * (w * torch.sin(layer(law.net.normalized(x)))).sum()
        dq, dp = torch.autograd.grad(energy, x)[0].numpy().reshape(2, -1)[::-1]
        dp = -dp - sum(d[j].item() * friction[kind](dq) for j, kind in enumerate(law.kinds))
        if law.signals:
            signal = law.signals[which]
            inside = signal.t[0] <= t <= signal.t[-1]
            u = [np.interp(t, signal.t.numpy(), column) if inside else 0.0 for column in signal.u.T.numpy()]
            dp = dp + g.numpy() @ u
        return np.concatenate([dq, dp])

    return rate


@pytest.mark.parametrize(("kinds", "trajectories"), [((), 0), (KINDS, 0), (("dry",), 1), (KINDS, 2)])
def test_states_are_those_of_the_equation_of_motion(kinds, trajectories):
    form = law(kinds, trajectories)
    theta = unknowns(form)
    start, t, which = windows(form)
    if trajectories:  # steps end at the corners of the inputs
        t = torch.stack([form.signals[i].t[[2, 3, 5]] for i in which.tolist()])
    found = follow(form, theta, start, t, which, [40] * 2).x
    assert torch.equal(found[0], start)
    for row in range(len(start)):
        rate = equation_of_motion(form, theta, int(which[row]))
        own = t[row].tolist()
        true = solve_ivp(rate, (own[0], own[-1]), start[row], "DOP853", own, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found[:, row].numpy(), true.y.T, atol=1e-6)


FORMS = {
    "conservative": {"kinds": (), "trajectories": 0},
    "viscous": {"kinds": ("viscous",), "trajectories": 0},
    "quadratic": {"kinds": ("quadratic",), "trajectories": 0},
    "dry": {"kinds": ("dry",), "trajectories": 0},
    "one driven trajectory": {"kinds": (), "trajectories": 1},
    "all kinds, two driven trajectories": {},
    "a deep network": {"depth": 2},
    "an angle": {"domain": Domain.box((3.14159265358979, 2.0), angles=("q",))},
    "a field without energy": {"kinds": ("viscous",), "network": VectorFieldNetwork},
}


def assert_close(found, expected):
    size = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_derivatives_equal_central_differences(form):
    """Steps do not depend on the unknowns: derivatives are those of what is computed, however coarse it is."""
    form = law(**form)
    theta = unknowns(form)
    start, t, which = windows(form)
    steps = [2, 1]
    passed = follow(form, theta, start, t, which, steps)
    h = 1e-5

    def states(theta, start):
        return follow(form, theta, start, t, which, steps).x

    for i, unit in enumerate(torch.eye(len(theta), dtype=torch.float64)):
        slope = (states(theta + h * unit, start) - states(theta - h * unit, start)) / (2 * h)
        assert_close(passed.by_unknowns[..., i], slope)
    for i, unit in enumerate(torch.eye(start.shape[1], dtype=torch.float64)):
        slope = (states(theta, start + h * unit) - states(theta, start - h * unit)) / (2 * h)
        assert_close(passed.by_start[..., i], slope)
    assert (passed.by_unknowns[0] == 0).all()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rates_have_the_derivatives_that_differences_have(form):
    form = law(**form)
    theta = unknowns(form)
    x, t, which = windows(form)
    found = rates(form, theta, x, t[:, 1], which)
    h = 1e-6
    for i, unit in enumerate(torch.eye(len(theta), dtype=torch.float64)):
        ends = [rates(form, theta + s * h * unit, x, t[:, 1], which).value for s in (1, -1)]
        assert_close(found.by_unknowns[..., i], (ends[0] - ends[1]) / (2 * h))
    for i, unit in enumerate(torch.eye(x.shape[1], dtype=torch.float64)):
        ends = [rates(form, theta, x + s * h * unit, t[:, 1], which).value for s in (1, -1)]
        assert_close(found.by_state[..., i], (ends[0] - ends[1]) / (2 * h))


def test_each_window_has_the_inputs_of_its_own_trajectory():
    form = law((), 2)
    theta = unknowns(form)
    start, t, _ = windows(form, 2)
    start, t = start[:1].expand(2, -1), t[:1].expand(2, -1)
    together = follow(form, theta, start, t, torch.tensor([0, 1]), [4] * 2).x
    assert (together[-1, 0] - together[-1, 1]).abs().max() > 0.01
    for which in range(2):
        alone = form._replace(signals=form.signals[which : which + 1])
        found = follow(alone, theta, start[:1], t[:1], torch.zeros(1, dtype=torch.long), [4] * 2).x
        torch.testing.assert_close(together[:, which], found[:, 0])


def test_the_estimated_error_is_about_the_true_one_and_falls_with_the_steps():
    form = law(("viscous",), 0)
    theta = unknowns(form)
    start, t, which = windows(form, 3, 2)
    t = t / 5
    exact = follow(form, theta, start, t, which, [64]).x[-1]
    estimates = []
    for steps in (1, 2, 4):
        passed = follow(form, theta, start, t, which, [steps])
        true = (passed.x[-1] - exact).abs().max()
        assert true < 3 * passed.error.max()
        estimates.append(passed.error.max().item())
    assert estimates[2] < estimates[1] / 8 < estimates[0] / 64


def test_a_passage_has_an_error_for_every_interval():
    form = law()
    start, t, which = windows(form)
    passed = follow(form, unknowns(form), start, t, which, [1, 2])
    shapes = {f.name: tuple(getattr(passed, f.name).shape) for f in dataclasses.fields(passed)}
    n = len(unknowns(form))
    assert shapes == {"x": (3, 3, 4), "by_start": (3, 3, 4, 4), "by_unknowns": (3, 3, 4, n), "error": (2, 3, 4)}


def test_rates_know_how_they_change_with_latents():
    torch.manual_seed(0)
    net = NaturalNetwork(width=9, domain=Kepler(centre=1.0).domain).double().requires_grad_(False)
    net.set_latents(2)
    latents = Latents(0.1 * random(2, seed=6), 0.5 * random(2, 2, seed=7), 0.3 * random(2, seed=8))
    features = net.head.in_features
    head = Unknowns(0.4 * random(features, 1), 0.1 * random(features, 3, seed=1), random(3, 1, seed=2), latents)
    own = Law(net, SCALE, head, ("viscous",), WIDTH, ())
    theta = torch.cat([head.flat, torch.tensor([0.3]).double()])
    assert own.sizes == (5, 1, 0)
    x, t, which = net.domain.sobol(6), torch.zeros(6).double(), torch.zeros(6, dtype=torch.long)
    found = rates(own, theta, x, t, which)
    step = 1e-6
    by_differences = [
        (rates(own, theta + step * unit, x, t, which).value - rates(own, theta - step * unit, x, t, which).value)
        / (2 * step)
        for unit in torch.eye(len(theta)).double()
    ]
    torch.testing.assert_close(found.by_unknowns, torch.stack(by_differences, dim=-1), rtol=1e-5, atol=1e-6)
    z = latents.mean + latents.spread @ latents.value
    weights = {"head.weight": (head.centre + head.basis @ head.value).mT[None], "latents": z[None]}
    field = SCALE * net.field_with(weights, x[None])[0]
    torch.testing.assert_close(found.value[:, :2], field[:, :2])
