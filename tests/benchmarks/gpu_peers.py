"""Parts of `gpu_steps.py`: outer steps of gradient learners beside JAX's, and their gradients in other shapes."""

import copy
import functools
import importlib
import os
import sys
from pathlib import Path

import torch

from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.learners import ANIL, MAML
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import HenonHeiles, Pendulum

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "peers")]

KINDS = {"maml": MAML, "anil": ANIL}
# Width, depth, points and degrees of freedom: the table's shape first, and then others.
SHAPES = [(64, 3, 50, 1), (48, 3, 50, 1), (128, 3, 50, 1), (64, 1, 50, 1), (64, 2, 50, 1), (64, 4, 50, 1)]
SHAPES += [(64, 3, 7, 1), (64, 3, 100, 1), (64, 3, 50, 2)]


def our_step(kind, tasks, device, compiled):
    """The step of `peers/ours.py` on the device."""
    from work import INNER_LR, INNER_STEPS, OUTER_LR, episodes, network

    learner = kind(network(), INNER_LR, INNER_STEPS, compile=compiled).to(device)
    optimizer = torch.optim.Adam(learner.parameters(), OUTER_LR, fused=True, capturable=device != "cpu")
    observed = episodes(tasks).to(device)

    def step():
        optimizer.zero_grad()
        learner.meta_loss(observed).backward()
        optimizer.step()

    return step


def as_one_graph(step):
    """The step as a single CUDA graph, for a step whose optimizer is capturable."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@functools.cache
def jax_speed(algorithm, tasks, seconds):
    """JAX's tasks a second on the same tasks: jit, vmap, the field written out, full float32; None without JAX."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # it would take the memory of both
    try:
        jax = importlib.import_module("jax")
    except ImportError:
        return None
    jax.config.update("jax_default_matmul_precision", "highest")
    peer = importlib.import_module("with_jax")
    print(f"    JAX {jax.__version__} on {jax.devices()[0]}", flush=True)
    return tasks / seconds(peer.program(algorithm, tasks, peer.explicit_field).step)


def beside_jax(algorithm, step, tasks, seconds):
    """Tasks a second of a step and of JAX's, and their ratio, in words."""
    ours, theirs = tasks / seconds(step), jax_speed(algorithm, tasks, seconds)
    if theirs is None:
        return f"{ours:,.0f}, no JAX here"
    return f"{ours:,.0f}, {theirs:,.0f}, {ours / theirs:.2f}"


def gradient_error(kind, shape, tasks, device):
    """The relative error of the meta-gradient in float32 on the device, against float64 on the CPU."""
    width, depth, count, freedoms = shape
    system = Pendulum() if freedoms == 1 else HenonHeiles()
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=width, depth=depth, domain=system.domain, inputs="raw")
    learner = kind(net, lr=0.005, scale="task")
    episodes = sample_episodes(system, tasks, count, count, 0, dtype=torch.float64)
    # Numbers that float32 has, so that only the computation differs.
    support, query = (Points(p.x.float().double(), p.dxdt.float().double()) for p in (episodes.support, episodes.query))
    episodes.support, episodes.query = support, query
    found = []
    for where, dtype in (("cpu", torch.float64), (device, torch.float32)):
        own = copy.deepcopy(learner).to(where, dtype)
        loss = own.meta_loss(episodes.to(where, dtype))
        gradients = torch.autograd.grad(loss, list(own.net.parameters()))
        found.append(torch.cat([value.flatten() for value in gradients]).cpu().double())
    return ((found[1] - found[0]).norm() / found[0].norm()).item()
