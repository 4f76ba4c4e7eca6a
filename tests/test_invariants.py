"""What holds for every network, every episode and every configuration, by Hypothesis."""

import math

import pytest
import torch
from hydra import compose, initialize
from hydra.errors import HydraException
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from meta_hamiltonian.config import ConfigError, check
from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.jobs.composition import register_schemas
from meta_hamiltonian.learners import ANIL, MAML, Adapted, AdaptedSystems, FineTune, MetaSGD, Ridge
from meta_hamiltonian.learners.checkpoint import build_learner
from meta_hamiltonian.models import HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.systems import Pendulum

fuzz = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
ACTIVATIONS = ("tanh", "softplus", "sin", "silu")


@st.composite
def networks(draw, kinds=(HamiltonianNetwork,)):
    """With random weights of any size that training may lead to."""
    n = draw(st.integers(1, 2))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    net = draw(st.sampled_from(kinds))(
        state_dim=2 * n,
        width=draw(st.integers(1, 12)),
        depth=draw(st.integers(1, 3)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        input_scale=tuple(draw(st.lists(st.floats(0.1, 50), min_size=2 * n, max_size=2 * n))),
    ).double()
    size = draw(st.floats(0.1, 5))
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(size)
    return net.requires_grad_(False)


def omega(n):
    zero, one = torch.zeros(n, n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    return torch.cat([torch.cat([zero, one], 1), torch.cat([-one, zero], 1)])


def states(net, count, seed, reach=1.0):
    unit = torch.rand(count, net.state_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return reach * net.state_box * (2 * unit - 1)


@fuzz
@given(networks(), st.integers(0, 2**31), st.floats(0.01, 3))
def test_the_learned_field_is_hamiltonian(net, seed, reach):
    """Its Jacobian J satisfies JᵀΩ + ΩJ = 0."""
    x = states(net, 4, seed, reach)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: net.field(one[None])[0]))(x)
    symplectic = jacobian.mT @ omega(net.state_dim // 2)
    left = symplectic + omega(net.state_dim // 2) @ jacobian
    assert left.abs().max() <= 1e-9 * jacobian.abs().max()


def test_that_test_sees_a_field_that_is_not():
    torch.manual_seed(0)
    net = VectorFieldNetwork(width=8, depth=2).double().requires_grad_(False)
    jacobian = torch.func.jacrev(lambda one: net.field(one[None])[0])(states(net, 1, 0)[0])
    assert (jacobian.mT @ omega(1) + omega(1) @ jacobian).abs().max() > 1e-3 * jacobian.abs().max()


@fuzz
@given(networks(), st.integers(0, 2**31))
def test_the_learned_energy_is_constant_along_its_own_flow(net, seed):
    """To the tolerance of the solver, as long as the orbit stays where orbits are followed."""
    one = torch.ones(1, dtype=torch.float64)
    weights = {name: value[None] for name, value in net.named_parameters() if name.startswith("head")}
    adapted = Adapted(AdaptedSystems(net, weights, one))
    x0 = states(net, 1, seed, 0.5)[0]
    speed = (adapted.field(x0[None])[0] / net.state_box).norm().item()
    assume(speed > 0)
    orbit = adapted.rollout(x0, torch.linspace(0, min(1.0, 1.0 / speed), 20, dtype=torch.float64))
    energy = adapted.energy(orbit)
    gradient = adapted.field(orbit).norm(dim=-1).max().item() * net.state_box.max().item()
    assert (energy - energy[0]).abs().max().item() <= 1e-8 * (gradient + energy.abs().max().item())


@st.composite
def learners(draw):
    net = draw(networks(kinds=(HamiltonianNetwork, VectorFieldNetwork))).requires_grad_()
    kind = draw(st.sampled_from([MAML, ANIL, MetaSGD, Ridge, FineTune]))
    if kind is Ridge:
        return Ridge(net, draw(st.integers(1, 6)), 1e-3, scale="task").double()
    if kind is FineTune:
        return FineTune(net, draw(st.sampled_from(["sgd", "adam"])), 1e-3, scale="task").double()
    return kind(net, 1e-3, inner_steps=draw(st.integers(1, 3)), scale="task").double()


def close(one, other):
    """Relative to the largest; what is not a number is so in both."""
    if not one.isfinite().all():
        assert torch.equal(one.isfinite(), other.isfinite())
        one, other = one[one.isfinite()], other[other.isfinite()]
    if one.numel():
        assert (one - other).abs().max() <= 1e-9 * one.abs().max().clamp_min(1e-12)


@st.composite
def observations(draw, net):
    """Episodes of any shape and size: one task, one point, a system at rest or a violent one."""
    tasks, points = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    seed, size = draw(st.integers(0, 2**31)), 10.0 ** draw(st.integers(-6, 6))
    x = states(net, tasks * points, seed).reshape(tasks, points, -1)
    generator = torch.Generator().manual_seed(seed + 1)
    return Points(x, size * torch.randn(x.shape, dtype=torch.float64, generator=generator))


@fuzz
@given(st.data())
def test_adapting_is_equivariant_in_the_tasks_and_invariant_in_the_order_of_the_points(data):
    learner = data.draw(learners())
    support = data.draw(observations(learner.net))
    tasks, points = support.x.shape[:2]
    order = torch.tensor(data.draw(st.permutations(range(tasks))))
    within = torch.tensor(data.draw(st.permutations(range(points))))
    x = states(learner.net, 5, 1).expand(tasks, 5, -1)
    steps = [data.draw(st.integers(1, 3))]

    def fields(of):
        (adapted,) = learner.adapt_tasks(of, learner.tested_steps(steps))
        return adapted.field(x).detach()

    plain = fields(support)
    close(fields(support[order]), plain[order])
    close(fields(Points(support.x[:, within], support.dxdt[:, within])), plain)


NUMBERS = st.one_of(
    st.integers(-2, 12), st.sampled_from(["null", "1e400", "nan", "-0.5", "0.01", "true", "many", "[]"])
)


@pytest.fixture(scope="module")
def composing():
    register_schemas()
    with initialize(version_base="1.3", config_path="../conf"):
        yield


@fuzz
@given(
    choices=st.fixed_dictionaries(
        {},
        optional={
            "algo": st.sampled_from(["maml", "fomaml", "metasgd", "anil", "ridge", "pretrain", "scratch", "oracle"]),
            "model": st.sampled_from(["hnn", "mlp", "parametric"]),
            "optim": st.sampled_from(["adam", "levenberg_marquardt"]),
            "trainer": st.sampled_from(["cpu", "gpu", "ddp"]),
            "model.width": NUMBERS,
            "model.depth": st.integers(0, 3),
            "inner_steps": NUMBERS,
            "shots": NUMBERS,
            "seed": NUMBERS,
            "data.meta_batch": NUMBERS,
            "data.tasks": NUMBERS,
            "data.train_shots": NUMBERS,
            "data.noise": NUMBERS,
            "trainer.devices": st.integers(0, 20),
            "test.n_systems": NUMBERS,
        },
    )
)
def test_a_configuration_is_refused_in_one_line_or_can_be_trained(composing, choices):
    try:
        config = compose("config", [f"{key}={value}" for key, value in choices.items()])
    except (HydraException, OmegaConfBaseException):  # of another type than the schema's
        return
    refusal = None
    try:
        check(config)
    except ConfigError as error:
        refusal = str(error)
    if refusal is not None:
        assert "\n" not in refusal
        assert "not allowed" in refusal
        return
    groups = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("system", "model", "algo")}
    groups["algo"].pop("compile", None)
    learner = build_learner(groups)
    data = config.data
    episodes = sample_episodes(
        Pendulum(), min(data.meta_batch, 3), data.train_shots, 3, config.seed, dtype=torch.float32, noise=data.noise
    )
    if learner.meta_trained:
        loss = learner.meta_loss(episodes)
        loss.backward()
        assert math.isfinite(loss.item()) or data.noise > 1
