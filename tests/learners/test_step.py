"""Compiled or not, at once or in chunks: the same meta-gradient."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import ANIL, MAML, MetaSGD
from meta_hamiltonian.learners.step import cached_chunk
from meta_hamiltonian.models import HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()
CLASSES = {"MAML": MAML, "ANIL": ANIL, "MetaSGD": MetaSGD}


def gradients(name, tasks, kind=HamiltonianNetwork, **arguments):
    torch.manual_seed(0)
    net = kind(width=12, depth=2, input_scale=SYSTEM.state_box).double()
    learner = CLASSES[name](net, inner_steps=2, **arguments)
    episodes = sample_episodes(SYSTEM, tasks, 6, 9, seed=0, dtype=torch.float64)
    loss = learner.meta_loss(episodes)
    (3 * loss).backward()
    return loss.item(), torch.cat([value.grad.flatten() for value in learner.parameters()])


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("kind", [HamiltonianNetwork, VectorFieldNetwork])
@pytest.mark.parametrize("chunk", [1, 3, 6, 7, 100])
def test_the_gradient_does_not_depend_on_the_chunks(name, kind, chunk):
    learned = {} if name == "MetaSGD" else {"learn_lr": True}
    expected_loss, expected = gradients(name, 7, kind, scale="task", **learned)
    loss, found = gradients(name, 7, kind, scale="task", task_chunk=chunk, **learned)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert expected.abs().max() > 1e-3


def test_chunks_are_evaluated_without_a_gradient_too():
    net = HamiltonianNetwork(width=12, depth=2).double()
    episodes = sample_episodes(SYSTEM, 7, 6, 9, seed=0, dtype=torch.float64)
    whole = ANIL(net, inner_steps=2).meta_loss(episodes).item()
    with torch.no_grad():
        assert ANIL(net, inner_steps=2, task_chunk=3).meta_loss(episodes).item() == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("tasks", [1, 10, 16, 100, 101, 1000])
@pytest.mark.parametrize("points", [1, 50, 5000])
def test_compiled_chunks_stay_in_the_cache_and_waste_no_compilation(tasks, points):
    net = HamiltonianNetwork(width=64, depth=3)
    chunk = cached_chunk(tasks, points, net, compiled=True)
    assert 1 <= chunk <= tasks
    assert chunk == 1 or chunk * points * 64 <= 2**15
    assert chunk == tasks or (chunk + 1) * points * 64 > 2**14, "no smaller than it must be"
    assert cached_chunk(tasks, points, net, compiled=False) == tasks


# The functions of the package are checked by beartype in this process, and torch.compile cannot look into that.
PROGRAM = """
import torch
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import ANIL, MAML
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum

for learner_class, dtype, tolerance in ((MAML, torch.float64, 1e-9), (ANIL, torch.float32, 1e-5)):
    found = []
    for compile in (False, True):
        torch.manual_seed(0)
        net = HamiltonianNetwork(width=12, depth=2, input_scale=Pendulum().state_box).to(dtype)
        learner = learner_class(net, inner_steps=2, learn_lr=True, scale="task", compile=compile, task_chunk=4)
        for seed in (0, 1):  # the second meta-batch meets the code that was compiled for the first
            learner.meta_loss(sample_episodes(Pendulum(), 8, 6, 9, seed, dtype=dtype)).backward()
        found.append(torch.cat([value.grad.flatten() for value in learner.parameters()]))
    error = (found[1] - found[0]).norm() / found[0].norm()
    assert error < tolerance, (learner_class, dtype, error)
    assert "_compiled_losses" in vars(learner)
    adapted = learner.adapt(torch.zeros(1, 2), torch.ones(1, 2))  # a compiled learner is copied for this
    assert adapted.field(torch.zeros(1, 2)).isfinite().all()
print("the same")
"""


def run(tmp_path, **environment):
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the same\n"
    return done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_code_gives_the_same_gradient(tmp_path):
    assert "no compiler works" not in run(tmp_path)


@pytest.mark.slow
def test_without_a_compiler_one_warning_says_that_nothing_is_compiled(tmp_path):
    said = run(tmp_path, CXX="/bin/false", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert said.count("no compiler works here") == 2, "one for each learner"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compile": True, "backend": "learn2learn"}, "backend='vectorized'"),
        ({"task_chunk": 0}, "task_chunk must be at least 1, or None, got 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MAML(HamiltonianNetwork(), **arguments)
