"""Multiple shooting, on orbits of laws that are known: what it began with does not matter."""

import functools

import pytest
import torch
from observed import PARAMETERS, SYSTEM, learner

from meta_hamiltonian.dynamics import Forces, Signal
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.sensitivity import Law, follow
from meta_hamiltonian.inference.shooting import Known, Windows, enough_steps, shoot
from meta_hamiltonian.learners.numerics.linear_head import head_weights
from meta_hamiltonian.models import AdaptedSystems
from meta_hamiltonian.observations import CanonicalTrajectory

# Hundreds of orbits of many windows.
WIDTH = 0.02
TRUE = {"viscous": 0.05, "quadratic": 0.03, "dry": 0.04}
NOISE = torch.tensor([1e-3, 1e-3], dtype=torch.float64)
EVEN = torch.linspace(0, 10, 101, dtype=torch.float64)


@functools.cache
def pendulum():
    """The learner's pendulum: its unknowns, and those it has."""
    x = SYSTEM.domain.draw(0, ("seen",), range(1), 40)[0]
    points = Points(x[None], SYSTEM.field(x[None], PARAMETERS))
    adapted = learner().adapt(points.x[0], points.dxdt[0]).systems
    return adapted, learner().unknowns(adapted, points)


def law(kinds=(), signals=()):
    adapted, head = pendulum()
    return Law(adapted.net, adapted.scale.item(), head, kinds, WIDTH, signals)


def truth(law):
    gains = [0.3] * law.sizes[2]
    return torch.cat([law.head.value.flatten(), torch.tensor([*(TRUE[k] for k in law.kinds), *gains]).double()])


def system(law, theta, which=0):
    v, d, g = law.split(theta[None])
    signal = law.signals[which] if law.signals else None
    weights = head_weights(law.net, law.head.centre + law.head.basis @ v)
    scale = torch.full((1,), law.scale, dtype=torch.float64)
    return AdaptedSystems(law.net, weights, scale, Forces(law.kinds, d, WIDTH, g, signal))


def recording(law, start=(1.8, 0.0), t=EVEN, noise=0.0, seed=0, which=0):
    """What is observed of an orbit of the true law; its smoothed states are noisy, as a beginning is."""
    x = system(law, truth(law), which).rollout(torch.tensor([start], dtype=torch.float64), t, 1e-10).states[:, 0]
    generator = torch.Generator().manual_seed(seed)
    observed, smoothed = (x + s * torch.randn(x.shape, generator=generator).double() for s in (noise, 0.05))
    return CanonicalTrajectory(
        t, smoothed, smoothed, torch.ones(len(t)).double(), observed, NOISE, torch.zeros_like(smoothed)
    ), x


def shot(law, paths, head=1.05, d=0.0, noise=NOISE, robust=False):
    windows = Windows.of(paths)
    heads = law.sizes[0]
    theta = truth(law).clone()
    theta[:heads] *= head
    theta[heads:] *= d
    # Nothing is known but the observations; where they leave a direction open, it keeps near to what it was.
    known = Known(1e-6 * torch.eye(len(theta)).double(), 1e-6 * theta)
    steps = enough_steps(law, windows, theta, windows.nodes, 0.01 * noise)
    return windows, shoot(law, windows, theta, windows.nodes, noise, known, steps, robust)


def assert_found(law, found, states, error=1e-4):
    """Friction and gains, and dx/dt where it was observed."""
    heads = law.sizes[0]
    expected = truth(law)
    torch.testing.assert_close(found.theta[heads:], expected[heads:], rtol=error, atol=0)
    fields = [system(law, theta).field(states[None])[0] for theta in (found.theta, expected)]
    assert (fields[0] - fields[1]).abs().max() < error * fields[1].abs().max()


def gaps(windows, found):
    return (found.ends[:-1] - found.nodes[1:])[windows.continues[1:]].abs().max()


@pytest.mark.parametrize("kinds", [(), ("viscous",), ("dry",), ("viscous", "quadratic")])
def test_exact_orbits_give_the_law_back_from_a_wrong_beginning(kinds):
    form = law(kinds)
    path, x = recording(form)
    windows, found = shot(form, [path])
    assert found.settled
    assert gaps(windows, found) < 1e-8, "at the end the windows are one orbit"
    # Dry friction has corners, where steps of one length are less accurate: still a tenth of the noise.
    error = 1e-4 if kinds == ("dry",) else 1e-5
    torch.testing.assert_close(found.nodes, x[windows.row[:, 0]], rtol=0, atol=error)
    assert_found(form, found, x, 10 * error)
    assert found.cost < 1e-3 * windows.observed.isfinite().sum()


def test_several_trajectories_share_the_law():
    """One near the bottom and one that swings wide: neither tells all."""
    form = law(("viscous",))
    paths = [recording(form, start, t=EVEN[:n], seed=n) for start, n in (((1.8, 0.0), 80), ((0.3, 1.0), 50))]
    windows, found = shot(form, [path for path, _ in paths])
    assert (windows.continues.logical_not()).sum() == 2
    assert gaps(windows, found) < 1e-8
    for which, (_, x) in enumerate(paths):
        first = (windows.trajectory == which).nonzero()[0, 0]
        torch.testing.assert_close(found.nodes[first], x[0], rtol=0, atol=1e-5)
    assert_found(form, found, torch.cat([x for _, x in paths]))


