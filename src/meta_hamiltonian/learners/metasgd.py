"""MAML with a learned rate for every weight."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.learners.maml import MAML
from meta_hamiltonian.models import FieldNetwork


@register
class MetaSGD(MAML):
    """Meta-SGD: equation (3) with a learned vector of rates, θ′ = θ − α ∘ ∇_θ L(support; θ), α of the shape of θ.

    The same rates hold in every step, and they may become negative. Steps beyond the trained ones are halved as in
    [`GradientLearner`][].

    ??? cite "Reference"

        Li, Zhou, Chen, Li: Meta-SGD: learning to learn quickly for few-shot learning. 2017. arXiv:1707.09835.
    """

    def __init__(
        self,
        net: FieldNetwork,
        lr: float = 0.005,
        inner_steps: int = 5,
        first_order: bool = False,
        scale: str = "none",
        backend: str = "vectorized",
        compile: bool = False,
        task_chunk: int | None = None,
    ):
        """Arguments as for [`GradientLearner`][]; `lr` is what all rates start from."""
        super().__init__(net, lr, inner_steps, first_order, False, scale, backend, compile, task_chunk)
        self.learn_lr = True
        # In units of lr, so that one outer rate serves any of them.
        self.relative_rates = nn.ParameterList(torch.ones_like(value) for value in net.parameters())

    def rate(self, step: int, tensor: int) -> Float[Tensor, "*shape"]:
        """The learned rates α of one tensor, one for each of its elements and the same in every step."""
        return self.lr * self.relative_rates[tensor]

    def rate_gradients(self, of_rates: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """The gradients for `relative_rates`, each summed over the steps that share it."""
        by_tensor = zip(*of_rates, strict=True)
        return {f"relative_rates.{i}": self.lr * torch.stack(steps).sum(0) for i, steps in enumerate(by_tensor)}

    def learn2learn(self) -> Any:
        """learn2learn's Meta-SGD around the whole network, given the learned rates."""
        from meta_hamiltonian.learners.numerics import learn2learn  # seconds that the other backend need not spend

        rates = [self.rate(0, i) for i in range(len(self.relative_rates))]
        return learn2learn.MetaSGD(self.adapted_module(), first_order=self.first_order, lrs=rates)

    def adapt_clone(self, clone: Any, loss: Float[Tensor, ""], step: int) -> None:
        """One inner step of a clone, at the rates that it carries."""
        clone.adapt(loss)
