"""The head solved in closed form: ANIL run to convergence."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Signal, Terms
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Forced, Learner, Unknowns, check_observations
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.directions import ENOUGH, WORTH, Directions, HeadRows, find_directions
from meta_hamiltonian.learners.numerics.family_heads import FamilyHeads
from meta_hamiltonian.learners.numerics.gram import cholesky_solve, ridge_factor
from meta_hamiltonian.learners.numerics.linear_head import (
    head_columns,
    head_problem,
    head_rows,
    head_weights,
    in_units,
    own_head,
    present_rows,
)
from meta_hamiltonian.learners.numerics.noisy_states import linearise
from meta_hamiltonian.learners.numerics.posterior import Posterior
from meta_hamiltonian.models import AdaptedSystems, FieldNetwork

# Columns of L, where they are found: before they are, and at most; and at most for few members.
_FIRST_RANK, _MOST_RANK, _MOST_OF_FEW = 6, 24, 16
# A direction of recorded members counts where it contributes this part of the noise, and of the largest.
_ABOVE, _SLIGHT = 0.25, 1e-4
# Rounds of expectation and maximisation on all features, and on few of them.
_ROUNDS_OF_PRIOR, _MANY_ROUNDS = 8, 200
# Few features are as good as all where they leave at most so many times the variance, or so many times that which the
# errors of the rates alone make one expect: those of the states add to it.
_AS_GOOD, _EXPLAINED = 1.5, 3.0
# Noise variances tried on a new system, as factors of the calibrated one: from 1e-16 to 1e16, three a decade.
_FACTORS = 10.0 ** (torch.arange(-48, 49, dtype=torch.float64) / 3)
# What the prior's variance may be multiplied by.
_WIDER = 10.0 ** torch.arange(9, dtype=torch.float64)
# How many times the noise of dq/dt that of dp/dt may be, as variances: from 1e-3 to 1e3.
_RATIOS = 10.0 ** (torch.arange(-6, 7, dtype=torch.float64) / 2)
# Gauss-Newton steps of the observed states.
_ROUNDS = 2
# Numbers that the features of the tasks that are adapted at once have.
_NUMBERS = 2**22
# Errors of coefficients are widened by 1 + so much over the number of observed rates of momenta.
_WIDENED = 3.0
_TINY = torch.finfo(torch.float64).tiny
Acting = Callable[[Float[Tensor, "tasks points n"]], Float[Tensor, "tasks points n terms"]]
_SMALLEST_NOISE = 1e-28  # the square of what float64 resolves
# Which directions of the features of misfits can be told apart, and how little their share is shrunk.
_RESOLVED, _SHRINKAGE = 1e-12, 0.1
# Misfits below this part of the field do not matter to orbits, which have errors of their own.
_MATTERS = 1e-6
# States that tell how large a field is over the domain, and what it may be in units of the rates that were observed.
_STATES, _SIZES = 512, (0.3, 30.0)


class Rows(NamedTuple):
    """The rows of many tasks.

    - `features`: A.
    - `residual`: what the prior mean leaves of the observations, y − A w₀.
    """

    features: Float[Tensor, "tasks rows features"]
    residual: Float[Tensor, "tasks rows outputs"]


@register
class Ridge(Learner):
    """Bayesian linear regression on the features of a shared body, with a meta-learned prior.

    The field is linear in the head, A(x) w. Over the family, heads are w = w₀ + L v, where L has few columns, since a
    family has few independent terms (the pendulum three): with so few unknowns, 25 points determine a head as well as
    50 do. In training, v is the solution of a ridge regression,

    v = argmin ‖y − A (w₀ + L v)‖² + σ² ‖v‖²,

    and the outer loop differentiates through it. The body, w₀ (the network's own head), L and, with Adam, σ² are
    meta-learned. Held-out tasks then tell the mean and the covariance of v over the family, and the variance that is
    left ([`calibrate`][]): together with these, the adapted head is the mean of a Gaussian posterior.

    On a new system the variances of dq/dt and of dp/dt are inferred anew, in float64, together with a factor by which
    the prior is widened. Points may fill only a corner of the state box, where a ridge that was right for points all
    over it is far too large, and where derivatives, and so the scale, are smaller than all over it.

    No head meets a true field exactly. What is left on exact points is the misfit of the family; samples of the
    posterior ([`sample`][]) have a random change of the head as large as it, so that their spread is that of the true
    field also where noise does not hide it.

    ??? cite "Reference"

        Harrison, Sharma, Pavone: Meta-learning priors for efficient online Bayesian regression (ALPaCA). WAFR 2018.
        arXiv:1807.08912. The solve in the inner loop: Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with
        differentiable closed-form solvers. ICLR 2019. arXiv:1805.08136.
    """

    has_posterior = True
    solves_for_head = True

    def __init__(self, net: FieldNetwork, rank: int | str | None = None, noise: float = 1e-2, scale: str = "none"):
        """**Arguments:**

        - `net`: the network.
        - `rank`: columns of L, at least 1; `"auto"` is as many as held-out tasks ask for, see [`find_rank`][]; None is
            as many as the head has inputs.
        - `noise`: what σ² starts from, above 0.
        - `scale`: `"none"` or `"task"`, see [`Learner`][].
        """
        super().__init__(net, scale)
        features, outputs = head_columns(own_head(net)).shape
        check_arguments(type(self), rank=rank, noise=noise)
        self.finds_rank = rank == "auto"
        self.estimates_prior = False  # w₀ and L by their distribution over recorded members, and not by steps
        rank = min(_FIRST_RANK, features) if rank == "auto" else features if rank is None else int(rank)
        self.prior_factor = nn.Parameter(torch.randn(features, rank) / math.sqrt(features))  # L
        self.log_noise = nn.Parameter(torch.tensor(math.log(noise)))  # log σ²
        # The distribution of v, and the variance around the field, over the family.
        self.mean: Tensor
        self.spread: Tensor
        self.noise: Tensor
        self.misfit_factor: Tensor
        self.register_buffer("mean", torch.zeros(rank, outputs))
        self.register_buffer("spread", torch.eye(rank))
        self.register_buffer("noise", torch.tensor(noise))
        self.register_buffer("misfit_factor", torch.zeros(features, features))

    @property
    def rank(self) -> int:
        """Columns of L: in how many directions the heads of the family differ."""
        return self.prior_factor.shape[1]

    @property
    def uses_body(self) -> bool:
        """Whether heads have features with hidden units."""
        plain = self.net.plain_features
        return plain is None or bool(self.prior_factor[: plain.start].any())

    def _resize(self, rank: int) -> None:
        """Gives L another number of columns, in place: an optimizer goes on with the same parameter."""
        self.prior_factor.data = self.prior_factor.new_zeros(len(self.prior_factor), rank)
        self.mean = self.mean.new_zeros(rank, self.mean.shape[1])
        self.spread = torch.eye(rank).to(self.spread)

    def _set_columns(self, factor: Float[Tensor, "features columns"]) -> None:
        self._resize(factor.shape[1])
        self.prior_factor.copy_(factor)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        kept = state_dict.get(f"{prefix}prior_factor")
        if self.finds_rank and kept is not None:
            self._resize(kept.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @torch.no_grad()
    def find_prior(self, known: Episodes) -> FamilyHeads:
        """Takes w₀, L and σ² from all that recordings tell of a family, for the body as it is.

        Few members each see a part of the domain: heads of the single ones are not known well enough to be compared,
        and L learned by steps on them would fit each of them. What they have in common comes from expectation and
        maximisation, see [`FamilyHeads`][]; L has as many columns as contribute more than the noise, where `rank` is
        auto. Where features without hidden units explain as much as all of them, within the errors of the rates, heads
        are made of these alone: few members cannot overfit so few features.

        **Returns:** how the heads are distributed on the features that were taken.
        """
        episodes = rescaled(known) if self.scale == "task" else known
        points, errors = episodes.points, 0.0 if episodes.variance is None else episodes.variance.mean().item()
        features, targets = (in_units(self.net, part) for part in head_problem(self.net, points))
        rows = points.counts * features.shape[1] / points.x.shape[1]

        def estimated(which: slice, rounds: int) -> FamilyHeads:
            heads = FamilyHeads(features[..., which].shape[-1], targets.shape[-1]).to(features.device)
            heads.estimate(features[..., which], targets, rows, rounds, _EXPLAINED * errors)
            return heads

        which = slice(None)
        heads = estimated(which, _ROUNDS_OF_PRIOR)
        if (plain := self.net.plain_features) is not None:
            few = estimated(plain, _MANY_ROUNDS)
            if few.noise <= max(_AS_GOOD * heads.noise.item(), _EXPLAINED * errors):
                which, heads = plain, few
        sizes = (features[..., which].double() @ heads.factor).square().mean((0, 1)).sqrt()
        if self.finds_rank:
            above = sizes > max(_ABOVE * heads.noise.sqrt().item(), _SLIGHT * sizes[0].item())
            self._resize(max(1, min(int(above.sum()), _MOST_OF_FEW, len(points.x) - 1)))
        found = min(self.rank, heads.factor.shape[1])
        self.prior_factor.zero_()
        self.prior_factor[which, :found] = heads.factor[:, :found].to(self.prior_factor)
        mean = self.prior_factor.new_zeros(len(self.prior_factor), targets.shape[-1])
        mean[which] = heads.mean.to(mean)
        for name, value in head_weights(self.net, mean).items():
            self.net.get_parameter(name).copy_(value)
        self.log_noise.copy_(heads.noise.log())
        self.estimates_prior = True
        return heads

    @torch.no_grad()
    def find_rank(self, held_out: Episodes, spare: int = 0) -> Directions:
        """Takes as many columns as held-out tasks ask for, where `rank` is auto.

        Those are as few directions among the columns of L as serve about as well as all of them; or, where heads that
        are free of L do much better, as few directions as these differ in. Only then is w₀ their mean.

        **Arguments:** `spare`: so many columns more, and none is taken away. Training finds a better body with them,
        which afterwards serves as well without.
        """
        episodes, noise = rescaled(held_out) if self.scale == "task" else held_out, self.log_noise.exp().item()
        rows = HeadRows.of(self.net, episodes)
        among = (head_columns(own_head(self.net)), self.prior_factor)
        found = find_directions(rows, noise, _MOST_RANK, among)
        if not self.finds_rank:
            return found
        if spare:
            free = find_directions(rows, noise, _MOST_RANK)
            if found.losses.min() <= (WORTH * free.losses.min()).clamp_min(ENOUGH):
                more = free.factor[:, self.rank : found.rank + spare]
                if more.shape[1]:
                    self._set_columns(torch.cat([self.prior_factor, more], dim=1))
                return found
            found = free
        elif found.rank == self.rank:
            return found
        self._set_columns(found.factor[:, : found.rank + spare])
        for name, value in head_weights(self.net, found.mean).items():
            self.net.get_parameter(name).copy_(value)
        return found

    def tested_steps(self, steps: Sequence[int]) -> Sequence[int]:
        """There is one step, and it converges."""
        return [1]

    def task_losses(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        """Each task's query loss with the head that [`solve`][] finds on its support set; differentiable."""
        support, query = self.both_centred(episodes)
        v = self.solution(support.features @ self.prior_factor, support.residual)
        left = query.residual - query.features @ (self.prior_factor @ v)
        return left.square().sum((-2, -1)) / episodes.query.counts

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

    def centred(self, points: Points) -> Rows:
        """A, and what the prior mean leaves of the observations, y − A w₀."""
        features, targets = head_problem(self.net, points)
        return Rows(features, targets - features @ head_columns(own_head(self.net)))

    def both_centred(self, episodes: Episodes) -> tuple[Rows, Rows]:
        """The same of the support and of the query sets, for training: in the units of the domain.

        On a GPU, which calls keep waiting, in one pass.
        """
        if not episodes.query.x.is_cuda:
            return self._balanced(episodes.support), self._balanced(episodes.query)
        features, residual = self._balanced(Points.joined(episodes.support, episodes.query))
        each = features.shape[1] // (episodes.support.x.shape[1] + episodes.query.x.shape[1])
        sizes = [each * points.x.shape[1] for points in (episodes.support, episodes.query)]
        support, query = zip(features.split(sizes, dim=1), residual.split(sizes, dim=1), strict=True)
        return Rows(*support), Rows(*query)

    def _balanced(self, points: Points) -> Rows:
        return Rows(*(in_units(self.net, rows) for rows in self.centred(points)))

    def columns(self, v: Float[Tensor, "*tasks rank outputs"]) -> Float[Tensor, "*tasks features outputs"]:
        """w = w₀ + L v."""
        return head_columns(own_head(self.net)) + self.prior_factor @ v

    @torch.no_grad()
    def calibrate(self, held_out: Episodes) -> None:
        """Empirical Bayes: the mean and covariance of v over tasks, and the variances that their fits leave.

        The noise is that of the support sets; the heads, and the misfit, are those of the query sets, which are exact.
        """
        episodes = rescaled(held_out) if self.scale == "task" else held_out
        v, left, features = self._fit(episodes.query)
        mean = v.mean(0)
        rows = (v - mean).mT.flatten(0, 1)  # one for each task and output
        values, vectors = torch.linalg.eigh(rows.mT @ rows / len(rows))
        self.mean.copy_(mean)
        self.spread.copy_(vectors * values.clamp_min(0.0).sqrt())
        _, noisy, _ = self._fit(episodes.support)
        seen = episodes.support.counts.sum() / episodes.support.x[..., 0].numel() * noisy.numel()
        noise = noisy.square().sum() / (seen - v.numel()).clamp(min=1)
        self.noise.copy_(noise.clamp_min(_SMALLEST_NOISE))
        # By a quantile, since its tails are heavier than a Gaussian's: 90 % lie within 1.64 standard deviations.
        present = present_rows(episodes.query, torch.ones_like(left)).bool()
        misfit = left[present].abs().quantile(0.9) / 1.6449
        if episodes.variance is not None:  # of rates that are not exact, this is no misfit
            misfit = (misfit.square() - episodes.variance.median()).clamp_min(0.0).sqrt()
        self.misfit_factor.copy_(misfit * _unit_changes(features.double(), left, present[..., 0].sum()))

    def _fit(
        self, points: Points
    ) -> tuple[
        Float[Tensor, "tasks rank outputs"], Float[Tensor, "tasks rows outputs"], Float[Tensor, "tasks rows features"]
    ]:
        """The heads v at the meta-learned σ², what they leave, and A."""
        features, residual = self.centred(points)
        design, residual = (features @ self.prior_factor).double(), residual.double()
        noise = self.log_noise.double().exp()[None]
        v = Posterior([(design, residual)], noise, noise.new_ones(1), noise.new_ones(1)).mean
        return v, residual - design @ v, features

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Yields the head at the prior's mean, then the one at the posterior's, which no further step changes."""
        with torch.no_grad():
            prior = self.columns(self.mean).expand(len(support.x), -1, -1)
            yield head_weights(self.net, prior)
            each = support.x[0].numel() * self.prior_factor.shape[0]
            at_once = max(1, _NUMBERS // each)
            parts = [self.posterior(support[i : i + at_once]).mean for i in range(0, len(support.x), at_once)]
            v = self.mean + self.spread @ torch.cat(parts)
            for _ in range(steps):  # the first step has converged
                yield head_weights(self.net, self.columns(v))

    def posterior(self, support: Points, forces: Acting | None = None) -> Posterior:
        """The posterior of u ~ N(0, I) for each task, where v = mean + spread u.

        **Arguments:** `forces`: what acts besides the Hamiltonian, in the units of the support; its coefficients are
        solved for with the head.
        """
        points, whiten = support, torch.eye(self.net.state_dim).to(support.x)
        n = self.net.state_dim // 2
        velocities = support.dxdt[..., :n]
        posterior = self._posterior(points, whiten, None if forces is None else forces(velocities))
        if self.net.head.out_features > 1:  # rows are whole points: without physics, states are taken for exact
            return posterior
        for _ in range(_ROUNDS):
            columns = self.columns(self.mean + self.spread @ posterior.mean)
            found = None if forces is None else posterior.free(posterior.mean)

            def law(x: Tensor, w: Tensor = columns, d: Tensor | None = found) -> tuple[Tensor, Tensor]:
                head = head_weights(self.net, w)
                rates, jacobian = self.net.linear_field_with(head, x), self.net.jacobian_with(head, x)
                return (rates, jacobian) if forces is None or d is None else _with_forces(rates, jacobian, forces, d)

            points, whiten = linearise(support, points.x, law, self.net.state_box)
            # The velocities of the law have less noise than those that were observed.
            posterior = self._posterior(points, whiten, None if forces is None else forces(law(points.x)[0][..., :n]))
        return posterior

    def _posterior(
        self,
        points: Points,
        whiten: Float[Tensor, "*points state state"],
        forces: Float[Tensor, "tasks points n terms"] | None = None,
    ) -> Posterior:
        features, residual = self.centred(points)
        design = features @ self.prior_factor
        design, targets = design @ self.spread, residual - design @ self.mean
        blocks = [(design, targets)]
        if self.net.head.out_features == 1:
            blocks = list(zip(self._rates(design, whiten), self._rates(targets, whiten), strict=True))
        noises = self.noise * _FACTORS.to(design)
        present = None if points.mask is None else points.counts / points.mask.shape[-1]
        free = None
        if forces is not None:
            rows = torch.cat([torch.zeros_like(forces), forces], dim=-2).flatten(1, 2)
            free = self._rates(rows, whiten)[1]
        return Posterior(blocks, noises, _WIDER.to(design), _RATIOS.to(design), present, free)

    def _rates(self, rows: Float[Tensor, "tasks rows columns"], whiten: Tensor) -> list[Tensor]:
        """The rows of dq/dt and those of dp/dt."""
        by_point = whiten @ rows.unflatten(1, (-1, self.net.state_dim))
        return [half.flatten(1, 2) for half in by_point.chunk(2, dim=2)]

    def family_heads(self) -> tuple[Float[Tensor, "features outputs"], Float[Tensor, "features directions"]]:
        """w = w₀ + L (mean + spread u), u ~ N(0, I)."""
        return self.columns(self.mean).detach(), (self.prior_factor @ self.spread).detach()

    def unknowns(self, adapted: AdaptedSystems, points: Points) -> Unknowns:
        """v of the family's distribution of heads, in its standard deviations, and the random change of the head."""
        learner = copy.deepcopy(self).double().requires_grad_(False)
        support, _ = learner.in_units(points)
        posterior = learner.posterior(support)
        deviation = posterior.width[0].sqrt()
        centre, basis = learner.columns(learner.mean), learner.prior_factor @ learner.spread
        value = posterior.mean[0]
        # The misfit is a part of the field over the whole domain.
        rows = head_rows(learner.net, learner.net.domain.sobol(_STATES)[None])[0]
        size = (rows @ (centre + basis @ value)).square().mean().sqrt().clamp(*_SIZES)
        change = size * learner.misfit_factor[:, learner.misfit_factor.square().sum(0) > 0]
        basis, value = basis * deviation, value / deviation
        if (rows @ change).square().sum(-1).mean().sqrt() > _MATTERS:
            basis = torch.cat([basis, change], dim=1)
            value = torch.cat([value, value.new_zeros(change.shape[1], value.shape[1])])
        return Unknowns(centre, basis, value)

    def sample_tasks(self, support: Points, count: int, seed: int = 0) -> Iterator[AdaptedSystems]:
        """Draws systems from the posterior of each of many tasks."""
        learner = copy.deepcopy(self).double().requires_grad_(False)
        support, scale = self.in_units(support)
        generator = torch.Generator(support.x.device).manual_seed(seed)
        with torch.no_grad():
            u, widths, _ = learner.posterior(support).sample(count, generator)
            columns = learner.sampled_columns(u, widths, generator)
        for task in range(len(columns)):
            yield AdaptedSystems(learner.net, head_weights(learner.net, columns[task]), scale[task].expand(count))

    def sampled_columns(
        self,
        u: Float[Tensor, "tasks samples rank outputs"],
        widths: Float[Tensor, "tasks samples"],
        generator: torch.Generator,
    ) -> Float[Tensor, "tasks samples features outputs"]:
        """Heads from samples of u, each with a random change as large as the misfit of the family."""
        columns = self.columns(self.mean + self.spread @ u)
        unit = torch.randn(*columns.shape, dtype=columns.dtype, device=columns.device, generator=generator)
        return columns + widths.sqrt()[..., None, None] * (self.misfit_factor @ unit)

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
            posterior = learner.posterior(support, acting if count else None)
            d = posterior.free(posterior.mean) if count else scale.new_zeros(1, 0)
            friction = d[0, : len(terms.kinds)]
            if (friction < 0).any():
                fewer = terms.without(terms.kinds[int(friction.argmin())])
                return self.adapt_forced(points, fewer, signal, steps, samples, seed)
            head = learner.columns(learner.mean + learner.spread @ posterior.mean)
            adapted = AdaptedSystems(learner.net, head_weights(learner.net, head), scale, terms.forces(d, n, signal))
            size = terms.columns(points.dxdt[:, :n].double()).square().mean((0, 1)).sqrt()
            ranges = points.dxdt[:, n:].double().square().mean().sqrt() / size.clamp_min(_TINY)
            evidence = posterior.log_evidence(ranges[None] if count else None).item()
            if not samples:
                return Forced(adapted, None, evidence)
            generator = torch.Generator(support.x.device).manual_seed(seed)
            u, widths, noise = posterior.sample(samples, generator)
            drawn = posterior.sample_free(u, noise, generator)[0] if count else u.new_zeros(samples, 0)
            # By experience: of 536 springs and Duffing oscillators with 50 noisy points, 92.9 % had the true one
            # within 1.96 standard deviations without this factor.
            drawn = d + (1 + _WIDENED / points.x[:, :n].numel()) * (drawn - d)
            drawn[:, : len(terms.kinds)] = drawn[:, : len(terms.kinds)].abs()  # takes energy out
            columns = learner.sampled_columns(u, widths, generator)[0]
        forces = terms.forces(drawn, n, signal)
        sampled = AdaptedSystems(learner.net, head_weights(learner.net, columns), scale.expand(samples), forces)
        return Forced(adapted, sampled, evidence)


def _with_forces(
    rates: Float[Tensor, "tasks points state"],
    jacobian: Float[Tensor, "tasks points state state"],
    forces: Acting,
    d: Float[Tensor, "tasks terms"],
) -> tuple[Float[Tensor, "tasks points state"], Float[Tensor, "tasks points state state"]]:
    """A conservative field and its Jacobian, with what forces add to them: each depends on its own velocity alone."""
    v, _ = rates.chunk(2, dim=-1)
    own, by_v = jacobian.chunk(2, dim=-2)
    acting = lambda v: (forces(v) @ d[:, None, :, None])[..., 0]  # noqa: E731
    added, slope = torch.func.jvp(acting, (v,), (torch.ones_like(v),))[:2]
    rates = rates + torch.cat([torch.zeros_like(added), added], dim=-1)
    return rates, torch.cat([own, by_v + slope.unsqueeze(-1) * own], dim=-2)


def _unit_changes(
    features: Float[Tensor, "tasks rows features"], left: Float[Tensor, "tasks rows outputs"], rows: Tensor
) -> Float[Tensor, "features features"]:
    """Changes of a head that are distributed as those that the misfits of the tasks ask for; the variances of their
    fields add up to 1 on average over the rows."""
    triangle = torch.linalg.qr(features.flatten(0, 1), mode="r").R / rows**0.5
    _, values, right = torch.linalg.svd(triangle)
    kept = values > _RESOLVED * values[0]
    # Heads whose fields are uncorrelated and of size 1, from which the changes are as good as free to come.
    heads = right.mT * torch.where(kept, values, math.inf).reciprocal()
    design = features @ heads
    eye = torch.eye(len(values), dtype=design.dtype, device=design.device)
    changes = torch.linalg.solve(design.mT @ design + len(values) * _SHRINKAGE * eye, design.mT @ left)
    _, sizes, directions = torch.linalg.svd(changes.mT.flatten(0, 1), full_matrices=False)
    factor = heads @ directions.mT * (sizes / sizes.square().sum().sqrt().clamp_min(torch.finfo(sizes.dtype).tiny))
    return torch.nn.functional.pad(factor, (0, len(heads) - factor.shape[-1]))
