"""Unknowns inside the law: found with the head, in training and of new members."""

import copy
import math
import warnings

import pytest
import torch
from morse import RANK, WIDTH, Morse, trained

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.dynamics import Terms
from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.evaluation.identify import identify
from meta_hamiltonian.inference import fit
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.checkpoint import load_adapted, save_adapted
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.latents import descend
from meta_hamiltonian.learners.ridge import OpenLatentsWarning, SeveralAnswersWarning
from meta_hamiltonian.models import HamiltonianNetwork, NaturalNetwork, VectorFieldNetwork
from meta_hamiltonian.observations import Derivatives
from meta_hamiltonian.systems import Domain
from meta_hamiltonian.training import latents as race_of_latents
from meta_hamiltonian.training.latents import Race, find_columns
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection

SYSTEM = Morse()


def members(count=10, points=25, queries=25, noise=0.0, split="test"):
    return sample_episodes(SYSTEM, count, points, queries, seed=3, split=split, dtype=torch.float64, noise=noise)


def test_members_are_found_that_no_linear_head_can_follow():
    tasks = members(20)

    def errors(learner):
        (adapted,) = learner.adapt_tasks(tasks.support, [1])
        left = adapted.field(tasks.query.x) - tasks.query.dxdt
        return left.square().sum((1, 2)) / tasks.query.dxdt.square().sum((1, 2)), adapted

    found, adapted = errors(trained())
    # The same features with the latents at the mean of the family: what the head alone can do.
    fixed = copy.deepcopy(trained())
    fixed.latent_spread.mul_(1e-9)
    without, _ = errors(fixed)
    assert found.median() < 1e-4
    assert found.max() < 0.01
    assert found.median() < without.median() / 10
    assert adapted.parameters["latents"].shape == (20, 1)


def test_the_step_of_training_knows_how_latents_follow_the_weights():
    """The gradient of the projected residuals is that of the loss with everything solved for anew."""
    learner = copy.deepcopy(trained()).requires_grad_()
    batch = rescaled(members(4, split="train"))
    with torch.no_grad():
        _, _, descent = VariableProjection(learner, batch).normal_equations()
        problem = VariableProjection(learner, batch)
    values = list(problem.parameters.values())
    loss = learner.task_losses(batch).mean()
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, values)])
    by_step = -2 * descent / (len(batch) * batch.query.x.shape[1])
    # Up to the terms that Kaufman's approximation leaves out, which are as large as what the support sets leave.
    assert (gradient - by_step).norm() < 0.25 * gradient.norm()
    assert gradient @ by_step > 0.97 * gradient.norm() * by_step.norm()

    direction = gradient / gradient.norm()
    start = torch.nn.utils.parameters_to_vector(values).detach()
    losses = []
    for size in (-1e-6, 1e-6):
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(start + size * direction, values)
            losses.append(learner.task_losses(batch).mean().item())
    by_differences = (losses[1] - losses[0]) / 2e-6
    assert by_differences == pytest.approx(gradient.norm().item(), rel=0.05)


@pytest.mark.parametrize("wrong", [1e3, math.nan])
def test_a_member_whose_latents_were_not_found_has_no_part_in_a_step(wrong):
    learner, tasks = trained(), rescaled(members(5))
    lost = tasks[torch.arange(5)]
    lost.query.dxdt[2] += wrong  # no latents explain this
    others = torch.tensor([0, 1, 3, 4])
    with torch.no_grad():
        problem, expected = VariableProjection(learner, lost), VariableProjection(learner, tasks[others])
        assert len(problem.episodes) == 4
        for one, other in zip(problem.normal_equations(), expected.normal_equations(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_descent_lowers_the_cost_and_ends_where_no_latent_is_better():
    learner = trained()
    support = rescaled(members(4)).support
    problem, every = learner.latent_problem(support), torch.arange(4)
    begun = descend(problem, every, torch.ones(4, 1).double(), 0)
    found = descend(problem, every, torch.ones(4, 1).double(), 30)
    assert (found.cost <= begun.cost).all()
    for change in (-0.01, 0.01):
        near = descend(problem, every, found.z + change, 0)
        assert (near.cost >= found.cost - 1e-3).all()


def test_samples_are_distributed_as_the_evidence_says():
    """Importance weights of sampled latents, p(z | y) over the density that they were drawn from, are about equal."""
    learner = trained()
    support, _ = learner.in_units(members(3, points=12, noise=0.05).support)
    eye = torch.eye(2, dtype=torch.float64)
    for i in range(3):
        one = support[i : i + 1]
        posterior = learner._posterior(one, eye, None, learner.search(one).best)
        u, _, _ = posterior.sample(300, torch.Generator().manual_seed(0))
        z = u[0, :, learner.rank, 0]
        every = torch.zeros(300, dtype=torch.long)
        found = learner._posterior(one[every], eye, None, None, z[:, None]).relative_evidence - z.square() / 2
        density = torch.distributions.Normal(z.mean(), z.std()).log_prob(z)
        weights = (found - density).softmax(0)
        assert 1 / weights.square().sum() > 0.3 * 300
        mean = (weights * z).sum()
        assert (mean - z.mean()).abs() < z.std()


def test_bands_hold_the_true_field():
    tasks = members(10, points=15, noise=0.03)
    inside = []
    for task, samples in enumerate(trained().sample_tasks(tasks.support, 200)):
        fields = samples.field(tasks.query.x[task].expand(200, -1, -1))
        low, high = fields.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
        true = tasks.query.dxdt[task]
        inside.append(((low <= true) & (true <= high)).double().mean())
    assert sum(inside) / len(inside) > 0.8


def two_answers():
    """H = sin(q + z) and a term in p: at q = 0 the force is −cos z, which z and −z explain alike."""
    net = HamiltonianNetwork(2, 2, 1, "sin", domain=Domain.box((1.0, 1.0))).double()
    learner = Ridge(net, rank=1, noise=1e-8, latents=1).double().requires_grad_(False)
    net.body[0].weight.copy_(torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.5, 0.0]]))
    net.body[0].bias.zero_()
    net.head.weight.copy_(torch.tensor([[1.0, 0.0]]))
    learner.prior_factor.copy_(torch.tensor([[0.0], [1.0]]))
    learner.noise.fill_(1e-8)
    x = torch.stack([torch.zeros(6), torch.linspace(-1, 1, 6)], dim=-1).double()
    force = torch.full((6,), -math.cos(0.8)).double()
    return learner, x, torch.stack([0.5 * torch.cos(0.5 * x[:, 1]) * 0.7, force], dim=-1)


