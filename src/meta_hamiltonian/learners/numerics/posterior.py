"""Bayesian linear regression whose variances are unknown too."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Block = tuple[Float[Tensor, "tasks rows rank"], Float[Tensor, "tasks rows outputs"]]


class Posterior:
    """Equation (9): the distribution of u, given y = B u + ε, ε ~ N(0, σ² I), and the prior u ~ N(0, τ² I).

    Rows come in blocks, each with a noise of its own: the rates of positions and those of momenta are observed with
    different errors. The variance in the second block is ρσ². For each task, candidates of (σ², τ², ρ) are weighted by
    the marginal likelihood of y and a weak prior (flat in log σ², ∝ τ⁻¹, and log-normal in ρ around 1): with few
    observations the best candidate alone would be too sure of itself. For each candidate, u is Gaussian.

    Everything comes from one singular value decomposition of B for each ρ, which does not square its condition number
    as the normal equations do.

    ??? cite "Reference"

        MacKay: Bayesian interpolation. Neural Computation 4, 1992.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        noises: Float[Tensor, " noises"],
        widths: Float[Tensor, " widths"],
        ratios: Float[Tensor, " ratios"],
        present: Float[Tensor, " tasks"] | None = None,
        free: Float[Tensor, "tasks last_rows terms"] | None = None,
    ):
        """**Arguments:**

        - `blocks`: one or two pairs of B and y.
        - `noises`, `widths`, `ratios`: candidates for σ², τ² and, with two blocks, ρ.
        - `present`: the part of a task's rows that were observed; the others are 0. None is all.
        - `free`: the columns F of the last block whose coefficients d may be anything: y = B u + F d + ε.
        """
        if len(blocks) == 1:
            ratios = ratios.new_ones(1)
        self._noises, self._widths = torch.cartesian_prod(noises, widths).unbind(-1)
        self._ratios = ratios
        rank, outputs = blocks[0][0].shape[-1], blocks[0][1].shape[-1]
        part = blocks[0][0].new_ones(()) if present is None else present[:, None]
        rows = [design.shape[-2] * part for design, _ in blocks]
        compressed = [_triangle(torch.cat(block, dim=-1)) for block in blocks]
        self._free = None
        if free is not None:  # what they can explain is taken out: the first rows of the triangle
            terms = free.shape[-1]
            triangle = torch.linalg.qr(torch.cat([free, *blocks[-1]], dim=-1), mode="r").R
            self._free = triangle[:, :terms].split([terms, rank, outputs], dim=-1)
            compressed[-1] = triangle[:, terms:, terms:]
            rows[-1] = rows[-1] - terms
        parts, evidence = [], []
        for ratio in ratios:
            scales = [1.0, ratio.rsqrt()]
            stacked = torch.cat([s * r for s, r in zip(scales, compressed, strict=False)], dim=-2)
            design, targets = stacked.split([rank, outputs], dim=-1)
            left, values, right = torch.linalg.svd(design, full_matrices=False)
            along = left.mT @ targets
            rest = (targets - left @ along).square().sum((-2, -1))  # what no u explains
            # The variances of y along the left singular vectors.
            variance = self._widths[:, None] * values.square()[:, None] + self._noises[:, None]
            misfit = (along.square().sum(-1)[:, None] / variance).sum(-1) + rest[:, None] / self._noises
            log_determinant = variance.log().sum(-1) + (sum(rows) - values.shape[-1]) * self._noises.log()
            if len(blocks) == 2:
                log_determinant = log_determinant + rows[1] * ratio.log()
            prior = -self._widths.log() / 2 - (ratio.log() / (2 * math.log(10))).square() / 2
            evidence.append(prior - (misfit + outputs * log_determinant) / 2)
            parts.append((values, right, along))
        self._values, self._right, self._along = (torch.stack(part, dim=1) for part in zip(*parts, strict=True))
        self._evidence = torch.stack(evidence, dim=1)
        self.weights: Float[Tensor, "tasks ratios candidates"] = (
            self._evidence.flatten(1).softmax(-1).unflatten(-1, (len(ratios), -1))
        )

    @property
    def mean(self) -> Float[Tensor, "tasks rank outputs"]:
        """The posterior mean of u, over all candidates of the variances."""
        total = torch.zeros_like(self._right[:, 0].mT @ self._along[:, 0])
        for j in range(len(self._ratios)):
            values = self._values[:, j, None]
            gains = values / (values.square() + (self._noises / self._widths)[:, None])
            gain = (self.weights[:, j, :, None] * gains).sum(1)
            total = total + self._right[:, j].mT @ (gain[..., None] * self._along[:, j])
        return total

    def free(self, u: Float[Tensor, "tasks *samples rank outputs"]) -> Float[Tensor, "tasks *samples terms"]:
        """The best d for given u, by least squares; for networks of one output."""
        assert self._free is not None
        own, others, targets = self._free
        left = targets[..., 0] - torch.einsum("tfr,t...ro->t...f", others, u)
        if u.dim() == 3:
            return torch.linalg.solve_triangular(own, left.unsqueeze(-1), upper=True)[..., 0]
        return torch.linalg.solve_triangular(own, left.mT, upper=True).mT

    def sample_free(
        self,
        u: Float[Tensor, "tasks samples rank outputs"],
        noise: Float[Tensor, "tasks samples"],
        generator: torch.Generator,
    ) -> Float[Tensor, "tasks samples terms"]:
        """Samples of d, given samples of u and the noise variance of the last block."""
        assert self._free is not None
        own = self._free[0]
        unit = torch.randn(*u.shape[:2], own.shape[-1], dtype=u.dtype, generator=generator).to(u.device)
        error = torch.linalg.solve_triangular(own, unit.mT, upper=True).mT
        return self.free(u) + noise.sqrt().unsqueeze(-1) * error

    def log_evidence(self, ranges: Float[Tensor, "tasks terms"] | None = None) -> Float[Tensor, " tasks"]:
        """The logarithm of the evidence of y, up to a constant that is the same for any F.

        **Arguments:** `ranges`: the widths of the prior of d, where there is an F.
        """
        if self._free is None:
            return self._evidence.flatten(1).logsumexp(-1)
        assert ranges is not None
        # The integral over d leaves the rows that F does not reach, (2π)^(terms/2) and the determinant of F.
        volume = ranges.shape[-1] / 2 * math.log(2 * math.pi) - ranges.log().sum(-1)
        size = self._free[0].diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
        return self._evidence.flatten(1).logsumexp(-1) + volume - size

    @property
    def has_free(self) -> bool:
        """Whether there are columns whose coefficients may be anything."""
        return self._free is not None

    @property
    def relative_evidence(self) -> Float[Tensor, " tasks"]:
        """The log evidence up to a constant that depends on F and on the number of unknowns."""
        return self._evidence.flatten(1).logsumexp(-1)

    @property
    def width(self) -> Float[Tensor, " tasks"]:
        """τ², the geometric mean over its posterior."""
        return (self.weights.sum(1) @ self._widths.log()).exp()

    @property
    def noise(self) -> Float[Tensor, " tasks"]:
        """The mean variance of the noise of all blocks, the geometric mean over its posterior."""
        variances = self._noises * (1 + self._ratios[:, None]) / 2
        return (self.weights * variances.log()).sum((1, 2)).exp()

    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[
        Float[Tensor, "tasks samples rank outputs"], Float[Tensor, "tasks samples"], Float[Tensor, "tasks samples"]
    ]:
        """Samples of u, each with its τ² and its variance of the noise in the last block."""
        # Drawn on the CPU, from a generator of its own: the samples are the same on every device.
        chosen = self.weights.flatten(1).cpu().multinomial(count, replacement=True, generator=generator)
        chosen = chosen.to(self.weights.device)
        tasks = torch.arange(len(chosen), device=chosen.device)[:, None]
        j, c = chosen // len(self._noises), chosen % len(self._noises)
        values, right, along = self._values[tasks, j], self._right[tasks, j], self._along[tasks, j]
        noise, width = self._noises[c, None], self._widths[c, None]
        gain = values / (values.square() + noise / width)
        deviation = (noise * width / (width * values.square() + noise)).sqrt()
        shape = (*along.shape[:2], right.shape[-1], along.shape[-1])
        prior = torch.randn(*shape, dtype=along.dtype, generator=generator).to(along.device)
        # The prior, narrowed along the right singular vectors.
        change = gain[..., None] * along + (deviation - width.sqrt())[..., None] * (right @ prior)
        of_last = noise[..., 0] * self._ratios[j]
        return width.sqrt()[..., None] * prior + right.mT @ change, width[..., 0], of_last


def _triangle(matrix: Float[Tensor, "tasks rows columns"]) -> Float[Tensor, "tasks _ columns"]:
    """Fewer rows with the same products of columns, by QR."""
    return torch.linalg.qr(matrix, mode="r").R if matrix.shape[-2] > matrix.shape[-1] else matrix
