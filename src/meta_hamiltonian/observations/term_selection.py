"""Which terms of a mass matrix and of a potential a family needs."""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.observations.euler_lagrange import Equations, Terms
from meta_hamiltonian.observations.smoothing import EXPLAINED

# At most so many terms of the mass matrix are added.
_MOST_ADDED = 12
# Coefficients are kept this far from what no member tells, as a part of the size of their terms.
_RIDGE = 1e-9
# One term is better than another if what it leaves is at most this part.
_BETTER = 0.95


class Selection:
    """Which terms the members need. Each member has its own coefficients, with c·θ = 1."""

    def __init__(self, terms: Terms, equations: Iterable[Equations], fixed: Float[Tensor, " terms"]):
        """**Arguments:** `fixed`: c."""
        self.terms, self.fixed = terms, fixed
        independent, counts, gram, errors = [], [], [], []
        for one in equations:  # one after the other: all of them together are large
            independent.append(one.independent)
            counts.append(float(len(one.rows)))
            gram.append(one.rows.mT @ one.rows / len(one.rows))
            parts = one.parts.flatten(0, 1)
            errors.append(parts.mT @ parts / len(one.rows))
        self.independent, self.counts = (torch.tensor(one, dtype=torch.float64) for one in (independent, counts))
        self.gram, self.errors = torch.stack(gram), torch.stack(errors)
        self.scales = self.gram.diagonal(dim1=-2, dim2=-1).mean(0).sqrt().clamp_min(1e-300)

    def solve(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The coefficients of these terms for each member, and the mean square of what they leave."""
        scales, fixed = self.scales[list(chosen)], self.fixed[list(chosen)]
        gram = self.gram[:, chosen][:, :, chosen] / (scales[:, None] * scales)
        wanted = (fixed / scales).expand(len(gram), -1)
        inverse = torch.linalg.solve(gram + _RIDGE * torch.eye(len(chosen), dtype=gram.dtype), wanted)
        theta = inverse / (inverse * wanted).sum(1, keepdim=True)
        left = torch.einsum("mk,mkl,ml->m", theta, gram, theta).clamp_min(0.0)
        return theta / scales, left * self.counts / (self.counts - len(chosen)).clamp_min(1.0)

    def _ratios(self, chosen: Sequence[int], theta: Tensor, left: Tensor) -> Tensor:
        """The variance that is left, in units of what errors explain."""
        first = [k for k in chosen if k < self.errors.shape[1]]
        own = theta[:, : len(first)]
        explained = torch.einsum("mk,mkl,ml->m", own, self.errors[:, first][:, :, first], own)
        return left / explained.clamp_min(1e-300)

    def unexplained(self, chosen: Sequence[int]) -> float:
        """χ² of the typical member: what is left, in units of what errors explain."""
        return self._ratios(chosen, *self.solve(chosen)).log().mean().exp().item()

    def missed(self, chosen: Sequence[int]) -> float:
        """What is left for the typical member, as a part of the largest term."""
        theta, left = self.solve(chosen)
        largest = (theta.abs() * self.scales[list(chosen)]).amax(1)
        return (left.sqrt() / largest).median().item()

    def evidence(self, chosen: Sequence[int]) -> float:
        """The log evidence (Schwarz), for which what errors explain is no difference."""
        ratios = self._ratios(chosen, *self.solve(chosen)).clamp_min(EXPLAINED)
        return -0.5 * ((self.independent * ratios.log()).sum() + len(chosen) * self.independent.log().sum()).item()

    def left_by(self, constant: Sequence[int], inertia: Sequence[float]) -> float:
        """χ² of the typical member for a given constant inertia, whose terms come first, and any potential and
        friction."""
        masses = torch.tensor(inertia, dtype=torch.float64)
        diagonal, others = constant[: len(masses)], constant[len(masses) :]
        scales = self.scales[list(others)]
        gram = self.gram[:, others][:, :, others] / (scales[:, None] * scales)
        cross = self.gram[:, others][:, :, diagonal] @ masses / scales
        best = -torch.linalg.solve(gram + _RIDGE * torch.eye(len(others), dtype=gram.dtype), cross)
        own = torch.einsum("k,mkl,l->m", masses, self.gram[:, diagonal][:, :, diagonal], masses)
        left = (own + (cross * best).sum(1)).clamp_min(0.0) * self.counts / (self.counts - len(others)).clamp_min(1.0)
        return self._ratios(diagonal, masses.expand(len(left), -1), left).log().mean().exp().item()

    def with_needed(self, chosen: list[int]) -> list[int]:
        """These terms and those of the mass matrix that the evidence asks for, one after the other."""
        best = self.evidence(chosen)
        for _ in range(_MOST_ADDED):
            if self.unexplained(chosen) <= EXPLAINED:
                break
            tried = [sorted([*chosen, k]) for k in range(len(self.terms.entries)) if k not in chosen]
            evidence, more = max(((self.evidence(one), one) for one in tried), default=(-math.inf, chosen))
            if evidence <= best:
                break
            best, chosen = evidence, more
        return sorted(chosen)

    def without_needless(self, chosen: list[int]) -> list[int]:
        """Those of these terms that the evidence asks for, of as many terms the ones that leave least."""
        own = [k for k in chosen if k < self.terms.number - self.terms.beside]
        while True:
            tried = [[k for k in chosen if k != out] for out in own if out in chosen]
            tried = [one for one in tried if self._on_diagonal(one) == self._on_diagonal(chosen)]
            fewer = max(tried, key=lambda one: (self.evidence(one), -self.unexplained(one)), default=chosen)
            if fewer == chosen or self.evidence(fewer) <= self.evidence(chosen):
                return self._exchanged(chosen)
            chosen = fewer

    def _place(self, term: int) -> tuple[int, int] | None:
        """Where it stands in the mass matrix; None for a term of the potential."""
        return self.terms.entries[term][:2] if term < len(self.terms.entries) else None

    def _on_diagonal(self, chosen: Sequence[int]) -> set[tuple[int, int]]:
        """Which places of the diagonal have a term: all must have one in a matrix that is positive."""
        places = {self._place(term) for term in chosen} - {None}
        return {one for one in places if one is not None and one[0] == one[1]}

    def _exchanged(self, chosen: list[int]) -> list[int]:
        """As many terms, of which one after the other is exchanged for another one that leaves less."""
        entries, last = len(self.terms.entries), self.terms.number - self.terms.beside
        least = self.unexplained(chosen)
        while True:
            tried = [
                sorted([*(k for k in chosen if k != out), new])
                for out in chosen
                for new in range(entries if out < entries else last)
                if out < last and new not in chosen and self._place(new) == self._place(out)
            ]
            left, best = min(((self.unexplained(one), one) for one in tried), default=(least, chosen))
            if left >= _BETTER * least:
                return chosen
            least, chosen = left, best
