"""The head in closed form: what ANIL's inner loop converges to."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Signal, Terms
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Forced, Latents, Unknowns, check_observations
from meta_hamiltonian.learners.low_rank import Rows
from meta_hamiltonian.learners.numerics.gram import cholesky_solve, ridge_factor
from meta_hamiltonian.learners.numerics.latents import cost_of, polished
from meta_hamiltonian.learners.numerics.linear_head import balanced, head_rows, head_targets, present_rows
from meta_hamiltonian.learners.posterior_heads import PosteriorHeads, open_latents
from meta_hamiltonian.models import Adapted, AdaptedSystems

# Errors of coefficients are widened by 1 + so much over the number of observed rates of momenta.
_WIDENED = 3.0
_TINY = torch.finfo(torch.float64).tiny
# Misfits below this part of the field do not matter to orbits, which have errors of their own.
_MATTERS = 1e-6
# States that tell how large a field is over the domain, and what it may be in units of the rates that were observed.
_STATES, _SIZES = 512, (0.3, 30.0)


class SeveralAnswersWarning(UserWarning):
    """Several members of a family explain what was observed."""


class OpenLatentsWarning(UserWarning):
    """What was observed tells the unknowns inside the law roughly at best."""


@register
class Ridge(PosteriorHeads):
    """Bayesian linear regression on the features of a shared body, with a meta-learned prior.

    The field is linear in the head, A(x) w. Over the family, heads are w = w₀ + L v, where L has few columns, since a
    family has few independent terms (the pendulum has three). With so few unknowns, 25 points determine a head as well
    as 50 do. In training, v is the solution of a ridge regression, equation (6),

    v = argmin ‖y − A (w₀ + L v)‖² + σ² ‖v‖²,

    and the outer loop differentiates through it. The body, w₀ (the network's own head), L and, with Adam, σ² are
    meta-learned. Held-out tasks then tell the mean and the covariance of v over the family, and the variance that is
    left ([`calibrate`][]). With these, the adapted head is the mean of a Gaussian posterior.

    On a new system the variances of dq/dt and of dp/dt are inferred anew, in float64, together with a factor by which
    the prior is widened. Points may fill only a corner of the state box. There a ridge that was right for points all
    over the box is far too large, and derivatives, and so their scale, are smaller.

    Where no linear head can follow the family's unknowns, `latents` gives every member numbers z of its own that the
    features depend on, A(x; z) w. In training they are found together with v ([`Problem`][]); for a new system they are
    found by evidence, from several starts ([`search`][]).

    No head meets a true field exactly. What is left on exact points is the misfit of the family. Samples of the
    posterior ([`sample`][]) have a random change of the head as large as the misfit, so that their spread is that of
    the true field also where no noise hides it.

    ??? cite "Reference"

        Harrison, Sharma, Pavone: Meta-learning priors for efficient online Bayesian regression (ALPaCA). WAFR 2018.
        arXiv:1807.08912. The solve in the inner loop: Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with
        differentiable closed-form solvers. ICLR 2019. arXiv:1805.08136.
    """

    def tested_steps(self, steps: Sequence[int]) -> Sequence[int]:
        """There is one step, and it converges."""
        return [1]

    def task_losses(
        self, episodes: Episodes, near: Float[Tensor, "tasks latents"] | None = None
    ) -> Float[Tensor, " tasks"]:
        """Each task's query loss with the head that [`solve`][] finds on its support set; differentiable.

        **Arguments:** `near`: the only latents to start from; None is everywhere.
        """
        z = self.support_latents(episodes.support, near) if self.net.latents else None
        support, query = self.both_centred(episodes, z)
        v = self.solution(support.features @ self.prior_factor, support.residual)
        left = query.residual - query.features @ (self.prior_factor @ v)
        return left.square().sum((-2, -1)) / episodes.query.counts

    def validation_loss(self, episodes: Episodes) -> Float[Tensor, ""]:
        """The loss of held-out tasks; with latents, members are adapted as new ones are, with the calibrated prior.

        In training the prior is wide, so that a few members have heads and latents that no member is likely to have.
        Their losses would say nothing of predictions.
        """
        episodes = self.scaled(episodes)
        query = episodes.query
        with torch.no_grad():
            if not self.net.latents:
                parts = self.in_parts(len(episodes), query)
                return torch.cat([self.task_losses(episodes[part]) for part in parts]).mean()
            *_, found = self.adaptations(episodes.support, 1)
            left = head_targets(self.net, self.net.linear_field_with(found, query.x) - query.dxdt)
            left = balanced(self.net, present_rows(query, left))
        return (left.square().sum((1, 2)) / query.counts).mean()

    def solve(self, support: Points) -> Float[Tensor, "tasks features outputs"]:
        """The heads' posterior means, differentiable, at the meta-learned σ²."""
        features, residual = self.centred(support)
        return self.columns(self.solution(features @ self.prior_factor, residual))

    def solution(
        self, design: Float[Tensor, "tasks rows rank"], residual: Float[Tensor, "tasks rows outputs"]
    ) -> Float[Tensor, "tasks rank outputs"]:
        """v = (BᵀB + σ²)⁻¹ Bᵀ y.

        The small system is solved in float64, and in its dual form where it has fewer equations than unknowns:
        single precision loses up to 0.1 of the solution at small ridges.
        """
        dtype, noise = design.dtype, self.log_noise.double().exp()
        design, residual = design.double(), residual.double()
        rows, rank = design.shape[-2:]
        if rows < rank:
            dual = ridge_factor(design @ design.mT, noise)
            return (design.mT @ cholesky_solve(dual, residual)).to(dtype)
        primal = ridge_factor(design.mT @ design, noise)
        return cholesky_solve(primal, design.mT @ residual).to(dtype)

    def support_latents(
        self, support: Points, near: Float[Tensor, "tasks latents"] | None = None
    ) -> Float[Tensor, "tasks latents"]:
        """The latents that [`find_latents`][] finds, differentiable: the last of a few Newton steps from there changes
        nothing, but has the derivatives of the solution (the implicit function theorem)."""
        with torch.no_grad():
            z = self.find_latents(support, near)
        return polished(self.latent_cost(support), z) if torch.is_grad_enabled() else z

    def latent_cost(self, support: Points) -> Callable[[Tensor], Tensor]:
        """The cost of latents as [`Found`][] has it, differentiable with respect to them and to the shared weights."""
        problem, every = self.latent_problem(support), torch.arange(len(support.x), device=support.x.device)

        def cost(z: Tensor) -> Tensor:
            design, residual = problem.rows(every, z)
            v = self.solution(design, residual)
            square = (residual - design @ v).square().sum((1, 2)) + problem.ridge * v.square().sum((1, 2))
            return cost_of(square, z, problem.counts, problem.ridge)

        return cost

    def both_centred(self, episodes: Episodes, z: Float[Tensor, "tasks latents"] | None = None) -> tuple[Rows, Rows]:
        """The rows of [`centred`][] for the support and the query sets, for training.

        On a GPU, which waits for calls, both are computed in one pass.
        """
        if not episodes.query.x.is_cuda:
            return self._for_training(episodes.support, z), self._for_training(episodes.query, z)
        features, residual = self._for_training(Points.joined(episodes.support, episodes.query), z)
        each = features.shape[1] // (episodes.support.x.shape[1] + episodes.query.x.shape[1])
        sizes = [each * points.x.shape[1] for points in (episodes.support, episodes.query)]
        support, query = zip(features.split(sizes, dim=1), residual.split(sizes, dim=1), strict=True)
        return Rows(*support), Rows(*query)

    def _for_training(self, points: Points, z: Tensor | None) -> Rows:
        features, residual = self.centred(points, z)
        if (allowed := self.net.beside_units) is not None and self.uses_body:
            features = features * allowed  # heads have no others, and are to get none
        return Rows(features, residual)

    def adapt(
        self, x: Float[Tensor, "points state"], dxdt: Float[Tensor, "points state"], steps: int | None = None
    ) -> Adapted:
        """Adapts to one new system, as every learner does. Where several laws explain the points, the likeliest is
        returned, and a [`SeveralAnswersWarning`][] says so; where the points tell little of the latents, an
        [`OpenLatentsWarning`][] does."""
        if not self.net.latents or steps == 0:
            return super().adapt(x, dxdt, steps)
        check_observations(x, dxdt, self.net.state_dim)
        learner = copy.deepcopy(self).double().requires_grad_(False)
        support, scale = self.in_units(Points(x[None], dxdt[None]))
        with torch.no_grad():
            answers = learner.answers(support)
            own = learner.weights(answers[0][0].mean)
        if len(answers) > 1:
            shares = ", ".join(f"{share:.0%}" for _, share in answers)
            warnings.warn(
                f"{len(answers)} members of the family explain these points (probabilities {shares}); this is the "
                "likeliest, and samples of the posterior are of all of them",
                SeveralAnswersWarning,
                stacklevel=2,
            )
        else:
            u, _, _ = answers[0][0].sample(_STATES, torch.Generator().manual_seed(0))
            for warning in open_latents(learner.left_open(learner.weights(u[0])["latents"])):
                warnings.warn(warning, OpenLatentsWarning, stacklevel=2)
        return Adapted(AdaptedSystems(learner.net, own, scale))

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Yields the head at the prior's mean, then the one at the posterior's, which no further step changes."""
        with torch.no_grad():
            before = self.weights(self.mean.new_zeros(len(support.x), self.unknown, self.mean.shape[1]))
            yield before
            parts = self.in_parts(len(support.x), support)
            found = self.weights(torch.cat([self.posterior(support[part]).mean for part in parts]))
            for _ in range(steps):  # the first step has converged
                yield found

    def unknowns(self, adapted: AdaptedSystems, points: Points) -> Unknowns:
        """v of the family's distribution of heads, in its standard deviations, and the random change of the head."""
        learner = copy.deepcopy(self).double().requires_grad_(False)
        support, _ = learner.in_units(points)
        posterior = learner.posterior(support)
        deviation = posterior.width[0].sqrt()
        centre, basis = learner.columns(learner.mean), learner.prior_factor @ learner.spread
        value, inside = posterior.mean[0].split([learner.rank, learner.net.latents])
        latents = None
        if learner.net.latents:
            u = inside[:, 0] / deviation
            latents = Latents(learner.latent_mean, deviation * learner.latent_spread, u)
        # The misfit is a part of the field over the whole domain.
        states = learner.net.domain.sobol(_STATES)[None].to(support.x)
        z = {} if latents is None else {"latents": latents.at(latents.value)[None]}
        rows = balanced(learner.net, head_rows(learner.net, learner.net.beside(states, z)))[0]
        size = (rows @ (centre + basis @ value)).square().mean().sqrt().clamp(*_SIZES)
        change = size * learner.misfit_factor[:, learner.misfit_factor.square().sum(0) > 0]
        basis, value = basis * deviation, value / deviation
        if (rows @ change).square().sum(-1).mean().sqrt() > _MATTERS:
            basis = torch.cat([basis, change], dim=1)
            value = torch.cat([value, value.new_zeros(change.shape[1], value.shape[1])])
        return Unknowns(centre, basis, value, latents)

    def sample_tasks(self, support: Points, count: int, seed: int = 0) -> Iterator[AdaptedSystems]:
        """Draws systems from the posterior of each of many tasks."""
        learner = copy.deepcopy(self).double().requires_grad_(False)
        support, scale = self.in_units(support)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            if learner.net.latents:
                for task in range(len(scale)):
                    u, widths, _, _ = learner.drawn(learner.answers(support[task : task + 1]), count, generator)
                    own = learner.sampled_weights(u[None], widths[None], generator)
                    yield AdaptedSystems(
                        learner.net, {name: value[0] for name, value in own.items()}, scale[task].expand(count)
                    )
                return
            u, widths, _ = learner.posterior(support).sample(count, generator)
            drawn = learner.sampled_weights(u, widths, generator)
        for task in range(len(u)):
            own = {name: value[task] for name, value in drawn.items()}
            yield AdaptedSystems(learner.net, own, scale[task].expand(count))

    def adapt_forced(
        self,
        points: Points,
        terms: Terms,
        signal: Signal | None = None,
        steps: int | None = None,
        samples: int = 0,
        seed: int = 0,
    ) -> Forced:
        """The head and the coefficients of forces in one solve; friction with a negative coefficient is left out."""
        if self.net.head.out_features > 1:
            return super().adapt_forced(points, terms, signal, steps, samples, seed)
        check_observations(points.x, points.dxdt, self.net.state_dim)
        learner = copy.deepcopy(self).double().requires_grad_(False)
        support, scale = self.in_units(Points(points.x[None], points.dxdt[None]))
        n = self.net.state_dim // 2
        count = terms.count(n)

        def acting(v: Tensor) -> Tensor:
            return terms.columns(scale * v[0])[None] / scale

        with torch.no_grad():
            answers = learner.answers(support, acting if count else None)
            posterior = answers[0][0]
            d = posterior.free(posterior.mean) if count else scale.new_zeros(1, 0)
            friction = d[0, : len(terms.kinds)]
            if (friction < 0).any():
                fewer = terms.without(terms.kinds[int(friction.argmin())])
                return self.adapt_forced(points, fewer, signal, steps, samples, seed)
            own = learner.weights(posterior.mean)
            adapted = AdaptedSystems(learner.net, own, scale, terms.forces(d, n, signal))
            size = terms.columns(points.dxdt[:, :n].double()).square().mean((0, 1)).sqrt()
            ranges = points.dxdt[:, n:].double().square().mean().sqrt() / size.clamp_min(_TINY)
            evidence = posterior.log_evidence(ranges[None] if count else None).item()
            shares = tuple(share for _, share in answers)
            if not samples:
                return Forced(adapted, None, evidence, shares)
            generator = torch.Generator().manual_seed(seed)
            u, widths, _, drawn = learner.drawn(answers, samples, generator)
            drawn = u.new_zeros(samples, 0) if drawn is None else drawn
            # By experience: of 536 springs and Duffing oscillators with 50 noisy points, 92.9 % had the true one
            # within 1.96 standard deviations without this factor.
            drawn = d + (1 + _WIDENED / points.x[:, :n].numel()) * (drawn - d)
            drawn[:, : len(terms.kinds)] = drawn[:, : len(terms.kinds)].abs()  # takes energy out
            own = {name: value[0] for name, value in learner.sampled_weights(u[None], widths[None], generator).items()}
        forces = terms.forces(drawn, n, signal)
        sampled = AdaptedSystems(learner.net, own, scale.expand(samples), forces)
        return Forced(adapted, sampled, evidence, shares)
