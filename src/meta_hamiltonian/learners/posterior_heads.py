"""Heads and latents of new members: their posterior, and its samples."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.held_out_heads import HeldOutHeads
from meta_hamiltonian.learners.numerics.latent_search import Answers, search
from meta_hamiltonian.learners.numerics.linear_head import balanced, head_columns, head_weights, present_rows
from meta_hamiltonian.learners.numerics.noisy_states import linearise
from meta_hamiltonian.learners.numerics.posterior import Posterior

# Noise variances tried on a new system, as factors of the calibrated one: from 1e-16 to 1e16, three a decade.
_FACTORS = 10.0 ** (torch.arange(-48, 49, dtype=torch.float64) / 3)
# The factors by which the prior's variance may be multiplied.
_WIDER = 10.0 ** torch.arange(9, dtype=torch.float64)
# The ratios of the variance of the noise of dp/dt to that of dq/dt: from 1e-3 to 1e3.
_RATIOS = 10.0 ** (torch.arange(-6, 7, dtype=torch.float64) / 2)
# Gauss-Newton steps of the observed states.
_ROUNDS = 2
# An answer whose log evidence is lower than the best by so much does not count; fields differ by more than this part.
_UNLIKELY, _DIFFERENT = 5.0, 0.02
# A point within so many standard deviations, which so many samples tell, lies in a posterior.
_DEVIATIONS, _ENOUGH = 3.0, 200
# The most numbers in the features of the tasks that are looked at at once; states at which fields are compared.
_NUMBERS, _STATES = 2**22, 512
_TINY = torch.finfo(torch.float64).tiny
# Over this part of their spread over a family, laws may bend as their latents change.
_BENDS = 0.05
Acting = Callable[[Float[Tensor, "tasks points n"]], Float[Tensor, "tasks points n terms"]]


class PosteriorHeads(HeldOutHeads):
    """The posterior of heads and latents of members, after some points of each were observed.

    The field is linear in the head, so that its posterior is that of a Bayesian regression, [`Posterior`][]. Where the
    family has latents, these are searched for first, and then are unknowns of the same regression, linearised there.
    """

    @property
    def unknown(self) -> int:
        """How many unknowns u a member has: those of its head, and its latents."""
        return self.rank + self.net.latents

    def weights(self, u: Float[Tensor, "*tasks unknowns outputs"]) -> dict[str, Tensor]:
        """The parameters of members from their unknowns u ~ N(0, I): heads w = w₀ + L v and latents z, with
        v = mean + spread u_v and z = latent_mean + latent_spread u_z."""
        own, inside = u.split([self.rank, self.net.latents], dim=-2)
        found = head_weights(self.net, self.columns(self.mean + self.spread @ own))
        return found | ({"latents": self._latents(inside[..., 0])} if self.net.latents else {})

    def _latents(self, u: Float[Tensor, "*tasks latents"]) -> Float[Tensor, "*tasks latents"]:
        return self.latent_mean + u @ self.latent_spread.mT

    def posterior(
        self, support: Points, forces: Acting | None = None, u: Float[Tensor, "tasks unknowns outputs"] | None = None
    ) -> Posterior:
        """The posterior of u ~ N(0, I) for each task, which [`weights`][] turns into the task's parameters.

        Latents are searched for first (by [`search`][meta_hamiltonian.learners.numerics.latent_search.search]); with
        what the law says near them, linearised, they are unknowns of the same regression as the head's.

        **Arguments:**

        - `forces`: what acts besides the Hamiltonian, in the units of the support; its coefficients are solved for with
            the head.
        - `u`: one of the answers that the search has found, in place of the likeliest.
        """
        points, whiten = support, torch.eye(self.net.state_dim).to(support.x)
        n = self.net.state_dim // 2
        acting = None if forces is None else forces(support.dxdt[..., :n])
        if self.net.latents and u is None:
            u = self.search(support, forces).best
        posterior = self._posterior(points, whiten, acting, u)
        if self.net.head.out_features > 1:  # rows are whole points: without physics, states are taken for exact
            return posterior
        for _ in range(_ROUNDS):
            u = posterior.mean
            own = self.weights(u)
            found = None if forces is None else posterior.free(u)

            def law(x: Tensor, w: Mapping[str, Tensor] = own, d: Tensor | None = found) -> tuple[Tensor, Tensor]:
                rates, jacobian = self.net.linear_field_with(w, x), self.net.jacobian_with(w, x)
                return (rates, jacobian) if forces is None or d is None else _with_forces(rates, jacobian, forces, d)

            points, whiten = linearise(support, points.x, law, self.net.state_box, self.net.domain.error_scales)
            # The velocities of the law have less noise than those that were observed.
            acting = None if forces is None else forces(law(points.x)[0][..., :n])
            posterior = self._posterior(points, whiten, acting, u if self.net.latents else None)
        return posterior

    def search(self, support: Points, forces: Acting | None = None) -> Answers:
        """Where the likeliest latents of each task are, as [`search`][] finds them.

        **Arguments:** `forces`: as those of [`posterior`][].
        """
        acting = None if forces is None else forces(support.dxdt[..., : self.net.state_dim // 2])
        whiten = torch.eye(self.net.state_dim).to(support.x)
        few = slice(0, 1), slice(len(_RATIOS) // 2, len(_RATIOS) // 2 + 1)

        def regression(which: Tensor, z: Tensor, u: Tensor | None) -> Posterior:
            own = None if acting is None else acting[which]
            return self._posterior(support[which], whiten, own, u, z, few)

        each = support.x[0].numel() * (self.prior_factor.shape[0] + self.unknown)
        return search(regression, len(support.x), self.net.latents, support.x, max(1, _NUMBERS // each))

    def answers(self, support: Points, forces: Acting | None = None) -> list[tuple[Posterior, float]]:
        """The posteriors of one task around each of its answers, with the probability of each.

        With latents a law may explain the observations in several ways. Answers count as different where their fields
        are, and where they are so far apart that neither lies in the other's posterior.
        """
        if not self.net.latents:
            return [(self.posterior(support, forces), 1.0)]
        found = self.search(support, forces)
        x = self.net.domain.sobol(_STATES)[None].to(support.x)
        kept, fields = [], []
        for i in range(found.u.shape[1]):
            gap = (found.log_evidence[0, 0] - found.log_evidence[0, i]).item()
            if gap > _UNLIKELY:
                break
            field = self.net.linear_field_with(self.weights(found.u[:, i]), x)[0]
            # Medians, since fields near a singularity would rule any mean.
            size = field.square().sum(-1).quantile(0.5)
            far = [((field - other).square().sum(-1).quantile(0.5) / size).sqrt().item() for other in fields]
            if all(one > _DIFFERENT for one in far):
                kept.append((found.u[:, i], gap))
                fields.append(field)
        posteriors = [self.posterior(support, forces, u) for u, _ in kept]
        near = [(kept[0][1], posteriors[0])]
        for posterior, (_, gap) in zip(posteriors[1:], kept[1:], strict=True):
            if not any(_reaches(other, posterior, self.rank) for _, other in near):
                near.append((gap, posterior))
        shares = torch.tensor([-gap for gap, _ in near], dtype=torch.float64).softmax(0).tolist()
        return [(posterior, share) for (_, posterior), share in zip(near, shares, strict=True)]

    def _posterior(
        self,
        points: Points,
        whiten: Float[Tensor, "*points state state"],
        forces: Float[Tensor, "tasks points n terms"] | None = None,
        u: Float[Tensor, "tasks unknowns outputs"] | None = None,
        z: Float[Tensor, "tasks latents"] | None = None,
        tried: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> Posterior:
        """The regression on the points.

        **Arguments:**

        - `u`: where the law is linearised, for a regression on latents too.
        - `z`: the latents' part of u, for a regression at fixed latents.
        - `tried`: which candidates of widths and ratios.
        """
        z = u[:, self.rank :, 0] if u is not None and self.net.latents else z
        latents = None if z is None else self._latents(z)
        features, residual = self.centred(points, latents)
        design = features @ self.prior_factor
        design, targets = design @ self.spread, residual - design @ self.mean
        if u is not None and latents is not None:
            slopes = self.net.latent_slopes(self.weights(u), points.x).flatten(1, 2)
            slopes = balanced(self.net, present_rows(points, slopes)) @ self.latent_spread
            design, targets = torch.cat([design, slopes], dim=-1), targets + slopes @ u[:, self.rank :]
        blocks = [(design, targets)]
        if self.net.head.out_features == 1:
            blocks = list(zip(self._rates(design, whiten), self._rates(targets, whiten), strict=True))
        noises = self.noise * _FACTORS.to(design)
        present = None if points.mask is None else points.counts / points.mask.shape[-1]
        free = None
        if forces is not None:
            rows = torch.cat([torch.zeros_like(forces), forces], dim=-2).flatten(1, 2)
            free = self._rates(balanced(self.net, rows), whiten)[1]
        widths, ratios = _WIDER[tried[0]].to(design), _RATIOS[tried[1]].to(design)
        return Posterior(blocks, noises, widths, ratios, present, free)

    def _rates(self, rows: Float[Tensor, "tasks rows columns"], whiten: Tensor) -> list[Tensor]:
        """The rows of dq/dt and those of dp/dt."""
        by_point = whiten @ rows.unflatten(1, (-1, self.net.state_dim))
        return [half.flatten(1, 2) for half in by_point.chunk(2, dim=2)]

    def drawn(
        self, answers: Sequence[tuple[Posterior, float]], count: int, generator: torch.Generator
    ) -> tuple[
        Float[Tensor, "samples unknowns outputs"],
        Float[Tensor, " samples"],
        Float[Tensor, " samples"],
        Float[Tensor, "samples terms"] | None,
    ]:
        """Samples of one task from the posteriors around its answers, by their shares: u, τ², σ², and d where forces
        act."""
        most = [round(share * count) for _, share in answers]
        most[0] += count - sum(most)
        parts = []
        for (posterior, _), some in zip(answers, most, strict=True):
            if some > 0:
                u, widths, noise = posterior.sample(some, generator)
                d = posterior.sample_free(u, noise, generator)[0] if posterior.has_free else None
                parts.append((u[0], widths[0], noise[0], d))
        u, widths, noise = (torch.cat([part[i] for part in parts]) for i in range(3))
        free = [part[3] for part in parts if part[3] is not None]
        return u, widths, noise, torch.cat(free) if free else None

    def left_open(self, z: Float[Tensor, "samples latents"]) -> float:
        """The largest standard deviation of latents over samples of a posterior, in units of that over the family."""
        u = torch.linalg.solve(self.latent_spread.to(z), (z - z.mean(0)).mT)
        return u.square().mean(1).sqrt().max().item()

    def sampled_weights(
        self,
        u: Float[Tensor, "tasks samples unknowns outputs"],
        widths: Float[Tensor, "tasks samples"],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Parameters from samples of u, each head with a random change as large as the misfit of the family."""
        found = self.weights(u)
        columns = head_columns(found)
        unit = torch.randn(*columns.shape, dtype=columns.dtype, generator=generator).to(columns.device)
        changed = columns + widths.sqrt()[..., None, None] * (self.misfit_factor @ unit)
        return found | head_weights(self.net, changed)


