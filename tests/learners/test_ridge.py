"""The head in closed form, against linear algebra and statistics written out."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.posterior import Posterior
from meta_hamiltonian.models import HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import Pendulum
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection, projected_parameters

SYSTEM = Pendulum()
GRID = SYSTEM.domain.grid(9)
NETWORKS = [HamiltonianNetwork, VectorFieldNetwork]


def learner(kind=HamiltonianNetwork, rank=None, noise=1e-3, width=12, dtype=torch.float64, **options):
    torch.manual_seed(0)
    net = kind(width=width, depth=2, input_scale=SYSTEM.state_box)
    with torch.no_grad():
        for value in net.parameters():  # as large as trained ones
            value.mul_(4)
    return Ridge(net, rank, noise, **options).to(dtype)


def tasks(count=4, support=10, query=15, dtype=torch.float64):
    return sample_episodes(SYSTEM, count, support, query, seed=0, dtype=dtype)


def features_of(net, x):
    """A(x): what the field is when one element of the head is 1 and the others are 0."""
    columns = []
    with torch.no_grad():
        for unit in torch.eye(net.head.in_features, dtype=torch.float64):
            own = {"head.weight": unit[None, None]}
            columns.append(net.field_with(own, x[None])[0].flatten())
    return torch.stack(columns, dim=1).numpy()


@pytest.mark.parametrize("points", [2, 10, 40], ids=["fewer rows than unknowns", "about as many", "more rows"])
@pytest.mark.parametrize("rank", [3, 12, None])
def test_the_solve_is_ridge_regression(points, rank):
    ridge = learner(rank=rank)
    support = tasks(support=points).support
    columns = ridge.solve(support).detach()
    features = features_of(ridge.net, support.x[1])
    w0 = ridge.net.head.weight.detach().numpy()[0]
    factor = ridge.prior_factor.detach().numpy()
    design = features @ factor
    residual = support.dxdt[1].reshape(-1).numpy() - features @ w0
    # As least squares over [B; σ], which does not form normal equations.
    rows = np.vstack([design, math.exp(ridge.log_noise.item() / 2) * np.eye(design.shape[1])])
    v = np.linalg.lstsq(rows, np.concatenate([residual, np.zeros(design.shape[1])]), rcond=None)[0]
    np.testing.assert_allclose(columns[1, :, 0].numpy(), w0 + factor @ v, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("noise", [1e-3, 1e-6])
def test_the_solve_is_accurate_in_single_precision(noise):
    """64 features, 50 rows: in float32 the normal equations lose a tenth of the solution at the smaller ridge."""
    torch.manual_seed(0)
    ridge = Ridge(HamiltonianNetwork(width=64, depth=3, input_scale=SYSTEM.state_box), noise=noise, scale="task")
    single = tasks(support=25, dtype=torch.float32).support
    fields = []
    for dtype in (torch.float32, torch.float64):
        columns = ridge.to(dtype).solve(single.to(dtype)).detach()
        fields.append((ridge.double().net.field_features(GRID) @ columns[:, None].double())[..., 0])
    assert (fields[0] - fields[1]).norm() < 2e-4 * fields[1].norm()


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("rank", [3, None])
def test_the_outer_loop_differentiates_through_the_solve(kind, rank):
    """Against central differences along a random direction in all that is learned."""
    ridge, episodes = learner(kind, rank, scale="task"), tasks()
    ridge.meta_loss(episodes).backward()
    generator = torch.Generator().manual_seed(1)
    directions = [
        torch.randn(value.shape, dtype=value.dtype, generator=generator) * value.detach().abs().mean()
        for value in ridge.parameters()
    ]
    slope = sum((d * value.grad).sum() for d, value in zip(directions, ridge.parameters(), strict=True))
    losses = []
    for h in (1e-6, -1e-6):
        with torch.no_grad():
            for d, value in zip(directions, ridge.parameters(), strict=True):
                value.add_(d, alpha=h)
            losses.append(ridge.meta_loss(episodes).item())
            for d, value in zip(directions, ridge.parameters(), strict=True):
                value.sub_(d, alpha=h)
    assert slope.item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5)
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in ridge.parameters())


@pytest.mark.parametrize("rows", [(3,), (20,), (2, 1), (12, 9)])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_posterior_is_that_of_all_variances_weighted_by_their_likelihood(rows, outputs):
    """Against SciPy's densities and textbook formulas, for one block of rows and for two with noises of their own."""
    generator = np.random.default_rng(0)
    design = generator.normal(size=(2, sum(rows), 5)) * [3, 1, 0.3, 0.1, 0.01]
    targets = np.stack(
        [
            b @ generator.normal(size=(5, outputs)) * t + s * generator.normal(size=(sum(rows), outputs))
            for b, s, t in zip(design, (0.3, 0.01), (1, 30), strict=True)
        ]
    )
    noises, widths, ratios = 10.0 ** np.arange(-3, 1), 10.0 ** np.arange(3), 10.0 ** np.arange(-1, 2)
    blocks = [
        tuple(torch.from_numpy(a) for a in block)
        for block in zip(np.split(design, rows[:1], 1), np.split(targets, rows[:1], 1), strict=True)
        if block[0].shape[1]
    ]
    posterior = Posterior(blocks, *(torch.from_numpy(a) for a in (noises, widths, ratios)))
    samples, _, _ = posterior.sample(20000, torch.Generator().manual_seed(0))
    for i in range(2):
        weights, means, seconds = [], [], []
        for noise in noises:
            for width in widths:
                for ratio in ratios if len(rows) == 2 else [1.0]:
                    variance = np.repeat([noise, noise * ratio], [rows[0], sum(rows) - rows[0]])
                    normal = stats.multivariate_normal(
                        np.zeros(sum(rows)), width * design[i] @ design[i].T + np.diag(variance)
                    )
                    prior = -math.log(width) / 2 - (math.log10(ratio) / 2) ** 2 / 2
                    weights.append(prior + sum(normal.logpdf(y) for y in targets[i].T))
                    covariance = np.linalg.inv(design[i].T @ (design[i] / variance[:, None]) + np.eye(5) / width)
                    means.append(covariance @ design[i].T @ (targets[i] / variance[:, None]))
                    seconds.append(covariance + means[-1][:, :1] @ means[-1][:, :1].T)
        weights = np.exp(np.array(weights) - max(weights))
        weights /= weights.sum()
        mean = np.einsum("w,wro->ro", weights, means)
        np.testing.assert_allclose(posterior.mean[i].numpy(), mean, rtol=1e-7, atol=1e-9)
        covariance = np.einsum("w,wrs->rs", weights, seconds) - mean[:, :1] @ mean[:, :1].T
        deviations = np.sqrt(np.diag(covariance))
        drawn = samples[i, :, :, 0].numpy()
        np.testing.assert_array_less(np.abs(drawn.mean(0) - mean[:, 0]), 5 * deviations / math.sqrt(len(drawn)))
        error = (np.cov(drawn.T) - covariance) / np.outer(deviations, deviations)
        assert np.abs(error).max() < 0.1


