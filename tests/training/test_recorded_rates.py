"""What a law that is learned from few and coarse recordings makes of the rates, and a law that is separable."""

import copy
import dataclasses
import re

import numpy as np
import pytest
import torch
from driven import DAMPING, driven_springs
from scipy.integrate import solve_ivp

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.episodes.recordings import RecordedMember, Recordings, load_recordings
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.observations import Derivatives
from meta_hamiltonian.observations.inertias import Inertias
from meta_hamiltonian.observations.instrument import Instrument, record
from meta_hamiltonian.systems import DoublePendulum, Duffing, HenonHeiles, LotkaVolterra, Pendulum, Recorded, Spring
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection, projected_parameters
from meta_hamiltonian.training.orbits import OrbitLoop
from meta_hamiltonian.training.refined import refine
from meta_hamiltonian.training.surroundings import (
    Friction,
    find_friction,
    find_lawless,
    find_logarithms,
    find_separation,
)


def ridge(domain, degree=Recorded.degree):
    torch.manual_seed(0)
    net = NaturalNetwork(domain.state_dim, width=24, domain=domain, degree=degree)
    return Ridge(net, rank="auto", noise=1e-10, scale="task").double()


@pytest.fixture(scope="module")
def springs(tmp_path_factory):
    """Six springs, and instants so far apart that a period has five of them."""
    folder = tmp_path_factory.mktemp("coarse")
    generator = np.random.default_rng(0)
    t = np.arange(25) * 0.9
    for _ in range(6):
        m, k = generator.uniform(0.8, 1.2, 2)
        w, size, phase = (k / m) ** 0.5, generator.uniform(0.5, 1.0), generator.uniform(0, 6)
        q, p = size * np.cos(w * t + phase), -m * w * size * np.sin(w * t + phase)
        table = np.column_stack([t, q, p])
        np.savetxt(folder / f"m{m:.17g}k{k:.17g}.csv", table, delimiter=",", header="t,q,p", comments="", fmt="%.17g")
    return folder


def rate_error(members):
    """Relative to the rates, of the spring that the name of each member tells."""
    errors = []
    for member in members:
        m, k = map(float, member.name[1:].split("k"))
        true = Spring().field(member.points.x, torch.tensor([[m, k, 0.0]], dtype=torch.float64))
        errors.append((member.points.dxdt - true).norm() / true.norm())
    return max(errors).item()


def test_rates_around_the_law_are_better_than_those_of_splines(springs):
    recordings = load_recordings(str(springs), held_out=0.0)
    data = RecordedDataModule(recordings, 50, 50, 50, "random", 0, torch.float64)
    learner = ridge(recordings.domain)
    errors = [rate_error(data.recordings.train)]
    for _ in range(3):
        learner.find_prior(data.known, good=2.5e-3)
        refine(learner, data)
        errors.append(rate_error(data.recordings.train))
    assert errors[0] > 1e-3
    assert errors[-1] < 0.03 * errors[0]
    assert len(data.recordings.train[0].points.x) == 24  # one for each interval, the first and the last among them
    torch.testing.assert_close(data.batches.points[0].x, data.recordings.train[0].points.x)


def test_logarithms_are_found_by_the_law_that_they_make_simple(springs, tmp_path):
    record(LotkaVolterra(), 6, tmp_path, Instrument(20.0, 3.0))
    for folder, expected in ((tmp_path, ["logarithm"] * 2), (springs, None)):
        data = RecordedDataModule(load_recordings(str(folder), held_out=0.0), 50, 50, 50, "random", 0, torch.float64)
        found = find_logarithms(ridge, data)
        assert (found and [one.kind for one in found.coordinates]) == expected
        assert data.friction == ()


def test_points_of_members_survive_a_checkpoint(springs, tmp_path):
    recordings = load_recordings(str(springs), held_out=0.0)
    data, other = (RecordedDataModule(recordings, 50, 50, 50, "random", 0, torch.float64) for _ in range(2))
    learner = ridge(recordings.domain)
    learner.find_prior(data.known)
    refine(learner, data)
    torch.save(data.state_dict(), tmp_path / "kept.ckpt")
    other.load_state_dict(torch.load(tmp_path / "kept.ckpt", weights_only=True))
    for one, again in zip(data.recordings.train, other.recordings.train, strict=True):
        torch.testing.assert_close(again.points.dxdt, one.points.dxdt, rtol=0, atol=0)
        torch.testing.assert_close(again.paths[0].x, one.paths[0].x, rtol=0, atol=0)
        torch.testing.assert_close(again.variance, one.variance, rtol=0, atol=0)
    torch.testing.assert_close(other.known.query.dxdt, data.known.query.dxdt, rtol=0, atol=0)