def test_inputs_of_several_trajectories_are_each_its_own():
    t = EVEN[:61]
    signals = tuple(Signal(t, torch.sin(rate * t)[:, None]) for rate in (0.8, 1.7))
    form = law(("viscous",), signals)
    paths = [recording(form, start, t, seed=i, which=i) for i, start in enumerate(((1.8, 0.0), (0.3, 1.0)))]
    windows, found = shot(form, [path for path, _ in paths])
    assert gaps(windows, found) < 1e-8
    torch.testing.assert_close(found.theta[form.sizes[0] :], truth(form)[form.sizes[0] :], rtol=1e-3, atol=0)


def test_instants_may_be_uneven_and_have_gaps():
    form = law(("viscous",))
    generator = torch.Generator().manual_seed(4)
    t = 12 * torch.rand(120, dtype=torch.float64, generator=generator).sort().values
    t = t[(t < 4) | (t > 6)]
    path, x = recording(form, t=t)
    windows, found = shot(form, [path])
    assert gaps(windows, found) < 1e-7
    assert_found(form, found, x, 1e-3)


@pytest.mark.parametrize("missing", ["p", "most q and a stretch"])
def test_a_coordinate_may_be_observed_seldom_or_never(missing):
    form = law(("viscous",))
    path, x = recording(form)
    observed = path.observed.clone()
    if missing == "p":
        observed[:, 1] = torch.nan
    else:
        observed[torch.arange(len(observed)) % 7 > 0, 0] = torch.nan
        observed[30:45] = torch.nan
    path = CanonicalTrajectory(path.t, path.x, path.dxdt, path.error, observed, path.noise, path.rate_error)
    windows, found = shot(form, [path])
    assert windows.observed.isfinite().sum() == observed.isfinite().sum()
    assert gaps(windows, found) < 1e-8
    assert torch.equal(found.residual.isfinite(), windows.observed.isfinite())
    if missing == "p":  # of q alone the unit of the energy is not known: the positions are
        assert found.residual[..., 0].nan_to_num().abs().max() < 1e-4
    else:
        assert_found(form, found, x)


@pytest.mark.parametrize("lengths", [(2,), (3,), (10, 7), (121,), (1500,)])
def test_windows_hold_every_observation_once_and_continue_each_other(lengths):
    paths = []
    for i, n in enumerate(lengths):
        x = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
        t = torch.linspace(0, 1, n, dtype=torch.float64)
        paths.append(CanonicalTrajectory(t, x, x, torch.ones(n).double(), x, NOISE, torch.zeros_like(x)))
    windows = Windows.of(paths)
    for i, path in enumerate(paths):
        own = windows.trajectory == i
        rows, seen = windows.row[own], windows.observed[own]
        assert torch.equal(rows[seen[..., 0].isfinite()], torch.arange(len(path.t)))
        assert torch.equal(seen[seen.isfinite()], path.observed.flatten())
        assert torch.equal(windows.t[own], path.t[rows])
        assert torch.equal(windows.nodes[own], path.x[rows[:, 0]])
        assert torch.equal(rows[:-1, -1], rows[1:, 0])
        assert windows.continues[own].tolist() == [False] + [True] * (len(rows) - 1)


def test_noise_is_averaged_over_and_the_cost_tells_its_size():
    form = law(("viscous",))
    path, x = recording(form, noise=1e-3)
    windows, found = shot(form, [path])
    count = int(windows.observed.isfinite().sum())
    assert 2 * found.cost / count == pytest.approx(1.0, abs=0.2)
    assert gaps(windows, found) < 1e-7
    errors = (found.nodes - x[windows.row[:, 0]]).abs()
    assert errors.max() < 1e-3
    assert found.theta[form.sizes[0]].item() == pytest.approx(TRUE["viscous"], rel=0.02)


def test_observations_far_off_count_less_where_the_noise_is_known():
    form = law(("viscous",))
    path, x = recording(form, noise=1e-3)
    path.observed[[20, 63, 90], 0] += 0.2
    errors = []
    for robust in (False, True):
        windows, found = shot(form, [path], robust=robust)
        errors.append((found.nodes - x[windows.row[:, 0]]).square().mean().sqrt())
    assert errors[1] < 0.2 * errors[0]
    assert errors[1] < 1e-3


def test_what_is_known_besides_the_observations_counts_where_they_tell_nothing():
    """A Gaussian prior of the coefficient, on an orbit that is too short to tell."""
    form = law(("viscous",))
    path, _ = recording(form, t=EVEN[:6])
    windows = Windows.of([path])
    row = torch.zeros(1, len(truth(form)), dtype=torch.float64)
    row[0, -1] = 1e6
    heads = torch.eye(form.sizes[0], len(truth(form)), dtype=torch.float64)
    known = Known(torch.cat([heads, row]), torch.cat([form.head.value.flatten(), torch.tensor([0.08e6]).double()]))
    found = shoot(form, windows, truth(form), windows.nodes, 0.1 * torch.ones(2).double(), known, [4] * 3)
    assert found.theta[-1].item() == pytest.approx(0.08, rel=1e-3)


@pytest.mark.parametrize(("kind", "every"), [("quadratic", 10), ("dry", 1)])
def test_steps_are_enough(kind, every):
    """Errors of the solver are small beside the noise."""
    form = law((kind,))
    path, _ = recording(form, t=EVEN[::every])
    windows = Windows.of([path])
    theta = truth(form)
    found = []
    for noise in (1e-2, 1e-5):
        steps = enough_steps(form, windows, theta, windows.nodes, noise * torch.ones(2).double())
        exact = follow(form, theta, windows.nodes, windows.t, windows.trajectory, [40] * len(steps)).x
        x = follow(form, theta, windows.nodes, windows.t, windows.trajectory, steps).x
        assert (x - exact).abs().max() < 0.5 * noise
        found.append(max(steps))
    assert found == sorted(found)
    assert found[-1] > found[0]
