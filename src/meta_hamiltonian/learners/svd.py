"""Modulated singular values: every layer is corrected by a few shared matrices of rank one."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.learners.contexts import AutoDecoder
from meta_hamiltonian.models import FieldNetwork


@register
class SVD(AutoDecoder):
    """The hidden layers of task k are h ↦ σ((W + Σᵢ dᵢ uᵢ vᵢᵀ) h + b + s), with d and s of its own in each layer.

    W, b and the r pairs of vectors uᵢ, vᵢ are shared. A linear hypernetwork computes the singular values d ≥ 0 (by a
    ReLU) and the shifts s from the latent code z of the task. A task that is drawn again goes on from its last code.
    Training minimises, over everything shared and over all codes,

        Σₖ L(task k) + λ (‖zₖ‖² + ‖φ‖²) + λ_⊥ Σ_layers (‖UᵀU − 1‖² + ‖VᵀV − 1‖²),

    with φ the weights of the hypernetwork. The code of a new system starts from the mean of those of the training set.

    The authors have published no code. What the text of the paper leaves open (the sizes of the hypernetwork and of the
    penalties, and that penalties are squares) is chosen here.

    ??? cite "Reference"

        Jing, Mudiyanselage, Cho, Jo, Gruber, Lee: Meta-learning structure-preserving dynamics. ICML 2026.
        arXiv:2508.11205, section 3 (latent SVD-like modulation).
    """

    shares_head = True

    def __init__(
        self,
        net: FieldNetwork,
        dimension: int = 8,
        rank: int = 5,
        locality: float = 1e-4,
        orthogonality: float = 1e-2,
        lr: float = 0.03,
        steps: int = 100,
        scale: str = "none",
    ):
        """**Arguments** beside those of [`AutoDecoder`][]:

        - `rank`: singular values r in each layer, at most as many as it has inputs.
        - `locality`, `orthogonality`: λ and λ_⊥.
        """
        super().__init__(net, dimension, lr, steps, scale)
        check_arguments(type(self), rank=rank, locality=locality, orthogonality=orthogonality)
        self.locality = locality
        self.orthogonality = orthogonality
        self.layers = list(net.hidden_layers)
        shapes = [(layer.out_features, layer.in_features) for layer in net.hidden_layers.values()]
        ranks = [min(rank, *shape) for shape in shapes]
        self.left = nn.ParameterList(_orthonormal(shape[0], r) for shape, r in zip(shapes, ranks, strict=True))  # U
        self.right = nn.ParameterList(_orthonormal(shape[1], r) for shape, r in zip(shapes, ranks, strict=True))  # V
        self.sizes = [size for shape, r in zip(shapes, ranks, strict=True) for size in (r, shape[0])]
        self.hyper = nn.Linear(dimension, sum(self.sizes))  # d and s of all layers one after the other
        with torch.no_grad():
            self.hyper.weight /= math.sqrt(dimension)
            self.hyper.bias.zero_()
            for start, r in zip(self._starts(), ranks, strict=True):
                self.hyper.bias[start : start + r] = 0.5  # where the ReLU lets a gradient pass

    def _starts(self) -> list[int]:
        """Where the singular values of each layer begin in what the hypernetwork says."""
        return [sum(self.sizes[: 2 * i]) for i in range(len(self.layers))]

    def weights(self, contexts: Float[Tensor, "tasks dimension"]) -> dict[str, Tensor]:
        """W + U diag(d) Vᵀ and b + s of every hidden layer."""
        own = dict(self.net.named_parameters())
        parts = self.hyper(contexts).split(self.sizes, dim=1)
        weights = {}
        for i, (name, left, right) in enumerate(zip(self.layers, self.left, self.right, strict=True)):
            values, shift = F.relu(parts[2 * i]), parts[2 * i + 1]
            weights[f"{name}.weight"] = own[f"{name}.weight"] + (left * values[:, None]) @ right.mT
            weights[f"{name}.bias"] = own[f"{name}.bias"] + shift
        return weights

    def penalty(self, contexts: Float[Tensor, "tasks dimension"]) -> Float[Tensor, " tasks"]:
        """λ (‖z‖² + ‖φ‖²) + λ_⊥ Σ (‖UᵀU − 1‖² + ‖VᵀV − 1‖²)."""
        size = contexts.square().sum(1) + self.hyper.weight.square().sum()
        grams = [factor.mT @ factor for factor in (*self.left, *self.right)]
        skew = torch.stack([(gram - torch.eye(len(gram)).to(gram)).square().sum() for gram in grams]).sum()
        return self.locality * size + self.orthogonality * skew


def _orthonormal(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.linalg.qr(torch.randn(rows, columns)).Q)