@pytest.mark.parametrize(("system", "separable"), [(LotkaVolterra(), True), (DoublePendulum(), False)])
def test_a_law_is_separated_where_that_explains_as_much(system, separable, tmp_path):
    parameters = system.sample_parameters(8, 0)
    x = system.sample_states(parameters, 0, ("some",), range(8), 60)
    names = [c.name for c in system.domain.coordinates]
    for i, (states, rates) in enumerate(zip(x, system.field(x, parameters[:, None]), strict=True)):
        table = torch.cat([states, rates], dim=1).numpy()
        header = ",".join([*names, *(f"d{name}" for name in names)])
        np.savetxt(tmp_path / f"{i}.csv", table, delimiter=",", header=header, comments="", fmt="%.17g")
    recordings = load_recordings(str(tmp_path), held_out=0.0)
    data = RecordedDataModule(recordings, 50, 30, 30, "random", 0, torch.float64)
    learner = ridge(recordings.domain)
    before = copy.deepcopy(learner.state_dict())
    assert find_separation(learner, data) == separable == learner.net.separated
    if not separable:
        for name, value in learner.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("system", "observed"),
    [
        (Duffing(), "q,p"),
        (HenonHeiles(), "q,p"),
        (Duffing(), "q"),
        (HenonHeiles(), "q"),  # p = inertia · dq/dt leaves no other law
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_noise_does_not_mix_positions_and_momenta(system, observed, tmp_path):
    """A law that may mix them explains a part of the noise of these few recordings."""
    record(system, 6, tmp_path, Instrument(observed=observed, duration=8.0, rate=30.0, noise=0.02))
    recordings = load_recordings(str(tmp_path), held_out=0.0)
    data = RecordedDataModule(recordings, 50, 50, 50, "random", 0, torch.float64)
    learner = ridge(recordings.domain)
    assert find_separation(learner, data)
    assert learner.net.separated


def ripples(folder, members=6):
    """Masses on springs over ripples, which no few features approximate."""
    generator = np.random.default_rng(0)
    t = np.linspace(0, 8, 241)
    for k in range(members):
        m, a = generator.uniform(0.5, 2, 2)
        start = [generator.uniform(0.5, 1.5), 0]
        rates = lambda _, x, m=m, a=a: [x[1] / m, -x[0] - 3 * a * np.sin(6 * x[0])]  # noqa: E731
        x = solve_ivp(rates, (0, 8), start, t_eval=t, rtol=1e-9, atol=1e-9).y.T
        x += 0.01 * x.std(0) * generator.normal(size=x.shape)
        np.savetxt(folder / f"{k}.csv", np.column_stack([t, x]), delimiter=",", header="t,q,p", comments="")


def test_one_half_of_the_rates_tells_that_a_law_is_separable(tmp_path, caplog):
    """Before training, a law that mixes q and p comes much nearer to forces that are hard to approximate."""
    ripples(tmp_path)
    data = RecordedDataModule(load_recordings(str(tmp_path), held_out=0.0), 50, 50, 50, "random", 0, torch.float64)
    learner = ridge(data.recordings.domain)
    caplog.set_level("INFO")
    assert find_separation(learner, data)
    separate, mixed = np.reshape([float(e) for e in re.findall(r"[\d.]+(?= |\.$)", caplog.messages[-1])], (2, 2))
    assert np.square(separate).sum() > 1.5 * np.square(mixed).sum()


def test_a_separated_energy_stays_so_where_orbits_are_learned(tmp_path):
    record(Duffing(), 4, tmp_path, Instrument(observed="q", duration=4.0, rate=20.0, noise=0.01))
    recordings = load_recordings(str(tmp_path), held_out=0.0)
    data = RecordedDataModule(recordings, 50, 50, 50, "random", 0, torch.float64)
    learner = ridge(recordings.domain)
    assert find_separation(learner, data)
    loop = OrbitLoop(learner, {}, 1, data)
    optimizer = torch.optim.Adam(loop.parameters(), 1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(loop.misfit(loop._chosen(0)))
        losses[-1].backward()
        loop.on_before_optimizer_step(optimizer)
        optimizer.step()
    assert learner.net.separated
    assert losses[-1] != losses[0]
    unused = ~learner.net.separable_features
    assert (learner.prior_factor[unused] == 0).all()
    assert (learner.net.head.weight[:, unused] == 0).all()


def test_a_separated_energy_stays_so_in_training():
    """∂²H/∂q∂p is 0 for every head that is found, after steps on a family that is separable."""
    system = LotkaVolterra()
    learner = ridge(Domain.box({"q": (-3, 2), "p": (-3, 2)}))  # as lengths: with logarithms nothing is left to train
    learner.net.separate()
    parameters = system.sample_parameters(6, 0)
    x = system.sample_states(parameters, 0, ("some",), range(6), 60)
    points = Points(x, system.field(x, parameters[:, None]))
    episodes = Episodes(points.first(30), Points(x[:, 30:], points.dxdt[:, 30:]))
    learner.find_prior(episodes)
    optimizer = LevenbergMarquardt(projected_parameters(learner).values())
    losses = [optimizer.step(lambda: VariableProjection(learner, episodes)).item() for _ in range(4)]
    assert losses[-1] < losses[0]
    adapted = learner.adapt(x[0], points.dxdt[0])
    x0 = x[0, :5].clone().requires_grad_()
    head = {name: value.expand(5, *value.shape) for name, value in adapted.parameters.items()}
    energies = learner.net.energy_with(head, x0[:, None])
    (slope,) = torch.autograd.grad(energies.sum(), x0, create_graph=True)
    (mixed,) = torch.autograd.grad(slope[:, 0].sum(), x0)
    assert mixed[:, 1].abs().max() < 1e-12 < mixed[:, 0].abs().max()


def test_dense_recordings_stay_as_they_are(tmp_path):
    """Their splines smooth: what they leave tells the errors of the rates, and a law is not to explain them away."""
    record(Spring(), 4, tmp_path, Instrument(duration=6.0, rate=20.0, noise=0.01))
    recordings = load_recordings(str(tmp_path), held_out=0.0)
    data = RecordedDataModule(recordings, 50, 50, 50, "random", 0, torch.float64)
    learner = ridge(recordings.domain)
    learner.find_prior(data.known)
    refine(learner, data)
    for before, after in zip(recordings.train, data.recordings.train, strict=True):
        assert after.points is before.points


@pytest.mark.parametrize("driven", [False, True])
def test_a_driven_member_is_found_among_few_free_ones(driven, tmp_path):
    """By itself, since the law of so few members would be spoilt by it."""
    record(Spring(), 6, tmp_path, Instrument(duration=8.0, rate=20.0, noise=0.005))
    if driven:
        t = np.arange(161) / 20
        q = np.cos(t) + 0.8 * np.cos(1.7 * t + 1)  # of m = k = 1, driven at 1.7
        p = -np.sin(t) - 1.36 * np.sin(1.7 * t + 1)
        np.savetxt(tmp_path / "motor.csv", np.column_stack([t, q, p]), delimiter=",", header="t,q,p", comments="")
    (tmp_path / "members.csv").unlink()
    data = RecordedDataModule(load_recordings(str(tmp_path), held_out=0.0), 50, 50, 50, "random", 0, torch.float64)
    found = find_lawless(ridge(data.recordings.domain), data)
    assert list(found) == (["motor"] if driven else [])
    assert data.friction == ()


def test_members_of_few_points_do_not_make_one_of_many_lawless():
    """Sums of simple terms explain any four points, and not forty of a quartic potential."""
    generator = torch.Generator().manual_seed(0)
    members = []
    for i, count in enumerate((4, 4, 4, 40)):
        x = 4 * torch.rand(count, 2, dtype=torch.float64, generator=generator) - 2
        points = Points(x, torch.stack([x[:, 1], -(x[:, 0] ** 3)], dim=1))
        members.append(
            RecordedMember(str(i), Derivatives(x.numpy(), points.dxdt.numpy()), points, torch.zeros_like(x[0]), {})
        )
    recordings = Recordings(Spring().domain, members, [], [], Inertias((1.0,)), [])
    data = RecordedDataModule(recordings, 4, 4, 4, "random", 0, torch.float64)
    assert find_lawless(ridge(recordings.domain), data) == {}


def recorded(system, count, folder, noise):
    """The data module of members of a family, with noise in their states."""
    record(system, count, folder, Instrument(noise=noise))
    return RecordedDataModule(load_recordings(str(folder), held_out=0.0), 50, 50, 50, "random", 0, torch.float64)


@pytest.mark.parametrize("system", [Duffing(), HenonHeiles()])
def test_a_polynomial_law_is_found_as_one_in_spite_of_noise(system, tmp_path):
    """Hidden units take what products of two coordinates leave, and with it the noise."""
    data = recorded(system, 8, tmp_path, 0.01)
    assert find_logarithms(ridge, data) is None
    assert find_lawless(ridge(data.recordings.domain), data) == {}
    few, powers = ridge(data.recordings.domain, degree=2), ridge(data.recordings.domain)
    for learner in (few, powers):
        learner.find_prior(data.known)
    assert few.uses_body
    assert not powers.uses_body


def test_hidden_units_have_no_high_powers_beside_them(tmp_path):
    """The energy of a pendulum whose angle is not known to be one is no polynomial."""
    data = recorded(Pendulum(), 4, tmp_path, 0.0)
    coordinates = [dataclasses.replace(one, kind="length") for one in data.recordings.domain.coordinates]
    learner = ridge(dataclasses.replace(data.recordings.domain, coordinates=tuple(coordinates)))
    learner.find_prior(data.known)
    assert learner.uses_body
    rows, (higher,) = learner.both_centred(data.known)[1].features, learner.net.more
    powers = len(higher.places)
    for used in (learner.prior_factor, rows.abs().sum((0, 1))[:, None]):
        assert not used[-powers:].any()
        assert used[:-powers].any()


def test_a_member_whose_rates_are_hardly_known_is_not_lawless(tmp_path):
    data = recorded(Spring(), 6, tmp_path, 1e-4)
    first = data.recordings.train[0]
    random = np.random.default_rng(0)
    noisy = dataclasses.replace(
        first,
        points=Points(
            first.points.x, first.points.dxdt + 0.1 * torch.from_numpy(random.normal(size=first.points.x.shape))
        ),
    )
    for variance, expected in ((first.variance, [first.name]), (torch.full_like(first.variance, 0.01), [])):
        data.replace({first.name: dataclasses.replace(noisy, variance=variance)})
        assert list(find_lawless(ridge(data.recordings.domain), data)) == expected


@pytest.mark.parametrize("count", [3, 5, 8])
def test_exact_rates_of_free_members_are_no_evidence_for_friction(count):
    """What the laws leave are digits, and some kind of friction always leaves the fewest."""
    generator = torch.Generator().manual_seed(0)
    members = []
    for i in range(count):
        x = -1 + 2 * torch.rand(60, 2, dtype=torch.float64, generator=generator)
        points = Points(x, Spring().field(x, 0.5 + torch.rand(1, 3, generator=generator).double()))
        members.append(
            RecordedMember(str(i), Derivatives(x.numpy(), points.dxdt.numpy()), points, torch.zeros_like(x[0]), {})
        )
    recordings = Recordings(Spring().domain, members, [], [], Inertias((1.0,)), [])
    data = RecordedDataModule(recordings, 4, 50, 50, "random", 0, torch.float64)
    assert find_friction(ridge(recordings.domain), data) == Friction(())


@pytest.mark.parametrize("free", [0, 2])
def test_gains_of_inputs_are_found_beside_friction(free, tmp_path):
    truth = driven_springs(tmp_path, 6, np.arange(241) / 20, noise=2e-3, free=free)
    data = RecordedDataModule(load_recordings(str(tmp_path), held_out=0.0), 50, 50, 50, "random", 0, torch.float64)
    learner = ridge(data.recordings.domain)
    assert find_lawless(learner, data) == {}
    assert find_friction(learner, data) == Friction(("viscous",))
    learner.find_prior(data.known)
    found = learner.free_coefficients(data.known)
    assert found[:, 0].mean().item() == pytest.approx(DAMPING, rel=0.2)
    assert found[:, 1].tolist() == pytest.approx(truth[:, 1].tolist(), abs=0.03)


def test_coarse_recordings_of_driven_members_are_smoothed_around_the_law(tmp_path):
    """The rates of the true law are those of the states and inputs at the same points."""
    truth = driven_springs(tmp_path, 6, np.arange(40) * 0.4)
    recordings = load_recordings(str(tmp_path), held_out=0.0)
    data = RecordedDataModule(recordings, 50, 50, 50, "random", 0, torch.float64)
    data.suppose_friction(("viscous",))
    learner = ridge(recordings.domain)

    def error():
        worst = 0.0
        for member, (k, gain) in zip(data.recordings.train, truth, strict=True):
            assert member.inputs is not None
            (q, p), u = member.points.x.T, member.inputs[:, 0]
            true = torch.stack([p, -k * q - DAMPING * p + gain * u], dim=1)
            worst = max(worst, ((member.points.dxdt - true).norm() / true.norm()).item())
        return worst

    before = error()
    for _ in range(4):
        learner.find_prior(data.known)
        refine(learner, data)
    assert before > 0.03
    assert error() < 1e-3 * before


def test_two_kinds_of_friction_are_found_together(tmp_path):
    generator = np.random.default_rng(0)
    t = np.arange(241) / 20
    for i in range(8):
        k, b, c = generator.uniform(0.8, 1.2), generator.uniform(0.02, 0.06), generator.uniform(0.05, 0.15)

        def rate(_, x, k=k, b=b, c=c):
            return [x[1], -k * x[0] - b * x[1] - c * x[1] * abs(x[1])]

        x = solve_ivp(rate, (0, 12), [generator.uniform(0.8, 1.5), 0.0], "RK45", t, rtol=1e-9, atol=1e-10).y.T
        np.savetxt(tmp_path / f"{i}.csv", np.column_stack([t, x]), delimiter=",", header="t,q,p", comments="")
    data = RecordedDataModule(load_recordings(str(tmp_path), held_out=0.0), 50, 50, 50, "random", 0, torch.float64)
    learner = ridge(data.recordings.domain)
    assert find_friction(learner, data) == Friction(("viscous", "quadratic"))
    assert data.friction == ("viscous", "quadratic")
    learner.find_prior(data.known)
    learner.friction.estimate(data.friction, learner.free_coefficients(data.known))
    (viscous, _), (quadratic, _) = learner.friction.known.values()
    assert viscous == pytest.approx(0.04, abs=0.015)
    assert quadratic == pytest.approx(0.1, abs=0.03)
    single = learner.float().free_coefficients(data.known.to(torch.float32)).mean(0)
    assert single.tolist() == pytest.approx([viscous, quadratic], rel=0.05), "in single precision as well"


def test_members_that_excite_themselves_are_no_family_with_a_hamiltonian(tmp_path):
    """Van der Pol's oscillators: the friction that explains them brings energy in."""
    generator = np.random.default_rng(0)
    t = np.arange(301) / 30
    for i in range(8):
        k, c = generator.uniform(0.7, 1.5), generator.uniform(0.2, 0.6)

        def rate(_, x, k=k, c=c):
            return [x[1], -k * x[0] + c * (1 - x[0] ** 2) * x[1]]

        x = solve_ivp(rate, (0, 10), [generator.uniform(0.4, 2.0), 0.0], "RK45", t, rtol=1e-9, atol=1e-10).y.T
        x += 0.01 * x.std(0) * generator.normal(size=x.shape)
        np.savetxt(tmp_path / f"{i}.csv", np.column_stack([t, x]), delimiter=",", header="t,q,p", comments="")
    data = RecordedDataModule(load_recordings(str(tmp_path), held_out=0.0), 50, 50, 50, "random", 0, torch.float64)
    learner = ridge(data.recordings.domain)
    find_separation(learner, data)
    found = find_friction(learner, data)
    assert found.kinds == ()
    assert "friction that brings energy in" in found.doubt
