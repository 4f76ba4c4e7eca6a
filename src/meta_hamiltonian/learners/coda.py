"""CoDA: every weight moves in the few directions of a hypernetwork."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.learners.contexts import AutoDecoder
from meta_hamiltonian.models import FieldNetwork


@register
class CoDA(AutoDecoder):
    """Context-informed dynamics adaptation: the weights of task e are θᵉ = θ + W ξᵉ.

    W is a linear hypernetwork with as many columns as the context ξᵉ has numbers, two in the paper, so that members lie
    in an affine subspace of few dimensions around θ. Training minimises over θ, W and all ξᵉ

        Σₑ L(θ + W ξᵉ; task e) + λ_ξ ‖ξᵉ‖² + λ_Ω Ω(W),

    which keeps members near to θ. Ω is ‖W‖² (CoDA-ℓ2), or the sum of the lengths of the rows of W, which makes some of
    them 0, so that members share these weights (CoDA-ℓ1). Adaptation minimises L(θ + W ξ; support) + λ_ξ ‖ξ‖² over ξ.

    ??? cite "Reference"

        Kirchmeyer, Yin, Donà, Baskiotis, Rakotomamonjy, Gallinari: Generalizing to new physical systems via
        context-informed dynamics model. ICML 2022. arXiv:2202.01889, sections 3.2 to 3.4.
    """

    def __init__(
        self,
        net: FieldNetwork,
        dimension: int = 2,
        penalty: str = "l1",
        context_penalty: float = 1e-4,
        weight_penalty: float = 1e-6,
        lr: float = 0.03,
        steps: int = 100,
        scale: str = "none",
    ):
        """**Arguments** beside those of [`AutoDecoder`][]:

        - `penalty`: `"l1"` or `"l2"`, which Ω it is.
        - `context_penalty`, `weight_penalty`: λ_ξ and λ_Ω.
        """
        super().__init__(net, dimension, lr, steps, scale)
        check_arguments(type(self), penalty=penalty, context_penalty=context_penalty, weight_penalty=weight_penalty)
        self.norm = penalty
        self.context_penalty = context_penalty
        self.weight_penalty = weight_penalty
        # A step along a unit context is as large as the weights are at first.
        sizes = [value.new_full((value.numel(), 1), 1 / math.sqrt(value.shape[-1])) for value in net.parameters()]
        self.directions = nn.Parameter(torch.cat(sizes) * (2 * torch.rand(sum(map(len, sizes)), dimension) - 1))  # W

    def weights(self, contexts: Float[Tensor, "tasks dimension"]) -> dict[str, Tensor]:
        """θ + W ξ."""
        own = dict(self.net.named_parameters())
        moved = (contexts @ self.directions.mT).split([value.numel() for value in own.values()], dim=1)
        return {
            name: value + move.unflatten(1, value.shape) for (name, value), move in zip(own.items(), moved, strict=True)
        }

    def penalty(self, contexts: Float[Tensor, "tasks dimension"]) -> Float[Tensor, " tasks"]:
        """λ_ξ ‖ξ‖² + λ_Ω Ω(W)."""
        squares = self.directions.square()
        # A row of zeros has no direction: its length gets the gradient 0 there.
        size = squares.sum() if self.norm == "l2" else _length(squares.sum(1)).sum()
        return self.context_penalty * contexts.square().sum(1) + self.weight_penalty * size


def _length(squares: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    zero = squares == 0
    return squares.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)
