"""Function encoder: a learned basis of fields, in which least squares finds the coefficients of each task."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.learners.numerics.affine_head import affine_problem, least_squares
from meta_hamiltonian.learners.numerics.linear_head import head_columns, head_weights, own_head
from meta_hamiltonian.models import FieldNetwork


@register
class FunctionEncoder(Learner):
    """A member's field is f = ḡ + Σⱼ cⱼ gⱼ, with a mean field ḡ and basis fields g₁ … g_k that all members share.

    The coefficients are those of least squares on the support set,

        c = argmin Σ ‖ḡ + Σⱼ cⱼ gⱼ − dx/dt‖² / K + λ ‖c‖² = (G + λ)⁻¹ ⟨g, dx/dt − ḡ⟩,

    with the Gram matrix G and the inner products as means over the points. Training differentiates the query loss
    through this solution. The basis is orthonormal up to a factor that c makes up for, so that λ has a meaning:
    μ (‖gⱼ‖² − 1)² is added to the loss.

    Here ḡ and gⱼ are Hamiltonian fields, of the network's own head and of k others on the same body. In the paper each
    basis function is a step of an ODE solver through a network of its own.

    ??? cite "Reference"

        Ingebrand, Thorpe, Topcu: Zero-shot transfer of neural ODEs. NeurIPS 2024. arXiv:2405.08954. The least squares:
        Ingebrand, Thorpe, Topcu: Function encoders. ICML 2025. arXiv:2501.18373.
    """

    def __init__(
        self, net: FieldNetwork, basis: int = 16, ridge: float = 1e-6, norm: float = 1e-3, scale: str = "none"
    ):
        """**Arguments:**

        - `net`: the network.
        - `basis`: how many basis fields there are, k.
        - `ridge`, `norm`: λ and μ.
        - `scale`: `"none"` or `"task"`, see [`Learner`][].
        """
        super().__init__(net, scale)
        check_arguments(type(self), basis=basis, ridge=ridge, norm=norm)
        self.ridge = ridge
        self.norm = norm
        features = len(head_columns(own_head(net)))
        self.directions = nn.Parameter(torch.randn(features, basis) / math.sqrt(features))

    def task_losses(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        """Each task's query loss with the coefficients of its support set, and what keeps the basis at unit length."""
        design, residual = affine_problem(self.net, self.directions, episodes.support)
        counts = episodes.support.counts
        c = least_squares(design, residual, self.ridge, counts)
        query, left = affine_problem(self.net, self.directions, episodes.query)
        losses = (left - query @ c).square().sum((-2, -1)) / episodes.query.counts
        lengths = design.square().sum(1) / counts[:, None]
        return losses + self.norm * (lengths - 1).square().sum(1)

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Yields the mean field, then the one with the coefficients of least squares, which no further step changes."""
        yield {name: value.expand(len(support.x), *value.shape) for name, value in own_head(self.net).items()}
        design, residual = affine_problem(self.net, self.directions, support)
        c = least_squares(design, residual, self.ridge, support.counts)
        fitted = head_weights(self.net, head_columns(own_head(self.net)) + self.directions @ c)
        for _ in range(steps):
            yield fitted

    def tested_steps(self, steps: Sequence[int]) -> Sequence[int]:
        """There is one step, and it converges."""
        return [1]

    @property
    def unknowns_of_a_member(self) -> int:
        """One coefficient for each basis field and each output of the network."""
        return self.directions.shape[1] * self.net.head.out_features
