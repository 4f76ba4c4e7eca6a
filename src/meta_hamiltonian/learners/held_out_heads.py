"""Heads that differ in few directions: what held-out tasks tell of them, and of the latents beside them."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.devices import sum_over_ranks
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.loss import task_scale
from meta_hamiltonian.learners.low_rank import LowRankHeads
from meta_hamiltonian.learners.numerics.directions import ENOUGH, WORTH, Directions, HeadRows, find_directions
from meta_hamiltonian.learners.numerics.latents import Problem, candidates, descend, starts
from meta_hamiltonian.learners.numerics.latents import Rows as ProblemRows
from meta_hamiltonian.learners.numerics.least_squares import least_squares
from meta_hamiltonian.learners.numerics.linear_head import (
    balanced,
    balanced_variance,
    head_columns,
    head_weights,
    own_head,
    present_rows,
)
from meta_hamiltonian.learners.numerics.posterior import Posterior
from meta_hamiltonian.observations.smoothing import EXPLAINED

# The most columns of L that are found.
_MOST_RANK = 24
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
# The square of what float64 resolves.
_SMALLEST_NOISE = 1e-28


class HeldOutHeads(LowRankHeads):
    """Heads w = w₀ + L v and latents z, of which held-out tasks tell three things: how many columns L should have
    ([`find_rank`][]), which latents a task has ([`find_latents`][]), and how v and z are distributed ([`calibrate`][]).
    """

    @torch.no_grad()
    def find_rank(self, held_out: Episodes, spare: int = 0) -> Directions:
        """Gives L as many columns as held-out tasks ask for, where `rank` is auto.

        These are the fewest directions among the columns of L that serve about as well as all columns. Where heads that
        are not restricted by L do much better, they are the directions in which such heads differ, and w₀ becomes the
        mean of these heads.

        Beside latents, L never gains columns. A body that has not learned yet what its latents are for has some use for
        any column, so that each validation would add some, which then do badly what latents are for.

        **Arguments:** `spare`: how many columns are added; where it is not 0, none are removed. Training with spare
        columns finds a better body, which does as well without them afterwards.
        """
        most = self.rank if self.net.latents else _MOST_RANK
        numbers = (held_out.support.x[0].numel() + held_out.query.x[0].numel()) * self.prior_factor.shape[0]
        held_out = held_out[: max(_FEWEST_TASKS, _NUMBERS_OF_RANK // numbers)]
        episodes, noise = self.scaled(held_out), self.log_noise.exp().item()
        rows = HeadRows.of(self.net, episodes, self.find_latents(episodes.points) if self.net.latents else None)
        among = (head_columns(own_head(self.net)), self.prior_factor)
        found = find_directions(rows, noise, most, among)
        if not self.finds_rank:
            return found
        if spare:
            free = find_directions(rows, noise, most)
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

    def latent_problem(self, points: Points) -> Problem:
        """The observations that latents and heads of many tasks are to explain, at the meta-learned σ²."""

        def rows(which: Tensor, z: Tensor) -> ProblemRows:
            features, residual = self.centred(points[which], z)
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
        episodes = self.scaled(held_out)
        v, left, z = self._fit(episodes.query)
        if z is not None:
            self.latent_mean.copy_(z.mean(0))
            values, vectors = torch.linalg.eigh((z - z.mean(0)).mT @ (z - z.mean(0)) / len(z))
            self.latent_spread.copy_(vectors * values.clamp_min(_NARROWEST).sqrt())
        if self.uses_body:  # other heads are not trained: they keep the distribution that was found with them
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
            explained = EXPLAINED * balanced_variance(self.net, episodes.variance).mean(-1).median()
            misfit = (misfit.square() - explained).clamp_min(0.0).sqrt()

        def features() -> Iterator[Tensor]:
            for part in self.in_parts(len(left), episodes.query):
                yield self.centred(episodes.query[part], None if z is None else z[part]).features.double()

        self.misfit_factor.copy_(misfit * _unit_changes(features, left, present[..., 0].sum()))

    @torch.no_grad()
    def free_coefficients(self, episodes: Episodes) -> Float[Tensor, "tasks terms"]:
        """The coefficients of the free columns of each task, such as those of its friction, beside its head."""
        scale = task_scale(episodes.support)[:, None] if self.scale == "task" else 1.0
        points = self.scaled(episodes).points
        assert points.free is not None
        v, _, z = self._fit(points)
        own = head_weights(self.net, self.columns(v.to(self.prior_factor))) | ({} if z is None else {"latents": z})
        left = points.rows(points.dxdt - self.net.linear_field_with(own, points.x)).flatten(1)
        present = points.free if points.mask is None else points.free * points.mask[..., None, None]
        return scale * least_squares(present.flatten(1, 2).double(), left[..., None].double())[..., 0]

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
