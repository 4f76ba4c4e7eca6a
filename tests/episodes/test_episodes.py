import math

import numpy as np
import pytest
import torch
from scipy import stats

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()


def true_field(x, parameters):
    """The protocol's field, in NumPy, of states [tasks, points, 2]."""
    q, p = x[..., 0].numpy(), x[..., 1].numpy()
    m, l, q0 = (v[:, None] for v in parameters.T.numpy())
    return np.stack([p / (m * l**2), -m * l * np.sin(q - q0)], axis=-1)


def assert_same(a, b):
    for name in ("support", "query"):
        assert torch.equal(getattr(a, name).x, getattr(b, name).x)
        assert torch.equal(getattr(a, name).dxdt, getattr(b, name).dxdt)
    assert torch.equal(a.parameters, b.parameters)


def test_shapes_and_default_dtype():
    episodes = sample_episodes(SYSTEM, tasks=10, support=25, query=50, seed=0)
    assert len(episodes) == 10
    assert episodes.support.x.shape == episodes.support.dxdt.shape == (10, 25, 2)
    assert episodes.query.x.shape == episodes.query.dxdt.shape == (10, 50, 2)
    assert episodes.parameters.shape == (10, 3)
    for tensor in (episodes.support.x, episodes.support.dxdt, episodes.query.x, episodes.parameters):
        assert tensor.dtype == torch.float32


def test_states_are_uniform_in_the_state_box():
    x = sample_episodes(SYSTEM, 1000, 20, 0, seed=0, dtype=torch.float64).support.x.reshape(-1, 2)
    for values, half in zip(x.T.numpy(), [2 * math.pi, 20.0], strict=True):
        assert np.abs(values).max() <= half
        assert stats.kstest(values, "uniform", args=(-half, 2 * half)).pvalue > 1e-3


def test_derivatives_are_those_of_each_tasks_own_system():
    episodes = sample_episodes(SYSTEM, 20, 30, 40, seed=1, dtype=torch.float64)
    for points in (episodes.support, episodes.query):
        expected = true_field(points.x, episodes.parameters)
        np.testing.assert_allclose(points.dxdt.numpy(), expected, rtol=1e-13, atol=1e-13)


def test_single_precision_episodes_are_the_rounded_double_ones():
    """Their derivatives are those of the exact states, not of the rounded ones."""
    single = sample_episodes(SYSTEM, 20, 30, 40, seed=2)
    double = sample_episodes(SYSTEM, 20, 30, 40, seed=2, dtype=torch.float64)
    assert_same(single, double.to(torch.float32))


def test_parameters_are_the_systems():
    episodes = sample_episodes(SYSTEM, 12, 1, 1, seed=3, split="val", dtype=torch.float64)
    assert torch.equal(episodes.parameters, SYSTEM.sample_parameters(12, seed=3, split="val"))


def test_fewer_points_are_the_first_of_more_and_change_nothing_else():
    more = sample_episodes(SYSTEM, 5, 100, 70, seed=0)
    fewer = sample_episodes(SYSTEM, 5, 25, 65, seed=0)
    assert torch.equal(fewer.support.x, more.support.x[:, :25])
    assert torch.equal(fewer.support.dxdt, more.support.dxdt[:, :25])
    assert torch.equal(fewer.query.x, more.query.x[:, :65])
    assert torch.equal(fewer.parameters, more.parameters)


def test_a_range_of_tasks_is_that_slice_of_all():
    whole = sample_episodes(SYSTEM, 40, 10, 5, seed=0)
    assert_same(sample_episodes(SYSTEM, range(13, 29), 10, 5, seed=0), whole[13:29])


def test_support_and_query_and_tasks_share_no_state():
    episodes = sample_episodes(SYSTEM, 20, 50, 50, seed=0, dtype=torch.float64)
    q = torch.cat([episodes.support.x, episodes.query.x])[..., 0].flatten()
    assert len(q.unique()) == len(q)


@pytest.mark.parametrize("other", [{"split": "val"}, {"split": "test"}, {"seed": 1}])
def test_other_splits_and_seeds_give_other_systems_and_states(other):
    a = sample_episodes(SYSTEM, 50, 20, 1, **{"seed": 0, "split": "train"}, dtype=torch.float64)
    b = sample_episodes(SYSTEM, 50, 20, 1, **{"seed": 0, "split": "train", **other}, dtype=torch.float64)
    assert not torch.isin(a.parameters, b.parameters).any()
    assert not torch.isin(a.support.x, b.support.x).any()


