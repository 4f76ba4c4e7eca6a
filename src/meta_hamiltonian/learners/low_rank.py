"""Heads that differ in few directions: what is known of them before a system is observed."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.devices import sum_over_ranks
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.directions import ENOUGH, WORTH, Directions, HeadRows, find_directions
from meta_hamiltonian.learners.numerics.family_heads import FamilyHeads
from meta_hamiltonian.learners.numerics.few_features import needed
from meta_hamiltonian.learners.numerics.latents import Problem, candidates, descend, starts
from meta_hamiltonian.learners.numerics.latents import Rows as ProblemRows
from meta_hamiltonian.learners.numerics.linear_head import (
    balanced,
    centred_problem,
    head_columns,
    head_problem,
    head_weights,
    own_head,
    present_rows,
)
from meta_hamiltonian.learners.numerics.posterior import Posterior
from meta_hamiltonian.models import FieldNetwork

# The number of columns of L where it is found: before that, and at most; and at most for few members.
_FIRST_RANK, _MOST_RANK, _MOST_OF_FEW = 6, 24, 16
# Few members may have so many columns on hidden units in any case.
_LEAST_OF_FEW = 2
# A direction of recorded members counts where it contributes this part of the noise, and of the largest.
_ABOVE, _SLIGHT = 0.25, 1e-4
# Rounds of expectation and maximisation on all features, and on few of them.
_ROUNDS_OF_PRIOR, _MANY_ROUNDS = 8, 200
# Few features are as good as all where they leave at most so many times the variance, or so many times the variance
# that the errors of the rates alone would leave: the errors of the states add to it.
_AS_GOOD, _EXPLAINED = 1.5, 3.0
# The square of what float64 resolves.
_SMALLEST_NOISE = 1e-28
# Latents that a search begins at, those of them that are followed, and the steps from latents that are nearly right.
_STARTS, _KEPT, _STEPS_NEAR = 8, 2, 6
# The smallest and the largest factor by which a step may change the size of the latents.
_RESCALED = (0.2, 5.0)
# The least variance of a latent over a family: one that all members share is no unknown.
_NARROWEST = 1e-12
# The most numbers in the features of the tasks that are looked at at once.
_NUMBERS = 2**21
# Numbers that the features of the tasks have that tell the rank; at least so many tasks do, however large they are.
_NUMBERS_OF_RANK, _FEWEST_TASKS = 2**25, 16
# Which directions of the features of misfits can be told apart, and how little their share is shrunk.
_RESOLVED, _SHRINKAGE = 1e-12, 0.1


class Rows(NamedTuple):
    """The rows of many tasks.

    - `features`: A.
    - `residual`: what the prior mean leaves of the observations, y − A w₀.
    """

    features: Float[Tensor, "tasks rows features"]
    residual: Float[Tensor, "tasks rows outputs"]


class LowRankHeads(Learner):
    """Heads w = w₀ + L v, where w₀ is the network's own and L has few columns.

    This class finds w₀, L and the distribution of v. Training moves w₀ and L; held-out tasks tell how many columns L
    should have ([`find_rank`][]) and how v is distributed ([`calibrate`][]). Recorded members are few, and each sees a
    part of the domain, so that for them all of it is estimated at once ([`find_prior`][]).
    """

    has_posterior = True
    solves_for_head = True

    def __init__(
        self,
        net: FieldNetwork,
        rank: int | str | None = None,
        noise: float = 1e-2,
        scale: str = "none",
        latents: int | str = 0,
    ):
        """**Arguments:**

        - `net`: the network.
        - `rank`: columns of L, at least 1; `"auto"` is as many as held-out tasks ask for, see [`find_rank`][]; None is
            as many as the head has inputs.
        - `noise`: the initial σ², above 0.
        - `scale`: `"none"` or `"task"`, see [`Learner`][].
        - `latents`: the number of unknowns of a member beside its head, on which the features depend; `"auto"` is as
            many as training finds to be needed, and none before.

        **Raises:** [`ConfigError`][] for latents of a network that takes none.
        """
        super().__init__(net, scale)
        features, outputs = head_columns(own_head(net)).shape
        check_arguments(type(self), rank=rank, noise=noise, latents=latents)
        self.finds_latents = latents == "auto" and net.takes_latents
        self.finds_rank = rank == "auto"
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
        # The distribution of z over the family.
        self.latent_mean: Tensor
        self.latent_spread: Tensor
        self.set_latents(0 if latents == "auto" else int(latents))

    @property
    def rank(self) -> int:
        """Columns of L: in how many directions the heads of the family differ."""
        return self.prior_factor.shape[1]

    @property
    def uses_body(self) -> bool:
        """Whether heads have features with hidden units."""
        return self._has_units(self.prior_factor.any(1))

    def _has_units(self, which: Tensor) -> bool:
        """Whether some of these features, chosen by a mask or by their numbers, have hidden units."""
        plain = self.net.plain_features
        return plain is None or bool((~plain)[which].any())

    def set_latents(self, count: int) -> None:
        """Gives members `count` latents, N(0, I) until they are calibrated; in place, as [`FieldNetwork`][] does.

        **Raises:** [`ConfigError`][] for a network that takes none.
        """
        self.net.set_latents(count)
        like = self.log_noise.detach()
        self.register_buffer("latent_mean", like.new_zeros(count), persistent=count > 0)
        self.register_buffer("latent_spread", torch.eye(count).to(like), persistent=count > 0)

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
        if self.finds_latents:
            self.set_latents(len(state_dict.get(f"{prefix}latent_mean", ())))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @torch.no_grad()
    def find_prior(self, known: Episodes, good: float = 0.0) -> FamilyHeads:
        """Takes w₀, L and σ² from all that recordings tell of a family, for the body as it is.

        Few members each see a part of the domain, so that their single heads are not known well enough to be compared.
        What the heads have in common comes from expectation and maximisation, see [`FamilyHeads`][]. Where `rank` is
        auto, L has as many columns as contribute more than the noise, and on hidden units at most one for every three
        members.
        Where features without hidden units explain as much as all features, within the errors of the rates, heads use
        these alone, and as few of them as are needed. Few members cannot overfit so few features, and training has
        nothing to add.

        **Arguments:** `good`: the part of the squared rates that features without hidden units may leave and still
        explain enough.

        **Returns:** how the heads are distributed on the features that were taken.
        """
        episodes = rescaled(known) if self.scale == "task" else known
        points, errors = episodes.points, 0.0 if episodes.variance is None else episodes.variance.mean().item()
        features, targets = (balanced(self.net, part) for part in head_problem(self.net, points))
        rows = points.counts * features.shape[1] / points.x.shape[1]

        def estimated(which: Tensor, rounds: int) -> FamilyHeads:
            heads = FamilyHeads(features[..., which].shape[-1], targets.shape[-1]).to(features.device)
            heads.estimate(features[..., which], targets, rows, rounds, _EXPLAINED * errors)
            return heads

        usable = torch.ones(features.shape[-1], dtype=torch.bool, device=features.device)
        if self.net.separated and (separable := self.net.separable_features) is not None:
            usable = separable
        which = usable.nonzero()[:, 0]
        heads = estimated(which, _ROUNDS_OF_PRIOR)
        if (without_units := self.net.plain_features) is not None:
            plain = (usable & without_units).nonzero()[:, 0]
            few = estimated(plain, _MANY_ROUNDS)
            if few.noise <= max(_AS_GOOD * heads.noise.item(), _EXPLAINED * errors, good):
                which = plain[needed(features[..., plain], targets, rows)]
                heads = estimated(which, _MANY_ROUNDS)
        sizes = (features[..., which].double() @ heads.factor).square().mean((0, 1)).sqrt()
        if self.finds_rank:
            above = sizes > max(_ABOVE * heads.noise.sqrt().item(), _SLIGHT * sizes[0].item())
            most = len(points.x) - 1 if not self._has_units(which) else max(_LEAST_OF_FEW, len(points.x) // 3)
            self._resize(max(1, min(int(above.sum()), _MOST_OF_FEW, most)))
        found = min(self.rank, heads.factor.shape[1])
        self.prior_factor.zero_()
        self.prior_factor[which, :found] = heads.factor[:, :found].to(self.prior_factor)
        mean = self.prior_factor.new_zeros(len(self.prior_factor), targets.shape[-1])
        mean[which] = heads.mean.to(mean)
        for name, value in head_weights(self.net, mean).items():
            self.net.get_parameter(name).copy_(value)
        self.log_noise.copy_(heads.noise.log())
        return heads

    @torch.no_grad()
    def find_rank(self, held_out: Episodes, spare: int = 0) -> Directions:
        """Gives L as many columns as held-out tasks ask for, where `rank` is auto.

        These are the fewest directions among the columns of L that serve about as well as all columns. Where heads that
        are not restricted by L do much better, they are the directions in which such heads differ, and w₀ becomes the
        mean of these heads.

        **Arguments:** `spare`: so many columns are added, and none is taken away. Training finds a better body with
        spare columns, which serves as well without them afterwards.
        """
        numbers = (held_out.support.x[0].numel() + held_out.query.x[0].numel()) * self.prior_factor.shape[0]
        held_out = held_out[: max(_FEWEST_TASKS, _NUMBERS_OF_RANK // numbers)]
        episodes, noise = rescaled(held_out) if self.scale == "task" else held_out, self.log_noise.exp().item()
        rows = HeadRows.of(self.net, episodes, self.find_latents(episodes.points) if self.net.latents else None)
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

    def centred(self, points: Points, z: Float[Tensor, "tasks latents"] | None = None) -> Rows:
        """A, and what the prior mean leaves of the observations, y − A w₀; at the latents z, if there are any."""
        return Rows(*centred_problem(self.net, points, z))

    def columns(self, v: Float[Tensor, "*tasks rank outputs"]) -> Float[Tensor, "*tasks features outputs"]:
        """w = w₀ + L v."""
        return head_columns(own_head(self.net)) + self.prior_factor @ v

    def latent_problem(self, points: Points) -> Problem:
        """The observations that latents and heads of many tasks are to explain, at the meta-learned σ²."""

        def rows(which: Tensor, z: Tensor) -> ProblemRows:
            features, residual = (balanced(self.net, part) for part in self.centred(points[which], z))
            return ProblemRows(features @ self.prior_factor, residual)

        def slopes(which: Tensor, z: Tensor, v: Tensor) -> Tensor:
            return self.latent_rows(points[which], z, self.columns(v))

        each = points.x.shape[-1] // self.net.head.out_features
        return Problem(rows, slopes, self.log_noise.exp(), each * points.counts)

    def latent_rows(
        self, points: Points, z: Float[Tensor, "tasks latents"], columns: Float[Tensor, "tasks features outputs"]
    ) -> Float[Tensor, "tasks rows latents"]:
        """∂(A w)/∂z, balanced as A is."""
        slopes = self.net.latent_slopes(head_weights(self.net, columns) | {"latents": z}, points.x)
        return balanced(self.net, present_rows(points, slopes.flatten(1, 2)))

    def find_latents(
        self, points: Points, near: Float[Tensor, "tasks latents"] | None = None
    ) -> Float[Tensor, "tasks latents"]:
        """The likeliest latents of many tasks with their heads: the best of those that several starts lead to.

        **Arguments:** `near`: latents from which alone to start.
        """
        problem, tasks = self.latent_problem(points), len(points.x)
        if near is not None:
            return descend(problem, torch.arange(tasks, device=near.device), near, _STEPS_NEAR).z
        each = points.x[0].numel() * (self.net.head.in_features + self.rank)
        at_once = max(1, _NUMBERS // each)
        first = starts(self.net.latents, _STARTS).to(points.x)
        some = candidates(problem, first, _KEPT, at_once)
        which = torch.arange(tasks, device=some.device).repeat_interleave(_KEPT)
        parts = [
            descend(problem, one, z)
            for one, z in zip(which.split(at_once), some.flatten(0, 1).split(at_once), strict=True)
        ]
        z, cost = torch.cat([part.z for part in parts]), torch.cat([part.cost for part in parts])
        best = cost.view(tasks, _KEPT).argmin(1)
        return z.view(tasks, _KEPT, -1)[torch.arange(tasks, device=z.device), best]

    @torch.no_grad()
    def standardise(self, z: Float[Tensor, "tasks latents"]) -> None:
        """Gives latents the mean 0 and the size 1 over these tasks, by the weights that they enter with.

        Steps leave mean and size open, since a shift or another size of z changes no law. Where they drift, z leaves
        the prior and the starts of the search behind, and hidden units become cliffs between members whose latents came
        from different starts.
        """
        # The sums are over all devices, whose weights are to stay the same.
        count, total, squares = sum_over_ranks(torch.stack([torch.ones_like(z), z, z.square()]).sum(1))
        mean = total / count
        size = (squares / count - mean.square()).clamp_min(0.0).sqrt()
        self.net.rescale_latents(mean, size.clamp(*_RESCALED))

    @torch.no_grad()
    def calibrate(self, held_out: Episodes) -> None:
        """Empirical Bayes: the mean and covariance of v over tasks, and the variances that their fits leave.

        The noise is that of the support sets; the heads, and the misfit, are those of the query sets, which are exact.
        """
        episodes = rescaled(held_out) if self.scale == "task" else held_out
        v, left, z = self._fit(episodes.query)
        if z is not None:
            self.latent_mean.copy_(z.mean(0))
            values, vectors = torch.linalg.eigh((z - z.mean(0)).mT @ (z - z.mean(0)) / len(z))
            self.latent_spread.copy_(vectors * values.clamp_min(_NARROWEST).sqrt())
        mean = v.mean(0)
        rows = (v - mean).mT.flatten(0, 1)  # one for each task and output
        values, vectors = torch.linalg.eigh(rows.mT @ rows / len(rows))
        self.mean.copy_(mean)
        self.spread.copy_(vectors * values.clamp_min(0.0).sqrt())
        _, noisy, _ = self._fit(episodes.support)
        seen = episodes.support.counts.sum() / episodes.support.x[..., 0].numel() * noisy.numel()
        noise = noisy.square().sum() / (seen - v.numel() - len(v) * self.net.latents).clamp(min=1)
        self.noise.copy_(noise.clamp_min(_SMALLEST_NOISE))
        # By a quantile, since its tails are heavier than a Gaussian's: 90 % lie within 1.64 standard deviations.
        present = present_rows(episodes.query, torch.ones_like(left)).bool()
        misfit = left[present].abs().quantile(0.9) / 1.6449
        if episodes.variance is not None:  # of rates that are not exact, this is no misfit
            # Nor is what errors of the states add: heads that were free to change by as much would fit the noise of a
            # new recording, which made forecasts of pendulums three times worse than those of their formula.
            misfit = (misfit.square() - _EXPLAINED * episodes.variance.median()).clamp_min(0.0).sqrt()

        def features() -> Iterator[Tensor]:
            for part in self.in_parts(len(left), episodes.query):
                yield self.centred(episodes.query[part], None if z is None else z[part]).features.double()

        self.misfit_factor.copy_(misfit * _unit_changes(features, left, present[..., 0].sum()))

    def in_parts(self, tasks: int, points: Points) -> list[slice]:
        """So many tasks at a time, that a matrix A for each of them stays within a bounded memory."""
        at_once = max(1, _NUMBERS // (points.x[0].numel() * self.prior_factor.shape[0]))
        return [slice(first, first + at_once) for first in range(0, tasks, at_once)]

    def _fit(
        self, points: Points
    ) -> tuple[
        Float[Tensor, "tasks rank outputs"],
        Float[Tensor, "tasks rows outputs"],
        Float[Tensor, "tasks latents"] | None,
    ]:
        """The heads v at the meta-learned σ², what they leave, and the latents."""
        z = self.find_latents(points) if self.net.latents else None
        noise = self.log_noise.double().exp()[None]
        heads, left = [], []
        for part in self.in_parts(len(points.x), points):
            features, residual = self.centred(points[part], None if z is None else z[part])
            design, residual = (features @ self.prior_factor).double(), residual.double()
            v = Posterior([(design, residual)], noise, noise.new_ones(1), noise.new_ones(1)).mean
            heads.append(v)
            left.append(residual - design @ v)
        return torch.cat(heads), torch.cat(left), z

    def likely_latents(self, count: int) -> list[Float[Tensor, " latents"] | None]:
        """`count` latents, spread as those of the family are; None alone for a law without latents."""
        if not self.net.latents:
            return [None]
        mean, spread = self.latent_mean.double(), self.latent_spread.double()
        return list(mean + starts(self.net.latents, count).to(mean) @ spread.mT)

    def family_heads(self) -> tuple[Float[Tensor, "features outputs"], Float[Tensor, "features directions"]]:
        """w = w₀ + L (mean + spread u), u ~ N(0, I)."""
        return self.columns(self.mean).detach(), (self.prior_factor @ self.spread).detach()


def _unit_changes(
    parts: Callable[[], Iterator[Float[Tensor, "part rows features"]]],
    left: Float[Tensor, "tasks rows outputs"],
    rows: Tensor,
) -> Float[Tensor, "features features"]:
    """Changes of a head with the distribution that the misfits of the tasks ask for; the variances of their fields add
    up to 1 on average over the rows.

    **Arguments:**

    - `parts`: goes through the matrices A of the tasks, some tasks at a time.
    - `left`: what the heads of the tasks leave.
    - `rows`: how many rows there are in all that are not padding.
    """
    triangle = None
    for features in parts():
        own = features.flatten(0, 1)
        triangle = torch.linalg.qr(own if triangle is None else torch.cat([triangle, own]), mode="r").R
    assert triangle is not None
    _, values, right = torch.linalg.svd(triangle / rows**0.5)
    kept = values > _RESOLVED * values[0]
    # Heads whose fields are uncorrelated and of size 1: the changes may be almost any combination of these.
    heads = right.mT * torch.where(kept, values, math.inf).reciprocal()
    ridge = len(values) * _SHRINKAGE * torch.eye(len(values), dtype=left.dtype, device=left.device)
    found, first = [], 0
    for features in parts():
        design, own = features @ heads, left[first : first + len(features)]
        found.append(torch.linalg.solve(design.mT @ design + ridge, design.mT @ own))
        first += len(features)
    _, sizes, directions = torch.linalg.svd(torch.cat(found).mT.flatten(0, 1), full_matrices=False)
    factor = heads @ directions.mT * (sizes / sizes.square().sum().sqrt().clamp_min(torch.finfo(sizes.dtype).tiny))
    return torch.nn.functional.pad(factor, (0, len(heads) - factor.shape[-1]))