@pytest.mark.parametrize("kind", NETWORKS)
def test_calibration_finds_how_heads_are_distributed(kind):
    """Tasks made by the network itself, their v drawn from a known Gaussian, observed with known noise."""
    ridge = learner(kind, rank=2, noise=1e-6)
    outputs = ridge.net.head.out_features
    generator = torch.Generator().manual_seed(0)
    mean, spread = torch.tensor([2.0, -1.0]).double(), torch.tensor([[0.5, 0.0], [0.3, 0.1]]).double()
    v = mean + torch.randn(4000, outputs, 2, dtype=torch.float64, generator=generator) @ spread.T
    episodes = tasks(4000, support=20, query=20)
    with torch.no_grad():
        exact, episodes.query.dxdt = (
            (ridge.centred(points)[0] @ ridge.columns(v.mT)).reshape(points.x.shape)
            for points in (episodes.support, episodes.query)
        )
    noisy = exact + 0.01 * torch.randn(exact.shape, dtype=torch.float64, generator=generator)
    episodes.support = Points(episodes.support.x, noisy)
    ridge.calibrate(episodes)
    torch.testing.assert_close(ridge.mean, mean[:, None].expand(2, outputs), rtol=0.02, atol=0.02)
    torch.testing.assert_close(ridge.spread @ ridge.spread.T, spread @ spread.T, rtol=0.1, atol=2e-3)
    assert ridge.noise.item() == pytest.approx(1e-4, rel=0.03)