def open_latents(part: float) -> list[str]:
    """A warning where observations tell latents so roughly that the law is not linear in them over their posterior.

    **Arguments:** `part`: as [`PosteriorHeads.left_open`][] has it.
    """
    if part <= _BENDS:
        return []
    return [
        f"These observations leave the unknowns inside the law open (their standard deviation is {part:.0%} of that "
        "over the family): the bands take the law for linear in them, and may be too narrow; observe more points."
    ]


def _reaches(one: Posterior, other: Posterior, rank: int) -> bool:
    """Whether the latents of one answer lie in the posterior of another."""
    generator = torch.Generator().manual_seed(0)
    for here, there in ((one, other), (other, one)):
        drawn = here.sample(_ENOUGH, generator)[0][0, :, rank:, 0]
        away = (there.mean[0, rank:, 0] - here.mean[0, rank:, 0]) / drawn.std(0).clamp_min(_TINY)
        if (away.abs() < _DEVIATIONS).all():
            return True
    return False


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
    with torch.enable_grad():  # not torch.func.jvp, which imports PyTorch's compiler: seconds
        v = v.detach().requires_grad_()
        added = acting(v)
        (slope,) = torch.autograd.grad(added.sum() + 0 * v.sum(), v)  # inputs do not depend on it
    added = added.detach()
    rates = rates + torch.cat([torch.zeros_like(added), added], dim=-1)
    return rates, torch.cat([own, by_v + slope.unsqueeze(-1) * own], dim=-2)
