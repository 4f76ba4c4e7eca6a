"""Model-agnostic meta-learning: the inner loop changes every weight."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.gradient import GradientLearner, InnerProblem
from meta_hamiltonian.learners.learner import StepCost
from meta_hamiltonian.learners.loss import field_loss
from meta_hamiltonian.learners.numerics.hessian import hessian_product, loss_gradient
from meta_hamiltonian.models import FieldNetwork, FieldOf


@register
class MAML(GradientLearner):
    """Equations (3) and (4): meta-learns initial weights from which a few gradient steps fit a new system.

    Arguments as for [`GradientLearner`][].

    ??? cite "Reference"

        Finn, Abbeel, Levine: Model-agnostic meta-learning for fast adaptation of deep networks. ICML 2017.
        arXiv:1703.03400.
    """

    @property
    def adapted_names(self) -> list[str]:
        """All parameters of the network."""
        return [name for name, _ in self.net.named_parameters()]

    def inner_problem(self, support: Points) -> InnerProblem:
        """Each task's support loss as a function of every weight, from the network's own on."""
        return WholeNetwork(self.net, support)

    @property
    def kept_arrays(self) -> int:
        """Seven for every layer of every inner step: the outer gradient goes back through all steps."""
        return 7 * self.inner_steps * (len(self.adapted_names) // 2 + 1)  # of every layer in every step

    @property
    def step_cost(self) -> StepCost | None:
        """One pass for each inner step, and one for the query loss."""
        if self.backend != "vectorized":
            return None
        return StepCost(32 * (self.inner_steps + 1), self.inner_steps + 1)

    def adapted_module(self) -> nn.Module:
        """The whole network, as a module whose call is its field."""
        return FieldOf(self.net)

    def module_inputs(self, x: Float[Tensor, "points state"]) -> Float[Tensor, "points ..."]:
        """The states themselves."""
        return x

    def losses_and_gradients(self, episodes: Episodes) -> tuple[Float[Tensor, " tasks"], dict[str, Tensor]]:
        """The losses and their gradient, written out for a Hamiltonian network: autograd takes several times as long.

        With v the gradient of a task's query loss for its adapted weights, and θ′ = θ − α ∇L(θ) an inner step, the
        gradient for the weights before the step is v − ∇²L(θ) α v, and that for its rates −v ∇L(θ).
        """
        net = self.net
        if self.backend == "learn2learn" or not net.has_layers:
            return super().losses_and_gradients(episodes)
        with torch.no_grad():
            weights = each_task(net, len(episodes))
            steps = []
            for step in range(self.inner_steps):
                _, gradient, tape = loss_gradient(net, weights, episodes.support)
                rates = {name: self.rate(step, i) for i, name in enumerate(weights)}
                weights = {name: value - rates[name] * gradient[name] for name, value in weights.items()}
                steps.append((rates, gradient, tape))
            losses, v, _ = loss_gradient(net, weights, episodes.query)
            of_rates = []
            for rates, gradient, tape in reversed(steps):
                if self.learn_lr:
                    of_rates.append([-(v[name] * gradient[name]).sum(0) for name in rates])
                if not self.first_order:
                    change = hessian_product(tape, {name: -rate * v[name] for name, rate in rates.items()})
                    v = {name: value + change[name] for name, value in v.items()}
            gradients = {f"net.{name}": value.sum(0) for name, value in v.items()}
            return losses, gradients | (self.rate_gradients(of_rates[::-1]) if self.learn_lr else {})


class WholeNetwork(InnerProblem):
    """The support losses as functions of all weights."""

    def __init__(self, net: FieldNetwork, support: Points):
        self.net = net
        self.support = support
        self.start = each_task(net, len(support.x))

    def loss(self, weights: Mapping[str, Tensor]) -> Float[Tensor, " tasks"]:
        """Equation (2) on every task's support set, with that task's weights."""
        return field_loss(self.net.linear_field_with(weights, self.support.x), self.support.dxdt, self.support.mask)

    def gradient(self, weights: Mapping[str, Tensor], second_order: bool) -> Mapping[str, Tensor]:
        """Each task's ∇_θ L: written out for first order where the network has layers, else by autograd."""
        if not second_order and self.net.has_layers:
            with torch.no_grad():
                _, gradient, _ = loss_gradient(self.net, weights, self.support)
            return {name: gradient[name] for name in weights}
        # The tasks do not meet in the sum, so that its gradient holds each task's own.
        if torch.compiler.is_compiling():  # which follows this form of the same through two orders
            gradient = torch.func.grad(lambda own: self.loss(own).sum())(dict(weights))
            return gradient if second_order else {name: value.detach() for name, value in gradient.items()}
        with torch.enable_grad():  # callers may have switched it off
            own = dict(weights) if second_order else {name: w.detach().requires_grad_() for name, w in weights.items()}
            gradients = torch.autograd.grad(self.loss(own).sum(), list(own.values()), create_graph=second_order)
        return dict(zip(weights, gradients, strict=True))


def each_task(net: FieldNetwork, tasks: int) -> dict[str, Tensor]:
    """The network's own weights, for every task."""
    return {name: value.expand(tasks, *value.shape) for name, value in net.named_parameters()}
