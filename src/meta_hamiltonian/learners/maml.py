"""Model-agnostic meta-learning: the inner loop changes every weight."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.gradient import GradientLearner, InnerProblem
from meta_hamiltonian.learners.loss import field_loss
from meta_hamiltonian.models import FieldNetwork, FieldOf


class MAML(GradientLearner):
    """Equations (3) and (4): meta-learns initial weights from which a few gradient steps fit a new system.

    Arguments as for [`GradientLearner`][].

    ??? cite "Reference"

        Finn, Abbeel, Levine: Model-agnostic meta-learning for fast adaptation of deep networks. ICML 2017.
        arXiv:1703.03400.
    """

    @property
    def adapted_names(self) -> list[str]:
        return [name for name, _ in self.net.named_parameters()]

    def inner_problem(self, support: Points) -> InnerProblem:
        return WholeNetwork(self.net, support)

    def adapted_module(self) -> nn.Module:
        return FieldOf(self.net)

    def module_inputs(self, x: Float[Tensor, "points state"]) -> Float[Tensor, "points ..."]:
        return x


class WholeNetwork(InnerProblem):
    def __init__(self, net: FieldNetwork, support: Points):
        self.net = net
        self.support = support
        tasks = len(support.x)
        self.start = {name: value.expand(tasks, *value.shape) for name, value in net.named_parameters()}

    def loss(self, weights: Mapping[str, Tensor]) -> Float[Tensor, " tasks"]:
        return field_loss(self.net.field_with(weights, self.support.x), self.support.dxdt)

    def gradient(self, weights: Mapping[str, Tensor], second_order: bool) -> Mapping[str, Tensor]:
        # The tasks do not meet in the sum, so that its gradient holds each task's own.
        if torch.compiler.is_compiling():  # which follows this form of the same through two orders
            gradient = torch.func.grad(lambda own: self.loss(own).sum())(dict(weights))
            return gradient if second_order else {name: value.detach() for name, value in gradient.items()}
        loss = self.loss(weights).sum()
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order)
        return dict(zip(weights, gradients, strict=True))
