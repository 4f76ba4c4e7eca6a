"""Almost no inner loop: it changes the head only."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.gradient import GradientLearner, InnerProblem
from meta_hamiltonian.models import FieldNetwork


class ANIL(GradientLearner):
    """Equation (5): the body is shared by all systems and the inner loop changes the last layer only.

    The field is linear in the head, so that the support set enters the inner loop as two sums over its points:
    the cost of a step does not depend on their number.

    Arguments as for [`GradientLearner`][].

    ??? cite "Reference"

        Raghu, Raghu, Bengio, Vinyals: Rapid learning or feature reuse? Towards understanding the
        effectiveness of MAML. ICLR 2020. arXiv:1909.09157.
    """

    @property
    def adapted_names(self) -> list[str]:
        return [f"head.{name}" for name, _ in self.net.head.named_parameters()]

    def inner_problem(self, support: Points) -> InnerProblem:
        return _LinearHead(self.net, support)

    def adapted_module(self) -> nn.Module:
        return self.net.head

    def module_inputs(self, x: Float[Tensor, "points state"]) -> Float[Tensor, "points ..."]:
        return self.net.field_features(x)


class _LinearHead(InnerProblem):
    """Least squares: L(w) = Σₖ ‖Aₖ w − yₖ‖² / K over the K points, with A(x) w the field.

    With G = Σₖ AₖᵀAₖ / K and c = Σₖ Aₖᵀ yₖ / K its gradient is 2 (G w − c). A head with a bias has one feature more,
    always 1.
    """

    def __init__(self, net: FieldNetwork, support: Points):
        tasks, points, _ = support.x.shape
        head = net.head
        self.start = {f"head.{name}": value.expand(tasks, *value.shape) for name, value in head.named_parameters()}
        features = net.field_features(support.x).flatten(1, -2)
        if head.bias is not None:
            features = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
        self.points = points
        self.features = features
        self.targets = support.dxdt.reshape(tasks, features.shape[1], head.out_features)
        self.gram = features.mT @ features / points  # G
        self.moment = features.mT @ self.targets / points  # c

    def loss(self, weights: Mapping[str, Tensor]) -> Float[Tensor, " tasks"]:
        residual = self.features @ self._columns(weights) - self.targets
        return residual.square().sum((-2, -1)) / self.points

    def gradient(self, weights: Mapping[str, Tensor], second_order: bool) -> Mapping[str, Tensor]:
        gradient = 2 * (self.gram @ self._columns(weights) - self.moment).mT
        if not second_order:
            gradient = gradient.detach()
        sizes = [weights["head.weight"].shape[-1], 1][: len(weights)]
        parts = gradient.split(sizes, dim=-1)
        return {name: part.reshape(weights[name].shape) for name, part in zip(weights, parts, strict=True)}

    def _columns(self, weights: Mapping[str, Tensor]) -> Float[Tensor, "tasks features outputs"]:
        """Weight and bias of each task's head as one matrix."""
        weight = weights["head.weight"].mT
        bias = weights.get("head.bias")
        return weight if bias is None else torch.cat([weight, bias.unsqueeze(-2)], dim=-2)
