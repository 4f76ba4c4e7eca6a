"""Systems on which friction and measured inputs act: their orbits, their files; and Jacobians of networks."""

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from meta_hamiltonian import load
from meta_hamiltonian.dynamics import FRICTION, Forces, Signal, solve
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.export import export
from meta_hamiltonian.learners.checkpoint import load_adapted, load_trained, save_adapted
from meta_hamiltonian.models import DissipativeNetwork, HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.models.adapted import REACH, Adapted, AdaptedSystems
from meta_hamiltonian.systems import Domain, Pendulum

# Thousands of steps: shapes are looked at where systems are asked for their fields.
SYSTEM = Pendulum()
DATA = Path(__file__).parents[1] / "data"
PARAMETERS = torch.tensor([[0.8, 1.1, 0.3], [1.5, 0.7, -0.4]], dtype=torch.float64)  # m, l, q0
STARTS = torch.tensor([[1.8, 0.0], [-1.0, 1.2]], dtype=torch.float64)
T = torch.linspace(0, 5, 26, dtype=torch.float64)
WIDTH = 0.05
COEFFICIENTS = {"viscous": (0.05, 0.1), "quadratic": (0.04, 0.02), "dry": (0.03, 0.01)}
MIXED = tuple(COEFFICIENTS)


def pushes():
    """Two inputs, from before the first instant until before the last, where they end at once."""
    t = torch.linspace(-0.5, 4, 10, dtype=torch.float64)
    return Signal(t, torch.stack([torch.sin(1.3 * t), torch.cos(0.7 * t).sign() * 0.2], dim=-1))


def forces(kinds=MIXED, signal=None):
    d = torch.tensor([COEFFICIENTS[kind] for kind in kinds], dtype=torch.float64).reshape(-1, 2).mT
    gains = torch.tensor([[[0.3, -0.5]], [[-0.2, 1.0]]], dtype=torch.float64)[..., : 0 if signal is None else 2]
    return Forces(kinds, d, WIDTH, gains, signal)


@pytest.fixture
def pendulums(adapted_to):
    def make(kinds=MIXED, signal=None, law=None):
        free = adapted_to(SYSTEM, PARAMETERS, law)
        return AdaptedSystems(free.net, free.parameters, free.scale, forces(kinds, signal))

    return make


