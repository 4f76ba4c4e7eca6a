"""The head solved in closed form: ANIL run to convergence."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.learners.linear_head import head_columns, head_problem, head_weights, own_head
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.models import FieldNetwork

# Noise variances tried on a new system, as factors of the calibrated one: from 1e-16 to 1e16, four a decade.
_FACTORS = 10.0 ** (torch.arange(-64, 65, dtype=torch.float64) / 4)
# What the prior's variance may be multiplied by.
_WIDER = 10.0 ** torch.arange(9, dtype=torch.float64)
_SMALLEST_NOISE = 1e-28  # the square of what float64 resolves


class Ridge(Learner):
    """Bayesian linear regression on the features of a shared body, with a meta-learned prior.

    The field is linear in the head, A(x) w. Over the family, heads are w = w₀ + L v, where L has few columns, since a
    family has few independent terms (the pendulum three): with so few unknowns, 25 points determine a head as well as
    50 do. In training, v is the solution of a ridge regression,

    v = argmin ‖y − A (w₀ + L v)‖² + σ² ‖v‖²,

    and the outer loop differentiates through it. The body, w₀ (the network's own head), L and, with Adam, σ² are
    meta-learned. Held-out tasks then tell the mean and the covariance of v over the family, and the variance that is
    left ([`calibrate`][]): together with these, the adapted head is the mean of a Gaussian posterior.

    On a new system the variance is chosen anew, in float64, together with a factor by which the prior is widened: those
    that make its observations most likely. Points may fill only a corner of the state box, where a ridge that was right
    for points all over it is far too large, and where derivatives, and so the scale, are smaller than all over it.

    ??? cite "Reference"

        Harrison, Sharma, Pavone: Meta-learning priors for efficient online Bayesian regression (ALPaCA). WAFR 2018.
        arXiv:1807.08912. The solve in the inner loop: Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with
        differentiable closed-form solvers. ICLR 2019. arXiv:1805.08136.
    """

    def __init__(self, net: FieldNetwork, rank: int | None = None, noise: float = 1e-2, scale: str = "none"):
        """**Arguments:**

        - `net`: the network.
        - `rank`: columns of L, at least 1; None is as many as the head has inputs.
        - `noise`: what σ² starts from, above 0.
        - `scale`: `"none"` or `"task"`, see [`Learner`][].
        """
        super().__init__(net, scale)
        features, outputs = head_columns(own_head(net)).shape
        rank = features if rank is None else rank
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        if not 0 < noise < math.inf:
            raise ValueError(f"noise must be a finite number above 0, got {noise!r}")
        self.prior_factor = nn.Parameter(torch.randn(features, rank) / math.sqrt(features))  # L
        self.log_noise = nn.Parameter(torch.tensor(math.log(noise)))  # log σ²
        # The distribution of v, and the variance around the field, over the family.
        self.mean: Tensor
        self.spread: Tensor
        self.noise: Tensor
        self.register_buffer("mean", torch.zeros(rank, outputs))
        self.register_buffer("spread", torch.eye(rank))
        self.register_buffer("noise", torch.tensor(noise))

    def tested_steps(self, steps: Sequence[int]) -> Sequence[int]:
        return [1]  # there is one step, and it converges

    def task_losses(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        columns = self.solve(episodes.support)
        features, targets = head_problem(self.net, episodes.query)
        return (features @ columns - targets).square().sum((-2, -1)) / episodes.query.x.shape[-2]

    def solve(self, support: Points) -> Float[Tensor, "tasks features outputs"]:
        """The heads' posterior means, differentiable, at the meta-learned σ².

        The small system is solved in float64, and in its dual form where it has fewer equations than unknowns:
        single precision loses up to 0.1 of the solution at small ridges.
        """
        features, residual = self.centred(support)
        noise = self.log_noise.double().exp()
        design = (features @ self.prior_factor).double()
        rows, rank = design.shape[-2:]
        eye = torch.eye(min(rows, rank), dtype=design.dtype, device=design.device)
        if rows < rank:
            dual = _cholesky(design @ design.mT + noise * eye)
            v = design.mT @ torch.cholesky_solve(residual.double(), dual)
        else:
            primal = _cholesky(design.mT @ design + noise * eye)
            v = torch.cholesky_solve(design.mT @ residual.double(), primal)
        return self.columns(v.to(features.dtype))

    def centred(
        self, points: Points
    ) -> tuple[Float[Tensor, "tasks rows features"], Float[Tensor, "tasks rows outputs"]]:
        """A, and what the prior mean leaves of the observations, y − A w₀."""
        features, targets = head_problem(self.net, points)
        return features, targets - features @ head_columns(own_head(self.net))

    def columns(self, v: Float[Tensor, "*tasks rank outputs"]) -> Float[Tensor, "*tasks features outputs"]:
        """w = w₀ + L v."""
        return head_columns(own_head(self.net)) + self.prior_factor @ v

    @torch.no_grad()
    def calibrate(self, held_out: Episodes) -> None:
        """Empirical Bayes: the mean and covariance of v over tasks, and the variance that their fits leave."""
        episodes = rescaled(held_out) if self.scale == "task" else held_out
        features, residual = self.centred(episodes.support)
        design = (features @ self.prior_factor).double()
        v = Posterior(design, residual.double(), self.log_noise.double().exp()[None], design.new_ones(1)).mean
        left = (residual - design @ v).square().sum() / max(residual.numel() - v.numel(), 1)
        mean = v.mean(0)
        rows = (v - mean).mT.flatten(0, 1)  # one for each task and output
        values, vectors = torch.linalg.eigh(rows.mT @ rows / len(rows))
        self.mean.copy_(mean)
        self.spread.copy_(vectors * values.clamp_min(0.0).sqrt())
        self.noise.copy_(left.clamp_min(_SMALLEST_NOISE))

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        with torch.no_grad():
            prior = self.columns(self.mean).expand(len(support.x), -1, -1)
            yield head_weights(self.net, prior)
            v = self.mean + self.spread @ self.posterior(support).mean
            for _ in range(steps):  # the first step has converged
                yield head_weights(self.net, self.columns(v))

    def posterior(self, support: Points) -> "Posterior":
        """Of u ~ N(0, I) for each task, where v = mean + spread u; σ² is what makes its observations most likely."""
        features, residual = self.centred(support)
        design = features @ self.prior_factor
        return Posterior(
            design @ self.spread, residual - design @ self.mean, self.noise * _FACTORS.to(design), _WIDER.to(design)
        )


def _cholesky(matrix: Float[Tensor, "tasks size size"]) -> Float[Tensor, "tasks size size"]:
    """Not a number for a task whose matrix has no factor, so that one of them does not end the run."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return factor.masked_fill((failed != 0)[:, None, None], math.nan)


class Posterior:
    """u ~ N(mean, (BᵀB / σ² + I / τ²)⁻¹) given y = B u + ε, ε ~ N(0, σ² I), and the prior u ~ N(0, τ² I).

    For each task, σ² and τ² are those candidates with the largest marginal likelihood of y. Everything comes from one
    singular value decomposition of B, which does not square its condition number as the normal equations do.

    ??? cite "Reference"

        MacKay: Bayesian interpolation. Neural Computation 4, 1992.
    """

    def __init__(
        self,
        design: Float[Tensor, "tasks rows rank"],
        targets: Float[Tensor, "tasks rows outputs"],
        noises: Float[Tensor, " noises"],
        widths: Float[Tensor, " widths"],
    ):
        left, values, right = torch.linalg.svd(design, full_matrices=False)
        along = left.mT @ targets
        rest = (targets - left @ along).square().sum((-2, -1))  # what no head explains
        rows, outputs = targets.shape[-2:]
        noise, width = torch.cartesian_prod(noises, widths).unbind(-1)
        variance = width[:, None] * values.square()[:, None] + noise[:, None]  # of y along the left singular vectors
        misfit = (along.square().sum(-1)[:, None] / variance).sum(-1) + rest[:, None] / noise
        log_determinant = variance.log().sum(-1) + (rows - values.shape[-1]) * noise.log()
        best = (misfit + outputs * log_determinant).argmin(-1)  # minus twice the log likelihood
        self.noise, self.width = noise[best], width[best]
        gain = values / (values.square() + (self.noise / self.width)[:, None])
        self.mean: Float[Tensor, "tasks rank outputs"] = right.mT @ (gain[..., None] * along)
