import copy
import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners import ANIL, MAML
from meta_hamiltonian.models import HamiltonianNetwork, StoppedOrbitWarning, VectorFieldNetwork
from meta_hamiltonian.systems import Pendulum

LEARNERS = [MAML, ANIL]
NETWORKS = [HamiltonianNetwork, VectorFieldNetwork]
SYSTEM = Pendulum()
GRID = SYSTEM.domain.grid(9)


def network(kind=HamiltonianNetwork):
    torch.manual_seed(0)
    net = kind(width=12, depth=2, input_scale=SYSTEM.state_box)
    with torch.no_grad():
        for value in net.parameters():  # as large as trained ones: steps change an untrained network little
            value.mul_(4)
    return net


def observations(tasks=6, points=20):
    return sample_episodes(SYSTEM, tasks, points, 30, seed=0, split="test", dtype=torch.float64)


def support_loss(field, x, dxdt):
    """Equation (2)."""
    return (field(x) - dxdt).square().sum(-1).mean(-1)


def gradient_descent(learner, x, dxdt, steps, lr):
    """The network after plain gradient descent in float64, by PyTorch's optimizer."""
    net = copy.deepcopy(learner.net).double()
    parameters = net.parameters() if isinstance(learner, MAML) else net.head.parameters()
    optimizer = torch.optim.SGD(parameters, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        support_loss(net.field, x, dxdt).backward()
        optimizer.step()
    return net


def assert_close(a, b, rtol=1e-9):
    """Relative to the largest value of either."""
    size = torch.maximum(a.abs().max(), b.abs().max()).item()
    assert math.isfinite(size)
    torch.testing.assert_close(a, b, rtol=0, atol=rtol * size)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_adapting_at_a_fixed_rate_is_gradient_descent(learner_class, kind, steps):
    learner = learner_class(network(kind), lr=0.1)
    support = observations().support[1]
    adapted = learner.adapt(support.x, support.dxdt, steps)
    net = gradient_descent(learner, support.x, support.dxdt, steps, lr=0.1)
    with torch.no_grad():
        assert_close(adapted.field(GRID), net.field(GRID))
        assert (net.field(GRID) - learner.net.double().field(GRID)).abs().max() > 0.01, "the steps matter"


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_no_steps_give_the_meta_learned_network(learner_class):
    learner = learner_class(network())
    support = observations().support[0]
    adapted = learner.adapt(support.x, support.dxdt, steps=0)
    with torch.no_grad():
        assert_close(adapted.field(GRID), copy.deepcopy(learner.net).double().field(GRID), rtol=1e-13)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_the_number_of_steps_is_that_of_training_unless_given(learner_class):
    learner = learner_class(network(), inner_steps=3)
    support = observations().support[0]
    assert torch.equal(
        learner.adapt(support.x, support.dxdt).field(GRID), learner.adapt(support.x, support.dxdt, 3).field(GRID)
    )
    assert not torch.equal(
        learner.adapt(support.x, support.dxdt).field(GRID), learner.adapt(support.x, support.dxdt, 4).field(GRID)
    )


@pytest.mark.parametrize("scale", ["none", "task"])
@pytest.mark.parametrize("learn_lr", [False, True])
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_adapting_does_what_was_trained(learner_class, learn_lr, scale):
    """The meta-loss is the error of the adapted fields at the query points."""
    learner = learner_class(network(), lr=0.01, learn_lr=learn_lr, scale=scale).double()
    if learn_lr:
        with torch.no_grad():
            learner.log_lr += torch.linspace(-1, 1, learner.log_lr.numel()).reshape(learner.log_lr.shape)
    episodes = observations()
    losses = []
    for task in range(len(episodes)):
        support, query = episodes.support[task], episodes.query[task]
        unit = support.dxdt.square().mean().sqrt() if scale == "task" else 1.0
        loss = support_loss(learner.adapt(support.x, support.dxdt).field, query.x, query.dxdt)
        losses.append(loss / unit**2)
    trained = torch.stack([learner.meta_loss(episodes[task : task + 1]) for task in range(len(episodes))])
    torch.testing.assert_close(torch.stack(losses), trained.detach(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_the_task_scale_makes_adapting_independent_of_the_units_of_the_derivatives(learner_class):
    learner = learner_class(network(), lr=0.02, scale="task", learn_lr=True)
    support = observations().support[2]
    once = learner.adapt(support.x, support.dxdt, steps=8)
    faster = learner.adapt(support.x, 1000 * support.dxdt, steps=8)
    assert_close(faster.field(GRID), 1000 * once.field(GRID))
    assert_close(faster.energy(GRID), 1000 * once.energy(GRID), rtol=1e-7)


@pytest.mark.parametrize("scale", ["none", "task"])
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_tasks_are_adapted_each_for_itself(learner_class, scale):
    """Also beyond the trained steps, where the steps of some tasks are halved and those of others are not."""
    learner = learner_class(network(), lr=0.02, inner_steps=3, learn_lr=True, scale=scale)
    support = observations().support
    (together,) = learner.adapt_tasks(support, [12])
    fields = together.field(GRID.expand(6, *GRID.shape))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    (permuted,) = learner.adapt_tasks(support[order], [12])
    for i in range(6):
        assert_close(permuted[i].field(GRID), fields[order[i]])
        alone = learner.adapt(support.x[i], support.dxdt[i], steps=12)
        assert_close(alone.field(GRID), fields[i])
        assert_close(together[i].energy(GRID), alone.energy(GRID))


@pytest.mark.parametrize("scale", ["none", "task"])
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_the_order_of_the_points_does_not_matter(learner_class, scale):
    learner = learner_class(network(), scale=scale)
    support = observations().support[0]
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert_close(
        learner.adapt(support.x[order], support.dxdt[order]).field(GRID),
        learner.adapt(support.x, support.dxdt).field(GRID),
    )


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_several_numbers_of_steps_are_taken_in_one_go(learner_class):
    learner = learner_class(network(), lr=0.01, learn_lr=True)
    support = observations().support
    several = list(learner.adapt_tasks(support, [0, 1, 5, 9]))
    assert len(several) == 4
    for steps, systems in zip([0, 1, 5, 9], several, strict=True):
        alone = learner.adapt(support.x[4], support.dxdt[4], steps)
        assert_close(systems[4].field(GRID), alone.field(GRID))


def losses_by_step(learner, support, steps):
    """The support losses `[steps, tasks]`, in the units of the observations."""
    return torch.stack([support_loss(s.field, support.x, support.dxdt) for s in learner.adapt_tasks(support, steps)])


@pytest.mark.parametrize("scale", ["none", "task"])
@pytest.mark.parametrize("lr", [1.0, 50.0])
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_with_learned_rates_the_support_loss_never_rises_beyond_the_trained_steps(learner_class, lr, scale):
    learner = learner_class(network(), lr=lr, inner_steps=1, learn_lr=True, scale=scale)
    losses = losses_by_step(learner, observations().support, range(1, 60))
    assert losses.isfinite().all()
    assert (losses[1:] <= losses[:-1] * (1 + 1e-9)).all()
    assert (losses[-1] < 0.85 * losses[0]).all(), "and it falls"


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_beyond_the_trained_steps_the_last_rates_are_halved_until_the_loss_does_not_rise(learner_class):
    """Against gradient descent with that rule, one step after another."""
    learner = learner_class(network(), lr=5.0, inner_steps=2, learn_lr=True).double()
    with torch.no_grad():
        learner.log_lr[-1] += math.log(10)
    support = observations().support[3]
    net, most_halvings = copy.deepcopy(learner.net), 0
    for step in range(10):
        before = support_loss(net.field, support.x, support.dxdt)
        rate = learner.log_lr[min(step, 1), 0].exp().item()
        for halvings in range(30):
            proposal = gradient_descent(learner_class(net), support.x, support.dxdt, 1, lr=rate / 2**halvings)
            if step < 2 or support_loss(proposal.field, support.x, support.dxdt) <= before:
                break
        most_halvings = max(most_halvings, halvings)
        net = proposal
    assert most_halvings >= 1
    adapted = learner.adapt(support.x, support.dxdt, steps=10)
    with torch.no_grad():
        assert_close(adapted.field(GRID), net.field(GRID), rtol=1e-7)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_fixed_rates_are_never_halved(learner_class):
    learner = learner_class(network(), lr=50.0, inner_steps=1)
    support = observations().support
    losses = losses_by_step(learner, support, range(4))
    assert (losses[1:] > losses[:-1]).any(0).all(), "the rate is too large for every task"
    adapted = learner.adapt(support.x[0], support.dxdt[0], steps=3)
    net = gradient_descent(learner, support.x[0], support.dxdt[0], 3, lr=50.0)
    with torch.no_grad():
        assert_close(adapted.field(GRID), net.field(GRID), rtol=1e-7)


@pytest.mark.parametrize("scale", ["none", "task"])
@pytest.mark.parametrize("learner_class", LEARNERS)
def test_one_point_at_rest_is_enough(learner_class, scale):
    """The RMS of its derivatives, by which the task scale divides, is zero."""
    learner = learner_class(network(), scale=scale, learn_lr=True)
    adapted = learner.adapt(torch.tensor([[0.3, 0.0]]), torch.zeros(1, 2), steps=10)
    x = torch.tensor([[0.3, 0.0], [1.0, 5.0], [-6.0, -20.0]])
    assert adapted.field(x).isfinite().all()
    assert adapted.energy(x).isfinite().all()
    assert adapted.rollout(x, torch.linspace(0, 2, 5)).isfinite().all()


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_adapting_leaves_the_learner_as_it_was(learner_class):
    learner = learner_class(network(), learn_lr=True)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    support = observations().support[0].to(torch.float32)
    x = support.x.clone()
    learner.adapt(support.x, support.dxdt, steps=8)
    for name, value in learner.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name]), name
    assert all(value.requires_grad and value.grad is None for value in learner.parameters())
    assert torch.equal(support.x, x)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_an_adapted_system_keeps_its_weights_when_the_learner_is_trained_on(learner_class):
    learner = learner_class(network())
    support = observations().support[0]
    adapted = learner.adapt(support.x, support.dxdt)
    before = adapted.field(GRID)
    with torch.no_grad():
        for value in learner.parameters():
            value.mul_(2)
    assert torch.equal(adapted.field(GRID), before)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_adapting_works_where_gradients_are_switched_off(learner_class):
    learner = learner_class(network())
    support = observations().support[0]
    expected = learner.adapt(support.x, support.dxdt, steps=3).field(GRID)
    with torch.no_grad():
        adapted = learner.adapt(support.x, support.dxdt, steps=3)
    assert_close(adapted.field(GRID), expected)


def test_anil_adapts_the_head_and_maml_everything():
    support = observations().support[0]
    for learner, names in [
        (ANIL(network()), {"head.weight"}),
        (ANIL(network(VectorFieldNetwork)), {"head.weight", "head.bias"}),
        (MAML(network()), {name for name, _ in network().named_parameters()}),
    ]:
        adapted = learner.adapt(support.x, support.dxdt, steps=2)
        own = dict(learner.net.named_parameters())
        assert set(adapted.parameters) == names
        for name, value in adapted.parameters.items():
            assert value.shape == own[name].shape
            assert not torch.equal(value.float(), own[name])


@pytest.mark.parametrize(
    ("x", "dxdt", "message"),
    [
        (torch.zeros(5, 3), torch.zeros(5, 3), r"shape \[K, 2\]"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "K at least 1"),
        (torch.zeros(5, 2), torch.zeros(4, 2), r"\[5, 2\] and \[4, 2\]"),
        (torch.zeros(2), torch.zeros(2), r"shape \[K, 2\]"),
        (torch.zeros(1, 5, 2), torch.zeros(1, 5, 2), r"shape \[K, 2\]"),
        (torch.full((5, 2), math.nan), torch.zeros(5, 2), "finite"),
        (torch.zeros(5, 2), torch.full((5, 2), math.inf), "finite"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_what_cannot_be_observations_is_refused(x, dxdt, message):
    with pytest.raises(ValueError, match=message):
        MAML(network()).adapt(x, dxdt)


@pytest.mark.parametrize("steps", [[-1], [5, 1], [1, 1]])
def test_numbers_of_steps_that_do_not_increase_are_refused(steps):
    support = observations().support
    with pytest.raises(ValueError, match="increasing numbers of at least 0"):
        list(MAML(network()).adapt_tasks(support, steps))
    with pytest.raises(ValueError, match="at least 0"):
        MAML(network()).adapt(support.x[0], support.dxdt[0], steps=-1)


def test_fields_of_many_systems_are_those_of_each_one():
    """Enough points that they are evaluated in several parts, the last of them smaller."""
    support = observations(tasks=10).support
    (systems,) = MAML(network(), lr=0.02).adapt_tasks(support, [4])
    x = sample_episodes(SYSTEM, 10, 1400, 1, seed=5, dtype=torch.float64).support.x
    fields = systems.field(x)
    for i in range(10):
        assert_close(fields[i], systems[i].field(x[i]), rtol=1e-12)


# What an adapted system does with its field and energy, where these are known: the true pendulum's.

PENDULUM = torch.tensor([1.3, 0.8, 0.4321], dtype=torch.float64)


def energy(x):
    m, l, q0 = PENDULUM.tolist()
    return x[..., 1] ** 2 / (2 * m * l**2) + m * l * (1 - np.cos(x[..., 0] - q0))


def test_the_energy_is_zero_at_its_minimum_over_the_state_box(adapted_to):
    """The true energy is, at a rest angle that no grid meets; the network's own constant is taken away."""
    x = sample_episodes(SYSTEM, 1, 200, 1, seed=0, dtype=torch.float64).support.x[0]
    for constant in (0.0, -17.0, 1e3):
        systems = adapted_to(SYSTEM, PENDULUM[None])
        true_energy = systems.net.energy_with
        systems.net.energy_with = lambda own, x, c=constant, true_energy=true_energy: true_energy(own, x) + c
        np.testing.assert_allclose(systems[0].energy(x).numpy(), energy(x.numpy()), rtol=1e-9, atol=1e-9)


def test_the_lowest_energy_may_lie_at_the_edge_of_the_state_box(adapted_to):
    """Upside down, H is lowest where |p| is 20 and the pendulum stands: at an angle that no grid meets."""
    systems = adapted_to(SYSTEM, PENDULUM[None], lambda x, parameters: -SYSTEM.field(x, parameters))
    true_energy = systems.net.energy_with
    systems.net.energy_with = lambda own, x: -true_energy(own, x)
    highest = energy(np.array([0.4321 + math.pi, 20.0]))
    x = sample_episodes(SYSTEM, 1, 200, 1, seed=0, dtype=torch.float64).support.x[0]
    np.testing.assert_allclose(systems[0].energy(x).numpy(), highest - energy(x.numpy()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_a_learned_energy_is_zero_at_its_minimum_and_differs_as_the_network_says(learner_class):
    learner = learner_class(network(), lr=0.02, scale="task")
    support = observations().support[0]
    adapted = learner.adapt(support.x, support.dxdt)
    dense = SYSTEM.domain.grid(301)
    energies = adapted.energy(dense)
    start = dense[energies.argmin()].numpy()
    lowest = optimize.minimize(
        lambda x: adapted.energy(torch.from_numpy(x)).item(),
        start,
        method="Nelder-Mead",
        bounds=[(-half, half) for half in learner.net.state_box.tolist()],
        options={"xatol": 1e-9, "fatol": 1e-13},
    ).fun
    spread = energies.max().item()
    assert abs(lowest) < 1e-7 * spread
    net = copy.deepcopy(learner.net).double()
    own = {name: value[None] for name, value in adapted.parameters.items()}
    with torch.no_grad():
        network_energy = support.dxdt.square().mean().sqrt() * net.energy_with(own, dense[None])[0]
    assert_close(energies - energies[0], network_energy - network_energy[0])


def test_fields_and_energies_have_the_shape_and_dtype_of_the_states(adapted_to):
    adapted = adapted_to(SYSTEM, PENDULUM[None])[0]
    for shape in [(), (4,), (3, 4)]:
        for dtype in (torch.float32, torch.float64):
            x = torch.rand(*shape, 2).to(dtype)
            assert adapted.field(x).shape == x.shape
            assert adapted.energy(x).shape == shape
            assert adapted.field(x).dtype == adapted.energy(x).dtype == dtype
            torch.testing.assert_close(adapted.field(x), SYSTEM.field(x, PENDULUM.to(dtype)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("orbits", [None, 1, 3])
def test_rollouts_follow_the_field(adapted_to, orbits, dtype):
    """Against SciPy, from one state or several, at instants that need not be equally spaced or begin at 0."""
    adapted = adapted_to(SYSTEM, PENDULUM[None])[0]
    t = torch.tensor([1.0, 1.5, 4.0, 4.25, 9.0], dtype=dtype)
    x0 = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.5, 0.1]], dtype=dtype)[: orbits or 1]
    x0 = x0 if orbits else x0[0]
    states = adapted.rollout(x0, t)
    assert states.shape == (5, *x0.shape)
    assert states.dtype == dtype
    m, l, q0 = PENDULUM.tolist()
    for i, start in enumerate(x0.reshape(-1, 2)):
        reference = integrate.solve_ivp(
            lambda _, x: [x[1] / (m * l**2), -m * l * math.sin(x[0] - q0)],
            (1, 9),
            start.double().numpy(),
            method="DOP853",
            t_eval=t.numpy(),
            rtol=1e-12,
            atol=1e-12,
        ).y.T
        atol = 1e-7 if dtype == torch.float64 else 1e-5
        np.testing.assert_allclose(states.reshape(5, -1, 2)[:, i].numpy(), reference, rtol=0, atol=atol)


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_rollouts_conserve_the_learned_energy(learner_class):
    """Whatever the network has learned: here, after a few steps, nothing like a pendulum's."""
    learner = learner_class(network(), lr=0.02)
    support = observations().support[0]
    adapted = learner.adapt(support.x, support.dxdt)
    x0 = torch.tensor([[1.0, 0.0], [-2.0, 3.0], [0.0, -8.0]], dtype=torch.float64)
    states = adapted.rollout(x0, torch.linspace(0, 20, 101, dtype=torch.float64))
    assert (states.abs() <= 2 * learner.net.state_box).all(), "no orbit is stopped"
    assert (states[-1] - states[0]).abs().amax(-1).min() > 0.1, "all move"
    energies = adapted.energy(states)
    assert (energies - energies[0]).abs().max() < 1e-7 * energies[0].min()


def test_a_rollout_whose_momentum_leaves_twice_the_box_stays_where_it_left(adapted_to):
    """At the constant rates (1, 1) from p = 0.5 and 10.5 it leaves |p| <= 40 at t = 39.5 and 29.5; angles only turn."""
    systems = adapted_to(SYSTEM, PENDULUM[None], lambda x, parameters: torch.ones_like(x))
    x0 = torch.tensor([[0.0, 0.5], [-12.0, 10.5]])
    with pytest.warns(StoppedOrbitWarning, match="ends at t = 39 of 60: .*; 1 more end too"):
        states = systems[0].rollout(x0, torch.linspace(0, 60, 61))
    assert states.isfinite().all()
    torch.testing.assert_close(states[-1], torch.tensor([[39.0, 39.5], [17.0, 39.5]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(states[45], states[-1])


def test_the_tests_protocol_bounds_angles_too(adapted_to):
    """What `results.csv` has been measured by: frozen where any coordinate leaves twice the box."""
    systems = adapted_to(SYSTEM, PENDULUM[None], lambda x, parameters: torch.ones_like(x))
    x0 = torch.zeros(1, 2, dtype=torch.float64)
    orbits = systems.rollout_in_box(x0, torch.linspace(0, 40, 41, dtype=torch.float64))
    assert orbits.diverged.all()
    expected = torch.full((1, 2), 4 * math.pi, dtype=torch.float64)
    torch.testing.assert_close(orbits.states[-1], expected, atol=0.02, rtol=0)
    assert 12 <= orbits.until.item() <= 13


def test_a_plain_network_adapts_and_rolls_out_but_has_no_energy():
    support = observations().support[0]
    adapted = MAML(network(VectorFieldNetwork)).adapt(support.x, support.dxdt)
    assert adapted.rollout(torch.zeros(2), torch.linspace(0, 1, 3)).shape == (3, 2)
    with pytest.raises(TypeError, match="no energy"):
        adapted.energy(torch.zeros(2))


@pytest.mark.parametrize("learner_class", LEARNERS)
def test_systems_of_two_degrees_of_freedom(learner_class):
    """Two springs, H = (p₁² + p₂² + q₁² + 4 q₂²) / 2: nothing is written for one degree of freedom only."""
    torch.manual_seed(0)
    net = HamiltonianNetwork(state_dim=4, width=16, depth=2, input_scale=(2.0, 2.0, 2.0, 2.0))
    x = 4 * torch.rand(30, 4) - 2
    dxdt = torch.stack([x[:, 2], x[:, 3], -x[:, 0], -4 * x[:, 1]], dim=-1)
    adapted = learner_class(net, lr=0.01).adapt(x, dxdt, steps=20)
    losses = [support_loss(a.field, x, dxdt) for a in (adapted, learner_class(net).adapt(x, dxdt, steps=0))]
    assert losses[0] < losses[1]
    states = adapted.rollout(x[0].double(), torch.linspace(0, 5, 11))
    energies = adapted.energy(states)
    assert states.shape == (11, 4)
    assert (energies >= 0).all()
    assert (energies - energies[0]).abs().max() < 1e-7 * energies[0]