def by_scipy(task, kinds, signal=None):
    """The equation of motion written out, from SciPy."""
    m, l, q0 = PARAMETERS[task].tolist()
    acting = {
        "viscous": lambda v: v,
        "quadratic": lambda v: v * abs(v),
        "dry": lambda v: math.tanh(v / WIDTH),
    }
    own = forces(kinds, signal)

    def rate(t, x):
        v = x[1] / (m * l**2)
        push = 0.0
        if signal is not None and signal.t[0] <= t <= signal.t[-1]:
            u = [np.interp(t, signal.t.numpy(), column) for column in signal.u.mT.numpy()]
            push = float(own.gains[task, 0].numpy() @ u)
        friction = sum(COEFFICIENTS[kind][task] * acting[kind](v) for kind in kinds)
        return [v, -m * l * math.sin(x[0] - q0) - friction + push]

    x0, states = STARTS[task].tolist(), [STARTS[task].numpy()]
    # Inputs have corners, where it starts anew.
    corners = [] if signal is None else signal.t.tolist()
    ends = sorted({*T.tolist(), *(c for c in corners if 0 < c < T[-1])})
    for low, high in itertools.pairwise(ends):
        x0 = solve_ivp(rate, (low, high), x0, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
        if high in T:
            states.append(np.array(x0))
    return torch.from_numpy(np.stack(states))


@pytest.mark.parametrize("kinds", [("viscous",), ("quadratic",), ("dry",), MIXED])
def test_energy_falls_at_the_rate_at_which_friction_takes_it(pendulums, kinds):
    systems = pendulums(kinds)
    x = SYSTEM.domain.sobol(64).expand(2, -1, -1).clone().requires_grad_()
    energy = SYSTEM.hamiltonian(x, PARAMETERS[:, None])
    (slope,) = torch.autograd.grad(energy.sum(), x)
    field = systems.field(x.detach())
    power = sum(
        torch.tensor(COEFFICIENTS[kind], dtype=torch.float64)[:, None]
        * (field[..., :1] * FRICTION[kind].force(field[..., :1], WIDTH)).sum(-1)
        for kind in kinds
    )
    torch.testing.assert_close((slope * field).sum(-1), -power, rtol=1e-9, atol=1e-10)
    along = systems.energy(systems.rollout(STARTS, T).states.transpose(0, 1))
    assert (along.diff(dim=1) < 0).all()
    assert (along[:, -1] < 0.96 * along[:, 0]).all()


@pytest.mark.parametrize(
    ("kinds", "driven"),
    [(("viscous",), False), (("quadratic",), False), (("dry",), False), (MIXED, False), (MIXED, True), ((), True)],
)
def test_orbits_are_those_of_the_equation_of_motion(pendulums, kinds, driven):
    signal = pushes() if driven else None
    systems = pendulums(kinds, signal)
    for task in range(2):
        states = systems[task].orbits(STARTS[task, None], T).states[:, 0]
        torch.testing.assert_close(states, by_scipy(task, kinds, signal), rtol=0, atol=1e-7)


@pytest.mark.parametrize("driven", [False, True], ids=["free", "driven"])
def test_systems_with_other_coefficients_do_not_disturb_each_other(pendulums, driven):
    systems = pendulums(MIXED, pushes() if driven else None)
    together = systems.rollout(STARTS, T)
    assert not together.diverged.any()
    assert (together.states[-1, 0] - together.states[-1, 1]).abs().max() > 0.01
    for task in range(2):
        alone = systems[task].systems.rollout(STARTS[task, None], T).states[:, 0]
        torch.testing.assert_close(together.states[:, task], alone, rtol=0, atol=1e-9)
    both = systems.first(2)
    assert torch.equal(both.field(STARTS[:, None]), systems.field(STARTS[:, None]))
    assert torch.equal(systems.first(1).field(STARTS[:1, None]), systems.field(STARTS[:, None])[:1])


def test_several_orbits_of_one_driven_system_are_each_at_their_own_time(pendulums):
    system = pendulums(("viscous",), pushes())[0]
    starts = torch.stack([STARTS[0], STARTS[0] / 2, STARTS[0]])
    together = system.orbits(starts, T).states
    torch.testing.assert_close(together[:, 0], system.orbits(starts[:1], T).states[:, 0], rtol=0, atol=1e-8)
    torch.testing.assert_close(together[:, 2], together[:, 0], rtol=0, atol=1e-12)
    later = system.orbits(together[10], T[10:]).states
    torch.testing.assert_close(later, together[10:], rtol=0, atol=1e-7)


def test_friction_is_the_same_whole_turns_away(pendulums):
    system = pendulums()[0]
    x = SYSTEM.domain.sobol(32)
    far = x + torch.tensor([6 * math.pi, 0.0], dtype=torch.float64)
    torch.testing.assert_close(system.field(far), system.field(x), rtol=1e-9, atol=1e-9)


def test_systems_without_forces_are_what_they_were():
    """To the last digit: their figures are compared over years."""
    x = SYSTEM.domain.draw(0, ("seen",), range(2), 25)
    learner = load(DATA / "ridge.ckpt")
    (free,) = learner.adapt_tasks(seen_at(x), [1])
    assert free.forces is None
    own = {name: value.double() for name, value in free.parameters.items()}
    expected = free.scale[:, None, None] * free.net.field_with(own, free.net.domain.wrap(x))
    assert torch.equal(free.field(x), expected)
    outside = functools.partial(free.net.domain.outside, reach=REACH)
    by_hand = solve(lambda y: free.field(y[:, None])[:, 0], STARTS, T, outside, 1e-8, 2e4, free.net.domain.sizes)
    assert torch.equal(free.rollout(STARTS, T).states, by_hand.states)
    nothing = Forces((), torch.zeros(2, 0, dtype=torch.float64), 1.0, torch.zeros(2, 1, 0, dtype=torch.float64))
    with_none = AdaptedSystems(free.net, free.parameters, free.scale, nothing)
    assert torch.equal(with_none.field(x), free.field(x))
    assert torch.equal(with_none.rollout(STARTS, T).states, by_hand.states)


def seen_at(x):
    return Points(x, SYSTEM.field(x, PARAMETERS[:, None]))


def adapted_with_forces(signal=None, kinds=MIXED):
    x = SYSTEM.domain.draw(0, ("seen",), range(1), 25)[0]
    free = load(DATA / "ridge.ckpt").adapt(x, SYSTEM.field(x, PARAMETERS[:1]))
    systems = free.systems
    return Adapted(AdaptedSystems(systems.net, systems.parameters, systems.scale, forces(kinds, signal)[0]))


@pytest.mark.parametrize("driven", [False, True], ids=["free", "driven"])
def test_a_saved_system_keeps_its_forces(tmp_path, driven):
    adapted = adapted_with_forces(pushes() if driven else None)
    save_adapted(adapted, load_trained(DATA / "ridge.ckpt").settings, tmp_path / "adapted.pt")
    found = load_adapted(tmp_path / "adapted.pt")
    x = SYSTEM.domain.sobol(16)
    assert torch.equal(found.field(x), adapted.field(x))
    assert torch.equal(found.orbits(STARTS, T, 1e-5).states, adapted.orbits(STARTS, T, 1e-5).states)
    kept = found.systems.forces
    assert (kept.kinds, kept.width) == (MIXED, WIDTH)
    assert (kept.signal is not None) == driven


def test_a_system_of_an_earlier_version_has_no_forces():
    assert load_adapted(DATA / "adapted.pt").systems.forces is None


def test_an_exported_system_loses_its_energy_too(tmp_path):
    """Its friction is in the file; the inputs of one recording are not."""
    adapted = adapted_with_forces(pushes())
    export(adapted, tmp_path / "system.pt2")
    x = SYSTEM.domain.sobol(64)
    energy, field = torch.export.load(tmp_path / "system.pt2").module()(x)
    torch.testing.assert_close(energy, adapted.energy(x))
    torch.testing.assert_close(field, adapted.field(x))
    free = adapted_with_forces(kinds=())
    friction = forces()[0](free.field(x)[None, :, :1])[0]
    torch.testing.assert_close(field[:, 1:], free.field(x)[:, 1:] + friction)


BOX = Domain.box((1.0, 2.0, 3.0, 4.0))
NETWORKS = {
    **{
        f"{activation}, {depth} deep": functools.partial(HamiltonianNetwork, depth=depth, activation=activation)
        for activation in ("tanh", "softplus", "sin", "silu")
        for depth in (1, 2)
    },
    "a field without energy": functools.partial(VectorFieldNetwork, depth=2),
    "with viscous friction": functools.partial(DissipativeNetwork, depth=1, friction="viscous"),
    "with learned friction": functools.partial(DissipativeNetwork, depth=2),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("domain", [SYSTEM.domain, BOX], ids=["pendulum", "two degrees of freedom"])
def test_the_jacobian_is_that_of_the_field(make, domain):
    """Against automatic differentiation of what training sees."""
    torch.manual_seed(0)
    net = make(width=7, domain=domain).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, dtype=torch.float64, generator=generator))
    x = domain.sobol(9)
    head = net.head.weight.detach().mT
    features, jacobian = net.features_and_jacobian(x, head)
    torch.testing.assert_close(features, net.field_features(x).detach())
    assert not features.requires_grad
    assert not jacobian.requires_grad
    for point, found in zip(x, jacobian, strict=True):
        expected = torch.autograd.functional.jacobian(lambda y: net.linear_field(y), point)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
