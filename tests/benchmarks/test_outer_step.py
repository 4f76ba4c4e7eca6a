"""Tasks per second of one complete outer step, of this library and of others, in turn and several times."""

import functools

import ours
import pytest
import torch
import with_higher
import with_jax
import with_learn2learn
import with_torchopt
from work import FLOP_PER_TASK, POINTS, WIDTH

REPEATS = 5
COLUMNS = [("maml", 10), ("maml", 100), ("anil", 100)]
ROWS = {
    "this, compiled": lambda name, tasks: ours.gradient_learner(name, tasks, compile=True),
    "this, eager": ours.gradient_learner,
    "learn2learn": lambda name, tasks: getattr(with_learn2learn, name)(tasks),
    "JAX": with_jax.program,
    "JAX, explicit field": functools.partial(with_jax.program, field=with_jax.explicit_field),
    "higher": lambda name, tasks: getattr(with_higher, name)(tasks),
    "TorchOpt": lambda name, tasks: getattr(with_torchopt, name)(tasks),
}
CASES = [
    (row, *column) for column in COLUMNS for row in ROWS if column[0] == "maml" or row not in ("higher", "TorchOpt")
]
# Other algorithms, for the record.
RECORD = {
    "this, first order, compiled": lambda name, tasks: ours.gradient_learner(
        name, tasks, first_order=True, compile=True
    ),
    "this, head solved for": lambda name, tasks: ours.ridge(tasks),
}
RECORDED = [
    ("this, first order, compiled", "maml", 10),
    ("this, first order, compiled", "maml", 100),
    ("this, head solved for", "anil", 100),
]


@functools.cache
def program(row, name, tasks):
    return (ROWS | RECORD)[row](name, tasks)


@functools.cache
def reference(name, tasks):
    return ours.gradient_learner(name, tasks, backend="learn2learn").gradient()


@pytest.mark.parametrize(("row", "name", "tasks"), CASES)
def test_all_compute_the_same_meta_gradient(row, name, tasks):
    expected, found = reference(name, tasks), program(row, name, tasks).gradient()
    assert (found - expected).norm() < 1e-5 * expected.norm()


# In turn, and then all again, so that what else the machine does meets all of them.
@pytest.mark.parametrize(
    ("row", "name", "tasks"), [("the machine", *column) for column in COLUMNS[:2]] + CASES + RECORDED
)
@pytest.mark.parametrize("repeat", range(REPEATS))
def test_outer_step(benchmark, record, repeat, row, name, tasks):
    if row == "the machine":  # the best of batched products of the hidden layers' shapes
        h, weight = torch.randn(tasks, POINTS, WIDTH), torch.randn(tasks, WIDTH, WIDTH)
        benchmark(lambda: torch.bmm(h, weight))
        flop_per_second = 2 * tasks * POINTS * WIDTH**2 / benchmark.stats.stats.min
        record(row, (name, tasks), flop_per_second / FLOP_PER_TASK)
        return
    step = program(row, name, tasks).step
    if repeat == 0:
        step()  # compiles
    benchmark(step)
    record(row, (name, tasks), tasks / benchmark.stats.stats.median)