def test_a_member_with_two_answers_says_so():
    learner, x, dxdt = two_answers()
    forced = learner.adapt_forced(Points(x, dxdt), Terms((), 1.0, None), samples=100)
    assert forced.shares == pytest.approx((0.5, 0.5), abs=0.02)
    assert forced.samples is not None
    z = forced.samples.parameters["latents"][:, 0]
    torch.testing.assert_close(z.abs(), torch.full_like(z, 0.8), atol=0.01, rtol=0)
    assert 0.4 < (z > 0).double().mean() < 0.6
    sampled = next(iter(learner.sample_tasks(Points(x[None], dxdt[None]), 100)))
    assert 0.4 < (sampled.parameters["latents"] > 0).double().mean() < 0.6

    with pytest.warns(SeveralAnswersWarning, match=r"2 members of the family explain these points"):
        learner.adapt(x, dxdt)
    found = fit(learner, Derivatives(x.numpy(), dxdt.numpy()), friction="none")
    assert any(
        "2 members of the family explain these observations (probabilities 50%, 50%)" in w for w in found.warnings
    )
    # One more point elsewhere tells which it is.
    more = torch.tensor([[0.5, 0.0]]).double()
    rate = torch.tensor([[0.35, -math.cos(0.5 + 0.8)]]).double()
    x, dxdt = torch.cat([x, more]), torch.cat([dxdt, rate])
    forced = learner.adapt_forced(Points(x, dxdt), Terms((), 1.0, None))
    assert forced.shares == (1.0,)
    assert forced.adapted.parameters["latents"].item() == pytest.approx(0.8, abs=1e-4)