def test_the_gravity_of_the_system_reaches_the_derivatives():
    weak = sample_episodes(Pendulum(1.0), 3, 10, 1, seed=0, dtype=torch.float64).support
    strong = sample_episodes(Pendulum(3.0), 3, 10, 1, seed=0, dtype=torch.float64).support
    assert torch.equal(weak.x, strong.x)
    factor = torch.tensor([1.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(strong.dxdt, factor * weak.dxdt)


def test_first_keeps_the_first_points_of_every_task():
    support = sample_episodes(SYSTEM, 4, 10, 1, seed=0).support
    first = support.first(3)
    assert torch.equal(first.x, support.x[:, :3])
    assert torch.equal(first.dxdt, support.dxdt[:, :3])
    assert torch.equal(support[2].first(3).x, support.x[2, :3])


def test_indexing_picks_tasks():
    episodes = sample_episodes(SYSTEM, 6, 4, 3, seed=0)
    picks = torch.tensor([4, 0])
    picked = episodes[picks]
    assert len(picked) == 2
    assert torch.equal(picked.parameters, episodes.parameters[picks])
    assert torch.equal(picked.support.dxdt[0], episodes.support.dxdt[4])
    assert torch.equal(picked.query.x[1], episodes.query.x[0])
    assert_same(episodes[2:4], sample_episodes(SYSTEM, range(2, 4), 4, 3, seed=0))
    assert torch.equal(episodes.support[5].dxdt, episodes.support.dxdt[5])


def test_to_moves_everything_and_leaves_the_original():
    episodes = sample_episodes(SYSTEM, 2, 3, 4, seed=0)
    moved = episodes.to(device="meta", dtype=torch.float64)
    for tensor in (
        moved.support.x,
        moved.support.dxdt,
        moved.query.x,
        moved.query.dxdt,
        moved.parameters,
    ):
        assert tensor.dtype == torch.float64
        assert tensor.device.type == "meta"
    assert episodes.query.dxdt.dtype == torch.float32
    assert episodes.query.dxdt.device.type == "cpu"


NOISE = 0.05


@pytest.mark.parametrize("points", [1, 25, 100])
def test_noise_is_gaussian_and_relative_to_each_coordinate(points):
    exact = sample_episodes(SYSTEM, 2000, points, 5, seed=0, dtype=torch.float64)
    noisy = sample_episodes(SYSTEM, 2000, points, 5, seed=0, dtype=torch.float64, noise=NOISE)
    typical = sample_episodes(SYSTEM, 2000, 64, 0, seed=0, dtype=torch.float64).support
    errors = []
    for name in ("x", "dxdt"):
        rms = getattr(typical, name).square().mean(1, keepdim=True).sqrt()
        errors.append(((getattr(noisy.support, name) - getattr(exact.support, name)) / rms / NOISE).reshape(-1, 2))
    errors = torch.cat(errors, dim=-1).numpy()
    for column in errors.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    correlations = np.corrcoef(errors.T)[~np.eye(4, dtype=bool)]
    assert np.abs(correlations).max() < 4.5 / math.sqrt(len(errors))


def test_what_shall_be_predicted_has_no_noise():
    exact = sample_episodes(SYSTEM, 5, 10, 10, seed=0)
    noisy = sample_episodes(SYSTEM, 5, 10, 10, seed=0, noise=NOISE)
    assert torch.equal(noisy.query.x, exact.query.x)
    assert torch.equal(noisy.query.dxdt, exact.query.dxdt)
    assert torch.equal(noisy.parameters, exact.parameters)
    assert (noisy.support.x != exact.support.x).all()


def test_noisy_points_are_the_same_whatever_else_is_drawn():
    more = sample_episodes(SYSTEM, 9, 100, 5, seed=0, noise=NOISE)
    fewer = sample_episodes(SYSTEM, range(3, 7), 25, 5, seed=0, noise=NOISE)
    assert torch.equal(fewer.support.x, more.support.x[3:7, :25])
    assert torch.equal(fewer.support.dxdt, more.support.dxdt[3:7, :25])
