"""What holds for every learner: a test class inherits from [`LearnerContract`][] and says how one is made."""

import dataclasses

import pytest
import torch

from meta_hamiltonian.episodes import Episodes, Points, sample_episodes
from meta_hamiltonian.systems import HenonHeiles, Pendulum

FAMILIES = {1: Pendulum(), 2: HenonHeiles()}


def tasks_of(n, tasks=5, support=9, query=7, dtype=torch.float64):
    return sample_episodes(FAMILIES[n], tasks, support, query, seed=4, dtype=dtype)


def padded(points: Points, count: int) -> Points:
    """The first `count` points, and rubbish that the mask hides."""
    mask = torch.arange(points.x.shape[1]).expand(points.x.shape[:2]) < count
    rubbish = torch.randn(points.x.shape, dtype=points.x.dtype, generator=torch.Generator().manual_seed(1))
    x = torch.where(mask[..., None], points.x, rubbish)
    return Points(x, torch.where(mask[..., None], points.dxdt, 100 * rubbish), mask)


class LearnerContract:
    """Subclasses have `make(domain)`, which returns a learner in float64."""

    adapts_exactly = 1e-9

    def make(self, domain):
        raise AssertionError("a subclass makes its learner")

    @pytest.fixture(params=[1, 2], ids=["n=1", "n=2"])
    def n(self, request):
        return request.param

    @pytest.fixture
    def learner(self, n):
        torch.manual_seed(0)
        return self.make(FAMILIES[n].domain)

    def test_the_meta_gradient_is_that_of_autograd(self, learner, n):
        """However a learner takes it: chunk by chunk, written out, or as it is."""
        episodes = tasks_of(n)
        learner.meta_loss(episodes).backward()
        found = {name: value.grad for name, value in learner.named_parameters()}
        scaled = episodes
        if learner.scale == "task":
            scale = episodes.support.dxdt.square().mean((1, 2)).sqrt()[:, None, None]
            support, query = (Points(p.x, p.dxdt / scale) for p in (episodes.support, episodes.query))
            scaled = dataclasses.replace(episodes, support=support, query=query)
        expected = torch.autograd.grad(
            learner.task_losses(scaled).mean(), list(learner.parameters()), allow_unused=True, materialize_grads=True
        )
        for (name, gradient), by_autograd in zip(found.items(), expected, strict=True):
            gradient = torch.zeros_like(by_autograd) if gradient is None else gradient
            assert (gradient - by_autograd).abs().max() <= 1e-9 * by_autograd.abs().max() + 1e-13, name

    def test_tasks_do_not_touch_each_other(self, learner, n):
        episodes = tasks_of(n)
        together = learner.task_losses(episodes)
        alone = torch.cat([learner.task_losses(episodes[i : i + 1]) for i in range(len(episodes))])
        torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-12)
        order = torch.tensor([3, 1, 4, 0, 2])
        torch.testing.assert_close(learner.task_losses(episodes[order]), together[order], rtol=1e-8, atol=1e-12)

    def test_the_order_of_the_points_does_not_matter(self, learner, n):
        episodes = tasks_of(n)
        order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
        support = Points(episodes.support.x[:, order], episodes.support.dxdt[:, order])
        torch.testing.assert_close(
            learner.task_losses(dataclasses.replace(episodes, support=support)),
            learner.task_losses(episodes),
            rtol=1e-7,
            atol=1e-12,
        )

    def test_points_that_a_task_does_not_have_do_not_matter(self, learner, n):
        """Neither to the loss and its gradient nor to adaptation."""
        whole = tasks_of(n)
        short = Episodes(whole.support.first(6), whole.query.first(5), index=whole.index)
        masked = Episodes(padded(whole.support, 6), padded(whole.query, 5), index=whole.index)
        losses = []
        for episodes in (short, masked):
            learner.zero_grad()
            loss = learner.meta_loss(episodes)
            loss.backward()
            gradients = [v.grad for v in learner.parameters() if v.grad is not None]
            losses.append(torch.cat([loss.detach()[None], *(gradient.flatten() for gradient in gradients)]))
        assert (losses[0] - losses[1]).abs().max() <= 1e-8 * losses[0].abs().max()
        grid = FAMILIES[n].domain.grid(7)[:49].expand(5, 49, -1)
        steps = learner.tested_steps([2])
        fields = [next(iter(learner.adapt_tasks(e.support, steps))).field(grid) for e in (short, masked)]
        assert (fields[0] - fields[1]).abs().max() <= self.adapts_exactly * fields[0].abs().max()

    def test_adapting_is_the_same_every_time_and_leaves_the_learner_as_it_was(self, learner, n):
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        support = tasks_of(n, 1).support[0]
        one, other = learner.adapt(support.x, support.dxdt), learner.adapt(support.x.float(), support.dxdt.float())
        again = learner.adapt(support.x, support.dxdt)
        x = FAMILIES[n].domain.grid(5)[:20]
        assert torch.equal(one.field(x), again.field(x))
        size = one.field(x).abs().max()
        assert (one.field(x) - other.field(x)).abs().max() <= 0.05 * size, "float32 observations"
        for name, value in learner.state_dict().items():
            assert torch.equal(value, before[name])

    def test_float32_is_float64_with_fewer_digits(self, learner, n):
        exact = learner.meta_loss(tasks_of(n)).item()
        assert learner.float().meta_loss(tasks_of(n, dtype=torch.float32)).item() == pytest.approx(exact, rel=2e-2)

    def test_it_says_what_an_adapted_system_is_made_of(self, learner, n):
        (adapted,) = learner.adapt_tasks(tasks_of(n).support, learner.tested_steps([2]))
        numbers = learner.own_numbers(adapted)
        assert numbers.shape[0] == 5
        assert numbers.isfinite().all()
        points = tasks_of(n, 1).support
        if not learner.net.has_head:
            with pytest.raises(TypeError, match="no linear head"):
                learner.unknowns(adapted[0].systems, points)
            return
        centre, basis, value, _ = learner.unknowns(adapted[0].systems, points)
        assert centre.shape == (basis.shape[0], value.shape[1])
        assert basis.shape[1] == value.shape[0]

    def test_samples_exist_where_it_says_so(self, learner, n):
        support = tasks_of(n, 1).support[0]
        if not learner.has_posterior:
            with pytest.raises(TypeError, match=r"no posterior.*algo=ridge"):
                learner.sample(support.x, support.dxdt)
            return
        samples = learner.sample(support.x, support.dxdt, count=7)
        assert samples.field(support.x.expand(7, -1, -1)).isfinite().all()
        assert len(samples.scale) == 7
