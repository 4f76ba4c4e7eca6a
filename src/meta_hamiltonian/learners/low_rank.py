"""Heads that differ in few directions: what is known of them before a system is observed."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.learners.numerics.family_heads import FamilyHeads
from meta_hamiltonian.learners.numerics.few_features import needed, with_shifts
from meta_hamiltonian.learners.numerics.linear_head import (
    balanced,
    balanced_variance,
    centred_problem,
    head_columns,
    head_problem,
    head_weights,
    own_head,
)
from meta_hamiltonian.models import FieldNetwork
from meta_hamiltonian.observations.smoothing import EXPLAINED, INDEPENDENT

# The number of columns of L where it is found: before that, and at most for few members.
_FIRST_RANK, _MOST_OF_FEW = 6, 16
# Few members may have so many columns on hidden units in any case.
_LEAST_OF_FEW = 2
# So many members for each feature tell how heads are distributed on few features.
_TELLING = 4
# A direction of recorded members counts where it contributes this part of the noise, and of the largest.
_ABOVE, _SLIGHT = 0.25, 1e-4
# Rounds of expectation and maximisation on all features, and on few of them.
_ROUNDS_OF_PRIOR, _MANY_ROUNDS = 8, 200
# Few features are as good as all where they leave at most so many times the variance.
_AS_GOOD = 1.5


class Rows(NamedTuple):
    """The rows of many tasks.

    - `features`: A.
    - `residual`: what the prior mean leaves of the observations, y − A w₀.
    """

    features: Float[Tensor, "tasks rows features"]
    residual: Float[Tensor, "tasks rows outputs"]


class LowRankHeads(Learner):
    """Heads w = w₀ + L v, where w₀ is the network's own and L has few columns.

    Training moves w₀ and L, and held-out tasks tell the rest ([`HeldOutHeads`][]). Recorded members are few, and each
    sees a part of the domain. For them w₀, L and the distribution of v are estimated at once ([`find_prior`][]).
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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        kept = state_dict.get(f"{prefix}prior_factor")
        if self.finds_rank and kept is not None:
            self._resize(kept.shape[1])
        if self.finds_latents:
            self.set_latents(len(state_dict.get(f"{prefix}latent_mean", ())))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @torch.no_grad()
    def find_prior(self, known: Episodes, good: float = 0.0, powers: bool = True) -> FamilyHeads:
        """Takes w₀, L and σ² from all that recordings tell of a family, for the body as it is.

        Few members each see a part of the domain, so that their single heads are not known well enough to be compared.
        What the heads have in common comes from expectation and maximisation, see [`FamilyHeads`][]. Where `rank` is
        auto, L has as many columns as contribute more than the noise, and on hidden units at most one for every three
        members.
        Where features without hidden units explain as much as all features, within the errors of the rates, heads use
        these alone, and as few of them as are needed. Few members cannot overfit so few features, and training has
        nothing to add. Products of two lengths at most are tried first, and then those of more, which are taken where
        hidden units are no better.

        **Arguments:**

        - `good`: the part of the squared rates that features without hidden units may leave and still explain enough.
        - `powers`: whether products of three and more lengths count as such features.

        **Returns:** how the heads are distributed on the features that were taken.
        """
        episodes = self.scaled(known)
        points = episodes.points
        errors = 0.0 if episodes.variance is None else balanced_variance(self.net, episodes.variance).mean().item()
        features, targets = (balanced(self.net, part) for part in head_problem(self.net, points))
        rows = points.counts * features.shape[1] / points.x.shape[1]
        told = rows
        if episodes.variance is not None:
            smoothed = rows.clamp(max=INDEPENDENT * self.net.state_dim)
            told = torch.where(episodes.variance.any(-1), smoothed, rows)

        def estimated(which: Tensor, rounds: int) -> FamilyHeads:
            heads = FamilyHeads(features[..., which].shape[-1], targets.shape[-1]).to(features.device)
            heads.estimate(features[..., which], targets, rows, rounds, EXPLAINED * errors)
            return heads

        allowed = self.net.beside_units
        every = torch.ones(features.shape[-1], dtype=torch.bool, device=features.device)
        which = (every if allowed is None else allowed).nonzero()[:, 0]
        heads = estimated(which, _ROUNDS_OF_PRIOR)
        others = heads.noise.item()
        for plain, as_good in zip(self._without_units(powers), (_AS_GOOD, 1.0), strict=False):
            few = estimated(plain, _MANY_ROUNDS)
            if few.noise <= max(as_good * others, EXPLAINED * errors, good):
                which = with_shifts(self.net, plain[needed(features[..., plain], targets, rows, told)], plain)
                heads = estimated(which, _MANY_ROUNDS)
                if len(rows) < _TELLING * len(which):
                    heads.widen(features[..., which], targets, rows, _MANY_ROUNDS, EXPLAINED * errors)
                break
        sizes = (features[..., which].double() @ heads.factor).square().mean((0, 1)).sqrt()
        if self.finds_rank:
            # Errors of rates hide small differences of heads, which orbits may tell: few known terms keep theirs.
            hidden = _ABOVE * heads.noise.sqrt().item() if self._has_units(which) else 0.0
            above = sizes > max(hidden, _SLIGHT * sizes[0].item())
            most = max(_LEAST_OF_FEW, len(points.x) // 3) if self._has_units(which) else len(which)
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

    def _without_units(self, powers: bool) -> list[Int[Tensor, " features"]]:
        """The features without hidden units, at first without high powers, and then with these."""
        plain, allowed, separable = self.net.plain_features, self.net.beside_units, self.net.separable_features
        if plain is None:
            return []
        some = [plain if allowed is None else plain & allowed]
        if powers and allowed is not None:
            more = plain & separable if self.net.separated and separable is not None else plain
            some += [more] if bool((more & ~some[0]).any()) else []
        return [which.nonzero()[:, 0] for which in some]

    def centred(self, points: Points, z: Float[Tensor, "tasks latents"] | None = None) -> Rows:
        """A, and what the prior mean leaves of the observations, y − A w₀, both [`balanced`][]; at the latents z."""
        return Rows(*(balanced(self.net, part) for part in centred_problem(self.net, points, z)))

    def columns(self, v: Float[Tensor, "*tasks rank outputs"]) -> Float[Tensor, "*tasks features outputs"]:
        """w = w₀ + L v."""
        return head_columns(own_head(self.net)) + self.prior_factor @ v

    def family_heads(self) -> tuple[Float[Tensor, "features outputs"], Float[Tensor, "features directions"]]:
        """w = w₀ + L (mean + spread u), u ~ N(0, I)."""
        return self.columns(self.mean).detach(), (self.prior_factor @ self.spread).detach()
