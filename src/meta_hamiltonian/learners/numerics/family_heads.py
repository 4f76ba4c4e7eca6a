"""How the heads of a family are distributed on the features of one body."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.learners.numerics.posterior import Posterior

# Directions in which heads may differ, at most, and rounds of the estimation.
_MOST = 64
_ROUNDS = 8
# Features that are this part of the largest are not told apart.
_RESOLVED = 1e-5
# What the rounds begin with: the fields that the heads leave unexplained, as a part of all fields.
_FIRST = 1e-2
# Log likelihoods that differ by less do not tell two distributions apart.
_AS_WELL = 2.0
# Parts of an uninformed covariance that may be added to that of few members.
_WIDER = (0.0, *(10.0 ** (power / 2) for power in range(-12, 3)))
# A variance of fields in units of their own is no smaller.
_LEAST = 1e-20
# Variances of the noise that are tried on a new system, as factors; ratios of the variances of dq/dt and dp/dt; and
# scales of its field over the domain, in units of the observed rates.
_FACTORS = 10.0 ** (torch.arange(-24, 25, dtype=torch.float64) / 2)
_RATIOS = 10.0 ** torch.arange(-2, 3, dtype=torch.float64)
_SCALES = 10.0 ** (torch.arange(-4, 13, dtype=torch.float64) / 8)


class FamilyHeads(nn.Module):
    """w = mean + factor v, v ~ N(0, I), and the variance that the best of such heads leave of a field.

    Gradient steps leave a head some way from where it should be. These numbers tell what heads a family has on the
    features of the body, and so how far the features alone can be trusted.
    """

    def __init__(self, features: int, outputs: int):
        super().__init__()
        self.mean: Tensor
        self.factor: Tensor
        self.noise: Tensor
        self.register_buffer("mean", torch.zeros(features, outputs, dtype=torch.float64))
        self.register_buffer("factor", torch.zeros(features, min(features, _MOST), dtype=torch.float64))
        self.register_buffer("noise", torch.zeros((), dtype=torch.float64))

    @property
    def known(self) -> bool:
        """Whether the distribution of heads was estimated."""
        return bool(self.noise > 0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FamilyHeads":
        # Directions of small features have large heads, whose digits matter.
        super()._apply(fn, recurse)
        self.mean, self.factor, self.noise = self.mean.double(), self.factor.double(), self.noise.double()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, value in self.named_buffers():  # checkpoints of earlier versions have none
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @torch.no_grad()
    def estimate(
        self,
        features: Float[Tensor, "tasks rows features"],
        targets: Float[Tensor, "tasks rows outputs"],
        rows: Float[Tensor, " tasks"],
        rounds: int = _ROUNDS,
        errors: float = 0.0,
    ) -> None:
        """Estimates in turn the heads of each task, given their distribution, and that distribution (EM algorithm).

        **Arguments:**

        - `features`, `targets`: A and y of held-out tasks; rows that a task does not have are 0.
        - `rows`: how many it has.
        - `rounds`: how many; directions in which heads do not differ vanish slowly.
        - `errors`: the variance that the errors of the targets explain.

        ??? cite "Reference"

            Dempster, Laird, Rubin: Maximum likelihood from incomplete data via the EM algorithm. Journal of the Royal
            Statistical Society B 39, 1977.
        """
        features, targets, rows = (part.double() for part in (features, targets, rows))
        heads = _unit_heads(features, rows.sum())
        design = features @ heads
        stacked = design.flatten(0, 1), targets.flatten(0, 1)
        mean = torch.linalg.solve(
            stacked[0].mT @ stacked[0] + _RESOLVED**2 * rows.sum() * torch.eye(heads.shape[1]).to(design),
            stacked[0].mT @ stacked[1],
        )
        left = targets - design @ mean
        gram, along, squares = design.mT @ design, design.mT @ left, left.square().sum()
        numbers = rows.sum() * left.shape[-1]
        noise = (_FIRST * squares / numbers).clamp_min(_LEAST)
        eye = torch.eye(heads.shape[1]).to(design)
        spread = eye * squares / numbers / len(eye)
        for _ in range(rounds):
            values, vectors = torch.linalg.eigh(spread)
            root = vectors * values.clamp_min(0.0).sqrt()
            inner = torch.linalg.cholesky(root.mT @ gram @ root / noise + eye)
            v = torch.cholesky_solve(root.mT @ along, inner) / noise
            u = root @ v
            half = torch.linalg.solve_triangular(inner, root.mT.expand(len(inner), -1, -1), upper=False)
            unsure = half.mT @ half  # the covariance of each head
            explained = squares - 2 * (u * along).sum() + (u * (gram @ u)).sum()
            unsure_rows = left.shape[-1] * (unsure * gram).sum()
            noise = ((explained + unsure_rows) / numbers).clamp_min(_LEAST)
            each = u.transpose(0, 1).flatten(1)
            spread = each @ each.mT / each.shape[1] + unsure.mean(0)
        values, vectors = torch.linalg.eigh(spread)
        values, vectors = values.flip(0).clamp_min(0.0), vectors.flip(1)
        count = min(self.factor.shape[1], len(values))
        # What no head of the family meets is smooth too: a change of the head in any direction.
        values[:count] += ((noise - errors).clamp_min(0.0) + values[count:].sum()) / count
        self.mean.copy_(heads @ mean)
        self.factor.zero_()
        self.factor[:, :count] = heads @ (vectors[:, :count] * values[:count].sqrt())
        self.noise.copy_(noise)

    @torch.no_grad()
    def widen(
        self,
        features: Float[Tensor, "tasks rows features"],
        targets: Float[Tensor, "tasks rows outputs"],
        rows: Float[Tensor, " tasks"],
        rounds: int,
        errors: float,
    ) -> None:
        """Lets heads differ in every direction, by as much as members tell that were left out in turn.

        Few members span fewer directions than heads have: two members span one, and a third lies outside it. To the
        covariance a fraction of an uninformed one is added: the largest fraction with which the distribution that is
        estimated from all other members predicts the observations of a left-out member about as well as with the
        best fraction, over all members. With a single member the whole uninformed covariance is added.

        **Arguments:** as those of [`estimate`][], which was called before.
        """
        features, targets = features.double(), targets.double()
        size = (targets.square().sum() / rows.sum() / targets.shape[-1]).item()
        heads = _unit_heads(features, rows.double().sum())
        isotropic = heads * (size / heads.shape[1]) ** 0.5
        part = 1.0 if len(features) == 1 else self._part(features, targets, rows, rounds, errors, isotropic)
        if not part:
            return
        both = torch.cat([self.factor, part**0.5 * isotropic], dim=1)
        # The same covariance by fewer columns, the largest fields first.
        directions, values, _ = torch.linalg.svd(torch.linalg.pinv(heads) @ both, full_matrices=False)
        count = min(self.factor.shape[1], len(values))
        self.factor.zero_()
        self.factor[:, :count] = heads @ (directions * values)[:, :count]

    def _part(
        self, features: Tensor, targets: Tensor, rows: Tensor, rounds: int, errors: float, isotropic: Tensor
    ) -> float:
        """The largest part of the isotropic covariance with which members are predicted as well as with any."""
        totals = [0.0] * len(_WIDER)
        for out in range(len(features)):
            others = [i for i in range(len(features)) if i != out]
            one = FamilyHeads(features.shape[-1], targets.shape[-1]).to(features.device)
            one.estimate(features[others], targets[others], rows[others], rounds, errors)
            # What no features can explain is the same for all parts.
            basis, own = torch.linalg.qr(features[out])
            left = basis.mT @ targets[out] - own @ one.mean
            noise = self.noise.maximum(one.noise)
            for i, part in enumerate(_WIDER):
                factor = torch.cat([one.factor, part**0.5 * isotropic], dim=1)
                totals[i] += _log_likelihood(own @ factor, left, noise)
        return max(part for part, total in zip(_WIDER, totals, strict=True) if total > max(totals) - _AS_WELL)

    @torch.no_grad()
    def suppose(self, mean: Float[Tensor, "features outputs"], features: Float[Tensor, "rows features"]) -> None:
        """Supposes any heads whose fields have the size 1 over these rows, in the directions best told apart."""
        heads = _unit_heads(features[None], torch.tensor(float(len(features))))[:, : self.factor.shape[1]]
        self.mean.copy_(mean)
        self.factor[:, : heads.shape[1]] = heads / heads.shape[1] ** 0.5
        self.noise.fill_(_FIRST**2)

    def likeliest(
        self, blocks: list[tuple[Float[Tensor, "1 rows features"], Float[Tensor, "1 rows outputs"]]]
    ) -> tuple[float, Posterior]:
        """The scale of a new system's heads, and the posterior of v in its units.

        Heads are those of fields that have the size 1 over the whole domain. The rates in a corner of the domain may
        have another size, so that the scale is inferred, too.

        **Arguments:** `blocks`: one or two pairs of A and y, see [`Posterior`][].
        """
        factors = _FACTORS.to(self.noise)
        count = sum(y.numel() for _, y in blocks)
        found = []
        for scale in _SCALES.tolist():
            own = [(a @ self.factor, y / scale - a @ self.mean) for a, y in blocks]
            posterior = Posterior(own, self.noise * factors, factors.new_ones(1), _RATIOS.to(factors))
            found.append((posterior.log_evidence().item() - count * math.log(scale), scale, posterior))
        _, scale, posterior = max(found, key=lambda one: one[0])
        return scale, posterior


def _log_likelihood(
    design: Float[Tensor, "rows directions"], left: Float[Tensor, "rows outputs"], noise: Tensor
) -> float:
    """That of what is left of a task whose head is N(0, I) in these directions, up to a constant.

    By singular values, since exact rates leave so little noise that the normal equations have no digits for it.
    """
    directions, sizes, _ = torch.linalg.svd(design, full_matrices=False)
    along = directions.mT @ left
    variances = noise + sizes.square()
    misfit = (left - directions @ along).square().sum() / noise + (along.square() / variances[:, None]).sum()
    return -(misfit + left.shape[1] * (variances / noise).log().sum()).item() / 2


def _unit_heads(features: Float[Tensor, "tasks rows features"], rows: Tensor) -> Float[Tensor, "features directions"]:
    """Heads whose fields are uncorrelated over the rows and of size 1."""
    triangle = torch.linalg.qr(features.flatten(0, 1), mode="r").R / rows.sqrt()
    _, values, right = torch.linalg.svd(triangle, full_matrices=False)
    kept = values > _RESOLVED * values[0]
    return right[kept].mT / values[kept]
