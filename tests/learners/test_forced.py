"""Friction and inputs found together with the head, against textbook regressions and known systems."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from meta_hamiltonian import load
from meta_hamiltonian.dynamics import FRICTION, Signal, Terms
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.numerics.posterior import Posterior
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()
DATA = Path(__file__).parents[1] / "data"
PARAMETERS = torch.tensor([[0.8, 1.1, 0.3]], dtype=torch.float64)  # m, l, q0
GRID = SYSTEM.domain.grid(9)
# Coefficients with which a good part of dp/dt is friction, at velocities from −20 to 20.
TRUE = {"viscous": 0.05, "quadratic": 0.004, "dry": 0.4}
WIDTH = 0.1


# The posterior by itself.


def regression(seed, rows=(8, 8), rank=4, terms=2, noise=0.1):
    """y = B u + F d + ε in two blocks, the second of which has F."""
    generator = np.random.default_rng(seed)
    design = generator.normal(size=(sum(rows), rank)) * np.geomspace(3, 0.1, rank)
    free = np.vstack([np.zeros((rows[0], terms)), generator.normal(size=(rows[1], terms))])
    truth = generator.normal(size=rank), generator.normal(size=terms)
    y = design @ truth[0] + free @ truth[1] + noise * generator.normal(size=sum(rows))
    return design, free, y


def posterior_of(design, free, y, candidates, first):
    noises, widths, ratios = (torch.from_numpy(np.atleast_1d(np.asarray(v, dtype=float))) for v in candidates)
    parts = [slice(None, first), slice(first, None)]
    blocks = [(torch.from_numpy(design[p])[None], torch.from_numpy(y[p])[None, :, None]) for p in parts]
    return Posterior(
        blocks, noises, widths, ratios, free=None if free is None else torch.from_numpy(free[first:])[None]
    )


def covariance(design, noise, width, ratio, first):
    own = np.full(len(design), noise)
    own[first:] *= ratio
    return width * design @ design.T + np.diag(own)


def log_marginal(design, free, y, candidates, first, ranges):
    """log p(y), u integrated out as a Gaussian process and d, flat in `ranges`, with the textbook formula."""
    found = []
    for noise in candidates[0]:
        for width in candidates[1]:
            for ratio in candidates[2]:
                prior = -np.log(width) / 2 - (np.log(ratio) / np.log(10)) ** 2 / 8
                c = covariance(design, noise, width, ratio, first)
                if free is None:
                    found.append(prior + stats.multivariate_normal(cov=c).logpdf(y))
                    continue
                information = free.T @ np.linalg.solve(c, free)
                best = np.linalg.solve(information, free.T @ np.linalg.solve(c, y))
                peak = stats.multivariate_normal(mean=free @ best, cov=c).logpdf(y)
                volume = len(best) / 2 * np.log(2 * np.pi) - np.linalg.slogdet(information)[1] / 2
                found.append(prior + peak + volume - np.log(ranges).sum())
    return logsumexp(found)


@pytest.mark.parametrize(
    "candidates",
    [([0.01], [1.0], [1.0]), ([0.01], [1.0], [7.0]), ([1e-3, 0.01, 0.3], [0.5, 4.0], [0.1, 1.0, 10.0])],
    ids=["one", "one with other noise in the second block", "many"],
)
@pytest.mark.parametrize("seed", range(3))
def test_evidence_for_free_columns_is_that_of_the_brute_force_regression(candidates, seed):
    design, free, y = regression(seed)
    ranges = np.array([0.7, 5.0])
    with_them = posterior_of(design, free, y, candidates, 8).log_evidence(torch.from_numpy(ranges)[None])
    without = posterior_of(design, None, y, candidates, 8).log_evidence()
    expected = log_marginal(design, free, y, candidates, 8, ranges) - log_marginal(
        design, None, y, candidates, 8, ranges
    )
    assert (with_them - without).item() == pytest.approx(expected, rel=1e-8)


def test_evidence_of_one_column_and_of_two_can_be_compared():
    design, free, y = regression(5)
    candidates = ([1e-3, 0.01, 0.3], [0.5, 4.0], [0.1, 1.0, 10.0])
    ranges = np.array([0.7, 5.0])
    found = [
        posterior_of(design, free[:, :k], y, candidates, 8).log_evidence(torch.from_numpy(ranges[:k])[None]).item()
        for k in (1, 2)
    ]
    expected = [log_marginal(design, free[:, :k], y, candidates, 8, ranges[:k]) for k in (1, 2)]
    assert found[1] - found[0] == pytest.approx(expected[1] - expected[0], rel=1e-8)


@pytest.mark.parametrize("ratio", [1.0, 7.0])
@pytest.mark.parametrize("rows", [(7, 9), (3, 2), (1, 30)])
def test_free_coefficients_and_the_rest_are_one_least_squares_problem(rows, ratio):
    """[B F; √(noise/width) 0] (u, d) = (y, 0) by NumPy, rows of the second block scaled."""
    design, free, y = regression(1, rows)
    noise, width = 0.02, 3.0
    posterior = posterior_of(design, free, y, ([noise], [width], [ratio]), rows[0])
    scale = np.where(np.arange(len(y)) < rows[0], 1.0, ratio**-0.5)[:, None]
    penalty = np.hstack([(noise / width) ** 0.5 * np.eye(design.shape[1]), np.zeros((design.shape[1], free.shape[1]))])
    matrix = np.vstack([scale * np.hstack([design, free]), penalty])
    expected = np.linalg.lstsq(matrix, np.append(scale[:, 0] * y, np.zeros(design.shape[1])), rcond=None)[0]
    np.testing.assert_allclose(posterior.mean[0, :, 0].numpy(), expected[: design.shape[1]], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        posterior.free(posterior.mean)[0].numpy(), expected[design.shape[1] :], rtol=1e-7, atol=1e-9
    )


def test_samples_have_the_mean_and_the_covariance_of_the_regression():
    design, free, y = regression(2)
    noise, width, ratio = 0.02, 3.0, 4.0
    posterior = posterior_of(design, free, y, ([noise], [width], [ratio]), 8)
    generator = torch.Generator().manual_seed(0)
    u, _, of_last = posterior.sample(40_000, generator)
    assert torch.allclose(of_last, torch.tensor(noise * ratio, dtype=torch.float64))
    d = posterior.sample_free(u, of_last, generator)[0]
    found = torch.cat([u[0, ..., 0], d], dim=-1)
    weights = 1 / np.where(np.arange(len(y)) < 8, noise, noise * ratio)
    both = np.hstack([design, free])
    precision = both.T @ (weights[:, None] * both)
    precision[: design.shape[1], : design.shape[1]] += np.eye(design.shape[1]) / width
    expected = np.linalg.inv(precision)
    mean = expected @ both.T @ (weights * y)
    size = np.sqrt(np.diag(expected))
    np.testing.assert_allclose((found.mean(0).numpy() - mean) / size, 0, atol=0.03)
    np.testing.assert_allclose(found.T.cov().numpy() / np.outer(size, size), expected / np.outer(size, size), atol=0.04)


# Systems of the family.


def states(count=25, seed=0):
    return SYSTEM.domain.draw(seed, ("observed",), range(1), count)[0]


def observed(coefficients, count=25, noise=0.0, seed=0, push=0.0):
    """Points of the pendulum with friction; `push` is what inputs add to dp/dt."""
    x = states(count, seed)
    v, dp = SYSTEM.field(x, PARAMETERS).chunk(2, dim=-1)
    friction = sum(d * FRICTION[kind].force(v, WIDTH) for kind, d in coefficients.items())
    dxdt = torch.cat([v, dp - friction + push], dim=-1)
    generator = torch.Generator().manual_seed(seed)
    noisy = [
        value + noise * value.square().mean(0).sqrt() * torch.randn(value.shape, generator=generator).double()
        for value in (x, dxdt)
    ]
    return Points(*noisy)


def found_from(points, kinds, name="ridge", u=None, samples=0, signal=None):
    return load(DATA / f"{name}.ckpt").adapt_forced(points, Terms(kinds, WIDTH, u), signal, samples=samples)


@pytest.mark.parametrize("kinds", [("viscous",), ("quadratic",), ("dry",), tuple(FRICTION)])
def test_exact_points_give_the_coefficients_and_the_head_of_the_system_without_friction(kinds):
    true = {kind: TRUE[kind] for kind in kinds}
    found = found_from(observed(true), kinds)
    assert found.samples is None
    assert found.adapted.forces.kinds == kinds
    coefficients = found.adapted.forces.coefficients[0].tolist()
    assert coefficients == pytest.approx(list(true.values()), rel=1e-5)
    plain = observed({})
    alone = load(DATA / "ridge.ckpt").adapt(plain.x, plain.dxdt)
    field = dataclasses.replace(found.adapted, forces=None).field(GRID[None])[0]
    error = (field - alone.field(GRID)).square().mean().sqrt() / alone.field(GRID).square().mean().sqrt()
    assert error < 1e-4


@pytest.mark.parametrize("kind", FRICTION)
@pytest.mark.parametrize("seed", range(3))
def test_noisy_points_give_the_coefficient_within_its_error(kind, seed):
    found = found_from(observed({kind: TRUE[kind]}, 60, 0.05, seed), (kind,), samples=200)
    drawn = found.samples.forces.coefficients[:, 0]
    assert (drawn >= 0).all()
    assert found.samples.forces.kinds == (kind,)
    error = (found.adapted.forces.coefficients[0, 0] - TRUE[kind]).abs()
    assert error < 4 * drawn.std()
    assert drawn.std() < TRUE[kind], "it is told from nothing"


@pytest.mark.parametrize("name", ["ridge", "anil"])
@pytest.mark.parametrize("kind", FRICTION)
def test_a_force_that_brings_energy_in_is_no_friction(name, kind):
    found = found_from(observed({kind: -TRUE[kind]}), (kind,), name)
    assert found.adapted.forces.kinds == ()
    assert found.adapted.forces.coefficients.shape == (1, 0)


def test_of_two_kinds_the_one_that_would_bring_energy_in_is_left_out():
    points = observed({"viscous": TRUE["viscous"], "dry": -TRUE["dry"]}, 60)
    found = found_from(points, ("viscous", "dry"), samples=50)
    assert found.adapted.forces.kinds == ("viscous",)
    alone = found_from(points, ("viscous",))
    assert torch.equal(found.adapted.forces.coefficients, alone.adapted.forces.coefficients)
    assert found.log_evidence == alone.log_evidence
    assert found.samples.forces.coefficients.shape == (50, 1)


def test_inputs_with_a_gain_are_found_and_friction_beside_them():
    t = torch.linspace(0, 10, 40, dtype=torch.float64)
    u = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gains = torch.tensor([[0.7], [-2.0]], dtype=torch.float64)
    signal = Signal(t, u)
    found = found_from(observed({"viscous": 0.05}, 40, push=u @ gains), ("viscous",), u=u, signal=signal)
    assert found.adapted.forces.coefficients.item() == pytest.approx(0.05, rel=1e-5)
    torch.testing.assert_close(found.adapted.forces.gains[0], gains.mT, rtol=1e-5, atol=0)
    assert found.adapted.forces.signal is signal


def test_without_forces_it_is_the_adaptation_itself():
    points = observed({}, 25, 0.05)
    found = found_from(points, ())
    alone = load(DATA / "ridge.ckpt").adapt(points.x, points.dxdt)
    assert torch.equal(found.adapted.field(GRID[None])[0], alone.field(GRID))
    assert found.adapted.forces.coefficients.shape == (1, 0)


@pytest.mark.parametrize("kind", FRICTION)
def test_evidence_speaks_for_the_kind_that_acts_and_against_friction_where_there_is_none(kind):
    points = observed({kind: TRUE[kind]}, 60, 0.02)
    evidence = {kinds: found_from(points, kinds).log_evidence for kinds in [(), *((k,) for k in FRICTION)]}
    assert max(evidence, key=evidence.__getitem__) == (kind,)
    assert evidence[kind,] > evidence[()] + 10
    free = observed({}, 60, 0.02)
    assert found_from(free, (kind,)).log_evidence < found_from(free, ()).log_evidence + 3


@pytest.mark.parametrize("name", ["anil", "maml"])
@pytest.mark.parametrize("kind", FRICTION)
def test_learners_by_gradient_steps_find_friction_roughly(name, kind):
    found = found_from(observed({kind: TRUE[kind]}, 60), (kind,), name)
    assert (found.samples, found.log_evidence) == (None, None)
    assert found.adapted.forces.coefficients.item() == pytest.approx(TRUE[kind], rel=0.5)


@pytest.mark.parametrize("name", ["ridge", "anil"])
def test_the_learner_is_not_changed(name):
    learner = load(DATA / f"{name}.ckpt")
    before = copy.deepcopy(learner.state_dict())
    learner.adapt_forced(observed(TRUE), Terms(("viscous",), WIDTH))
    for key, value in learner.state_dict().items():
        assert torch.equal(value, before[key])