def test_points_that_leave_latents_open_say_so():
    learner, tasks = trained(), members(1)
    x, dxdt = tasks.support.x[0], tasks.support.dxdt[0]
    with pytest.warns(OpenLatentsWarning, match=r"leave the unknowns inside the law open \(.* is \d+% of"):
        learner.adapt(x[:1], dxdt[:1])
    found = fit(learner, Derivatives(x[:1].numpy(), dxdt[:1].numpy()), friction="none")
    assert any("leave the unknowns inside the law open" in warning for warning in found.warnings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.adapt(x, dxdt)


def test_linear_and_other_unknowns_are_counted_apart():
    found = identify(trained(), SYSTEM, 12)
    assert found.unknowns == RANK
    assert found.latents == 1
    assert identify(without_latents(), SYSTEM, 12).latents == 0


def without_latents():
    torch.manual_seed(0)
    learner = Ridge(NaturalNetwork(2, WIDTH, SYSTEM.domain), rank=RANK, noise=1e-10, scale="task", latents="auto")
    return learner.double()


def test_weights_and_adapted_systems_are_saved_and_loaded(tmp_path):
    learner, tasks = trained(), members(1)
    again = without_latents()
    again.load_state_dict(learner.state_dict())
    adapted = learner.adapt(tasks.support.x[0], tasks.support.dxdt[0])
    x = SYSTEM.domain.grid(5)
    assert torch.equal(again.adapt(tasks.support.x[0], tasks.support.dxdt[0]).field(x), adapted.field(x))

    model = {"_target_": "meta_hamiltonian.models.NaturalNetwork", "width": WIDTH}
    algo = {"_target_": "meta_hamiltonian.learners.Ridge", "rank": RANK, "scale": "task", "latents": "auto"}
    save_adapted(adapted, {"system": {"_target_": "morse.Morse"}, "model": model, "algo": algo}, tmp_path / "a.pt")
    loaded = load_adapted(tmp_path / "a.pt")
    assert torch.equal(loaded.field(x), adapted.field(x))
    assert torch.equal(loaded.energy(x), adapted.energy(x))


def test_training_takes_latents_where_they_are_worth_it():
    learner = without_latents()
    race = Race(learner, 1e-2)
    assert race.counts == [1, 2]
    race.others[0].load_state_dict(trained().state_dict())
    optimizer = LevenbergMarquardt([torch.nn.Parameter(torch.zeros(1).double())])
    race.decide(members(10, split="val"), optimizer)
    assert learner.net.latents == 1
    assert torch.equal(learner.net.body.weight, trained().net.body.weight)


def test_learners_with_latents_are_given_the_columns_they_need_before_they_are_compared():
    torch.manual_seed(0)
    net = NaturalNetwork(2, 4, SYSTEM.domain)
    learner = Ridge(net, rank="auto", noise=1e-10, scale="task", latents="auto").double()
    race, held_out = Race(learner, 1e-2), members(4, 12, 12, split="val")
    before = []
    for other in race.others:
        with torch.no_grad():
            other.prior_factor[:, 1:] = 0.0  # all columns of L but one say nothing
        other.calibrate(held_out)
        before.append(other.validation_loss(held_out))
    race.decide(held_out, LevenbergMarquardt([torch.nn.Parameter(torch.zeros(1).double())]), spare=3)
    for other, loss in zip(race.others, before, strict=True):
        assert other.validation_loss(held_out) < 0.5 * loss


@pytest.mark.parametrize(
    ("columns", "before", "after", "kept"),
    [(6, 1e-4, 2e-4, False), (6, 1.0, 0.5, True), (4, 1e-4, 2e-4, True), (4, 1e-4, 4e-4, False), (1, 1.0, 1.0, False)],
    ids=["others that are worse", "others that are better", "fewer that serve", "too few", "nothing learned yet"],
)
def test_columns_beside_latents_are_changed_only_where_members_gain(monkeypatch, columns, before, after, kept):
    learner = Ridge(NaturalNetwork(2, WIDTH, SYSTEM.domain), rank="auto", scale="task", latents=1).double()
    losses = iter((before, after))
    monkeypatch.setattr(race_of_latents, "_loss", lambda *_: next(losses))
    ones = learner.prior_factor.new_ones(len(learner.prior_factor), columns)
    monkeypatch.setattr(Ridge, "find_rank", lambda self, *_: self._set_columns(ones))
    assert find_columns(learner, members(4), spare=3) == (after if kept else before)
    assert bool((learner.prior_factor == 1.0).all()) == kept
    assert learner.rank == (columns if kept else 6)


def test_no_columns_are_added_beside_latents():
    """A body in training has some use for any column, and each validation would add some."""
    for latents, most in ((1, 6), (0, 24)):
        torch.manual_seed(0)
        net = NaturalNetwork(2, WIDTH, SYSTEM.domain)
        learner = Ridge(net, rank="auto", noise=1e-10, scale="task", latents=latents).double()
        for _ in range(2):
            learner.find_rank(members(8, split="val"), spare=3)
        assert (learner.rank > 6) == (most > 6)


def test_training_goes_on_as_it_was_where_latents_are_worth_nothing():
    learner = without_latents()
    random = torch.get_rng_state()
    race = Race(learner, 1e-2)
    assert torch.equal(torch.get_rng_state(), random)
    before = {name: value.detach().clone() for name, value in learner.named_parameters()}
    batch = rescaled(members(4, split="train"))
    race.step(batch, 1.0)
    again = Race(learner, 1e-2)
    again.load(race.state())
    for one, other in zip(race.others, again.others, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    for other in race.others:
        with torch.no_grad():
            other.prior_factor.zero_()  # heads that cannot differ
            other.net.head.weight.zero_()
    race.decide(members(6, split="val"), LevenbergMarquardt([torch.nn.Parameter(torch.zeros(1).double())]))
    assert learner.net.latents == 0
    assert all(torch.equal(value, before[name]) for name, value in learner.named_parameters())


def test_a_network_without_an_energy_takes_no_latents():
    with pytest.raises(ConfigError, match="latents=2 is not allowed with VectorFieldNetwork"):
        Ridge(VectorFieldNetwork(2, 8, 1), latents=2)
    assert Ridge(VectorFieldNetwork(2, 8, 1), latents="auto").net.latents == 0
    with pytest.raises(ConfigError, match=r"latents=-1 is not allowed.*an integer of at least 0, or auto"):
        Ridge(HamiltonianNetwork(2, 8, 1), latents=-1)
