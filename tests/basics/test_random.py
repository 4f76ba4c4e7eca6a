import numpy as np
import pytest
import torch
from numpy.random import Philox
from scipy import stats

from meta_hamiltonian.basics.philox import philox
from meta_hamiltonian.basics.random import generator, uniform

# Points are drawn in chunks of 64; these counts lie on both sides of its boundaries.
COUNTS = [1, 25, 63, 64, 65, 128, 129]


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("points", [1, 64, 70])
def test_a_task_has_its_own_numbers_whatever_else_is_drawn(dim, points):
    whole = uniform(3, ("train", "support"), range(40), (points, dim))
    for tasks in (range(10), range(7, 12), range(39, 40), range(0, 1)):
        part = uniform(3, ("train", "support"), tasks, (points, dim))
        assert part.shape == (len(tasks), points, dim)
        np.testing.assert_array_equal(part, whole[tasks.start : tasks.stop])


@pytest.mark.parametrize("points", COUNTS)
def test_fewer_points_are_the_first_of_more(points):
    more = uniform(0, ("test", "support"), range(5, 9), (200, 2))
    fewer = uniform(0, ("test", "support"), range(5, 9), (points, 2))
    assert fewer.shape == (4, points, 2)
    np.testing.assert_array_equal(fewer, more[:, :points])


def test_a_task_far_away_is_reached_at_once():
    """Drawing up to it would need all memory there is."""
    far = 10**12
    both = uniform(0, ("train", "support"), range(far, far + 2), (3, 2))
    np.testing.assert_array_equal(uniform(0, ("train", "support"), range(far + 1, far + 2), (3, 2)), both[1:])
    assert len(np.unique(both)) == both.numel()


def test_the_same_call_gives_the_same_numbers():
    np.testing.assert_array_equal(
        uniform(7, ("val", "query"), range(3), (10, 2)), uniform(7, ("val", "query"), range(3), (10, 2))
    )


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("points", COUNTS)
def test_the_numbers_are_those_that_numpy_draws_chunk_by_chunk(points, dim):
    """Few numbers of a task are drawn by themselves, without those between them."""
    found = uniform(2, ("train", "support"), range(3, 40), (points, dim))
    chunks = [generator(2, "train", "support", chunk).random((40, 64, dim)) for chunk in range(1 + (points - 1) // 64)]
    np.testing.assert_array_equal(found, np.concatenate(chunks, axis=1)[3:, :points])


@pytest.mark.parametrize("key", [(0, 0), (2**64 - 1, 2**63), (12345678901234567890, 98765432109876543)])
def test_philox_is_numpys(key):
    counters = np.r_[0:70, 2**32 - 2 : 2**32 + 2, 2**53 + 1, 2**63 - 2]
    found = philox(torch.from_numpy(counters.astype(np.int64)), key).numpy().view(np.uint64)
    for counter, four in zip(counters, found, strict=True):
        bits = Philox(key=np.array(key, dtype=np.uint64), counter=[int(counter), 0, 0, 0])
        bits.advance(-1)  # NumPy counts before it draws
        np.testing.assert_array_equal(four, bits.random_raw(4))


def test_no_two_seeds_labels_tasks_or_chunks_share_a_number():
    """Streams that overlap anywhere repeat numbers of 53 random bits, which chance does not."""
    streams = [
        uniform(seed, labels, range(30), (130, 2))
        for seed in (0, 1, 2, 1000)
        for labels in [("train", "support"), ("train", "query"), ("test", "support"), ("support", "train")]
    ]
    numbers = np.concatenate([stream.ravel() for stream in streams])
    assert len(np.unique(numbers)) == len(numbers)


def test_streams_are_uncorrelated():
    streams = np.stack(
        [
            uniform(seed, (split, "support"), range(200), (64, 2)).ravel()
            for seed in (0, 1, 2)
            for split in ("train", "val", "test")
        ]
    )
    correlations = np.corrcoef(streams)[~np.eye(len(streams), dtype=bool)]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(streams.shape[1])


@pytest.mark.parametrize(
    "select",
    [
        lambda u: u,
        lambda u: u[:, 0, 0],  # one number a task: what parameters are made of
        lambda u: u[:, 64:, 1],  # the second chunk
        lambda u: u[0],
    ],
    ids=["all", "first of every task", "second chunk", "one task"],
)
def test_numbers_are_uniform_in_the_unit_interval(select):
    numbers = select(uniform(11, ("train", "support"), range(2000), (130, 2))).ravel()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    n = len(numbers)
    assert numbers.min() < 20 / n
    assert numbers.max() > 1 - 20 / n
    assert abs(numbers.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / n)
    assert abs(numbers.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / n)
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("other", [(1, "train", "meta-batch", 3), (0, "val", "meta-batch", 3), (0, "train", "x", 3)])
def test_generators_of_other_seeds_and_labels_are_independent(other):
    mine = generator(0, "train", "meta-batch", 3).random(10_000)
    theirs = generator(*other).random(10_000)
    assert len(np.intersect1d(mine, theirs)) == 0
    assert abs(np.corrcoef(mine, theirs)[0, 1]) < 4.5 / 100
    np.testing.assert_array_equal(mine, generator(0, "train", "meta-batch", 3).random(10_000))


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        generator(-1, "train")
