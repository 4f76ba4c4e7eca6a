"""Compiled or not, at once or in chunks: the same meta-gradient."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import ANIL, MAML, MetaSGD
from meta_hamiltonian.learners.numerics.step import chunk_size
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


@pytest.mark.parametrize("backend", ["vectorized", "learn2learn"])
@pytest.mark.parametrize("kind", [HamiltonianNetwork, VectorFieldNetwork])
@pytest.mark.parametrize("name", CLASSES)
def test_the_loss_is_the_same_without_a_gradient(name, kind, backend):
    net = kind(width=12, depth=2).double()
    episodes = sample_episodes(SYSTEM, 7, 6, 9, seed=0, dtype=torch.float64)
    whole = CLASSES[name](net, inner_steps=2).meta_loss(episodes).item()
    with torch.no_grad():
        loss = CLASSES[name](net, inner_steps=2, task_chunk=3, backend=backend).meta_loss(episodes)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("tasks", [1, 10, 16, 100, 101, 1000])
@pytest.mark.parametrize("points", [1, 50, 5000])
def test_chunks_stay_in_the_cache_and_waste_no_compilation(tasks, points, compiled, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    layer, arrays = 4 * 64 * points, 100
    size = chunk_size(tasks, layer, arrays, compiled, on_gpu=False)
    assert 1 <= size <= tasks
    if compiled:
        assert size == 1 or size * layer <= 2**17
        assert tasks == 1 or size <= (tasks + 1) // 2, "there is work for both threads"
        assert size == (tasks + 1) // 2 or (size + 1) * layer > 2**16, "no smaller than it must be"
        assert tasks % size == 0 or tasks == 101
    else:
        assert size == 1 or size * layer * arrays <= 45 * 2**20
        assert size == tasks or (size + 1) * layer * arrays > 22 * 2**20


# The functions of the package are checked by beartype in this process, and torch.compile cannot look into that.
# Networks are as small as they can be, since the compilation takes as long as their graphs are large; one learner has
# two inner steps, so that one follows another.
PROGRAM = """
import copy
import sys
import torch
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import ANIL, MAML, MetaSGD
from meta_hamiltonian.models import HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import Pendulum

torch.set_num_threads(2)
CASES = {
    "MAML": (MAML, HamiltonianNetwork, torch.float64, 1e-9, {"inner_steps": 2, "learn_lr": True}),
    "MetaSGD": (MetaSGD, VectorFieldNetwork, torch.float32, 1e-5, {"inner_steps": 1, "first_order": True}),
    "ANIL": (ANIL, HamiltonianNetwork, torch.float32, 1e-5, {"inner_steps": 1, "learn_lr": True}),
}
for learner_class, kind, dtype, tolerance, arguments in map(CASES.get, sys.argv[1:]):

    def gradient(learner, seeds, tasks=6):
        learner.zero_grad()
        for seed in seeds:
            learner.meta_loss(sample_episodes(Pendulum(), tasks, 6, 9, seed, dtype=dtype)).backward()
        return torch.cat([value.grad.flatten() for value in learner.parameters()])

    torch.manual_seed(0)
    net = kind(width=12, depth=1, input_scale=Pendulum().state_box).to(dtype)
    eager = learner_class(net, scale="task", **arguments)
    learner = learner_class(copy.deepcopy(net), scale="task", compile=True, task_chunk=3, **arguments)
    expected = gradient(eager, (0, 1))
    found = gradient(learner, (0, 1))  # the second meta-batch meets the code that was compiled for the first
    error = (found - expected).norm() / expected.norm()
    assert error < tolerance, (learner_class, kind, error)
    assert torch.equal(gradient(learner, (0, 1)), found), "the same bits again"
    assert "_compiled_step" in vars(learner)
    adapted = learner.adapt(torch.zeros(1, 2), torch.ones(1, 2))  # a compiled learner is copied for this
    assert adapted.field(torch.zeros(1, 2)).isfinite().all()
    if learner_class is ANIL:  # a copy goes its own way, and a meta-batch of another size is compiled too
        other = copy.deepcopy(learner)
        with torch.no_grad():
            for value in other.parameters():
                value *= 1.1
        eager.load_state_dict(other.state_dict())
        expected, found = gradient(eager, (0,), tasks=4), gradient(other, (0,), tasks=4)
        assert (found - expected).norm() < tolerance * expected.norm()
    assert torch.get_num_threads() == 2
print("the same")
"""


def run(*learners, **environment):
    """Compares these learners, compiled and not; what was said."""
    command = [sys.executable, "-c", PROGRAM, *learners]
    alone = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # others begin with imports too
    done = subprocess.run(command, env={**os.environ, **alone, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the same\n"
    return done.stderr


# g++ without its long search for faster code.
HASTY = """#!/bin/bash
exec g++ "${@/#-O3/-O0}"
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_code_gives_the_same_gradient(tmp_path):
    compiler = tmp_path / "g++"
    compiler.write_text(HASTY)
    compiler.chmod(0o755)
    said = run("MAML", "MetaSGD", "ANIL", CXX=str(compiler), TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
    assert "not compiled" not in said


@pytest.mark.slow
def test_without_a_compiler_one_warning_says_that_nothing_is_compiled(tmp_path):
    """One learner and its copy: which step it is makes no difference to that."""
    said = run("ANIL", CXX="/bin/false", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert said.count("not compiled, since that does not work here") == 2, "one for each learner"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compile": True, "backend": "learn2learn"}, "backend='vectorized'"),
        ({"task_chunk": 0}, "task_chunk=0 .*at least 1, or null"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MAML(HamiltonianNetwork(), **arguments)