def test_the_misfit_is_as_large_and_of_the_kind_of_what_heads_of_the_family_leave():
    """All tasks ask for the same change outside the span of L, more or less of it."""
    ridge = learner(rank=2, noise=1e-9)
    episodes = tasks(400, support=30, query=30)
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(12, 1, dtype=torch.float64, generator=generator)
    sizes = torch.randn(400, 1, 1, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        for points in (episodes.support, episodes.query):
            features, _ = ridge.centred(points)
            points.dxdt = (features @ (ridge.columns(ridge.mean) + sizes * change)).reshape(points.x.shape)
        ridge.calibrate(episodes)
        features, residual = ridge.centred(episodes.query)
        design = features @ ridge.prior_factor
        left = residual - design @ torch.linalg.lstsq(design, residual).solution
        drawn = features @ ridge.misfit_factor
    assert drawn.square().sum(-1).mean().sqrt() == pytest.approx(left.square().mean().sqrt().item(), rel=0.15)
    # Up to what the heads take over, the changes that are drawn are those that are missing.
    kept = drawn - design @ torch.linalg.lstsq(design, drawn).solution
    cosine = (left.mT @ kept).square().sum((-2, -1)) / (left.square().sum((-2, -1)) * kept.square().sum((-2, -1)))
    assert cosine.mean() > 0.9


@pytest.mark.parametrize("kind", NETWORKS)
def test_adapting_finds_a_system_that_the_network_can_describe(kind):
    ridge = learner(kind, rank=4)
    x = tasks(1, support=12).support.x[0]
    v = torch.randn(1, 4, ridge.net.head.out_features, dtype=torch.float64)
    with torch.no_grad():
        columns = ridge.columns(v)
        true = lambda x: (ridge.centred(Points(x[None], torch.zeros_like(x[None])))[0] @ columns).reshape(x.shape)  # noqa: E731
        adapted = ridge.adapt(x, true(x))
        torch.testing.assert_close(adapted.field(GRID), true(GRID), rtol=1e-7, atol=1e-7)


def test_more_steps_change_nothing_and_none_give_the_familys_mean():
    ridge = learner(rank=3)
    ridge.calibrate(tasks(50))
    support = tasks().support[0]
    once, again = (ridge.adapt(support.x, support.dxdt, steps).field(GRID) for steps in (1, 7))
    assert torch.equal(once, again)
    assert torch.equal(ridge.adapt(support.x, support.dxdt).field(GRID), once)
    none = ridge.adapt(support.x, support.dxdt, 0).parameters["head.weight"]
    torch.testing.assert_close(none, ridge.columns(ridge.mean).mT.detach())
    assert ridge.tested_steps([0, 1, 5]) == [1]


@pytest.mark.parametrize("points", [1, 2, 3, 30])
@pytest.mark.parametrize("scale", ["none", "task"])
def test_any_number_of_points_is_enough_and_their_order_does_not_matter(points, scale):
    ridge = learner(scale=scale, rank=5)
    ridge.calibrate(tasks(50))
    support = tasks(support=points).support[2]
    order = torch.randperm(points, generator=torch.Generator().manual_seed(0))
    field = ridge.adapt(support.x, support.dxdt).field(GRID)
    assert field.isfinite().all()
    torch.testing.assert_close(ridge.adapt(support.x[order], support.dxdt[order]).field(GRID), field)


@pytest.fixture(scope="module")
def trained():
    """A ridge learner after seconds of training: the pendulum's energy has three terms, and it finds them."""
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=32, depth=1, activation="sin", input_scale=SYSTEM.state_box)
    ridge = Ridge(net, rank=5, noise=1e-10, scale="task").double()
    optimizer = LevenbergMarquardt(projected_parameters(ridge).values())
    for step in range(40):
        batch = rescaled(sample_episodes(SYSTEM, range(30 * step, 30 * step + 30), 50, 50, 0, dtype=torch.float64))
        optimizer.step(lambda batch=batch: VariableProjection(ridge, batch))
    ridge.calibrate(sample_episodes(SYSTEM, 200, 50, 50, 0, "val", torch.float64))
    return ridge


def test_it_learns_the_pendulum(trained):
    test = sample_episodes(SYSTEM, 100, 25, 50, 1, "test", torch.float64)
    (adapted,) = trained.adapt_tasks(test.support, [1])
    error = (adapted.field(test.query.x) - test.query.dxdt).square().sum(-1).mean()
    assert error < 1e-8 * test.query.dxdt.square().sum(-1).mean()
    heads = adapted.parameters["head.weight"][:, 0]
    values = torch.linalg.svdvals(heads - heads.mean(0))
    assert values[2] > 30 * values[3] or values[3] < 1e-3 * values[0], "its heads span three directions"


@pytest.mark.parametrize(
    ("m", "l", "q0", "start"), [(1.0, 1.0, 0.3, 1.5), (2.0, 0.8, -0.4, 1.2), (0.9, 1.4, 0.0, 0.8), (1.0, 1.0, 0.5, 0.7)]
)
def test_points_of_one_orbit_in_a_corner_of_the_box_are_enough(trained, m, l, q0, start):
    """A ridge that was right for points all over the box would shrink what they tell: the variance is chosen anew."""

    def field(_, x):
        return [x[1] / (m * l**2), -m * l * math.sin(x[0] - q0)]

    orbit = integrate.solve_ivp(field, (0, 8), [start, 0.0], t_eval=np.linspace(0, 8, 25), rtol=1e-12, atol=1e-12).y.T
    x = torch.from_numpy(orbit.copy())
    dxdt = torch.from_numpy(np.array([field(0, state) for state in orbit]))
    adapted = trained.adapt(x, dxdt)
    t = torch.linspace(0, 20, 201, dtype=torch.float64)
    truth = integrate.solve_ivp(
        field, (0, 20), orbit[-1], method="DOP853", t_eval=t.numpy(), rtol=1e-12, atol=1e-12
    ).y.T
    error = (adapted.rollout(x[-1], t) - torch.from_numpy(truth)).square().sum(-1).mean()
    assert error < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"), [({"rank": 0}, "rank=0 .*at least 1"), ({"noise": 0.0}, "noise=0.0 .*a finite")]
)
def test_settings_that_make_no_learner_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ridge(HamiltonianNetwork(width=4, depth=1), **arguments)
