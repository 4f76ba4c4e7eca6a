"""CAVIA: the inner loop changes a context at the input, and nothing else."""

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.gradient import GradientLearner, InnerProblem
from meta_hamiltonian.learners.learner import StepCost
from meta_hamiltonian.learners.loss import field_loss
from meta_hamiltonian.models import AdaptedSystems, FieldNetwork


@register
class CAVIA(GradientLearner):
    """Context adaptation: the network is given the state and a context φ, H(x, φ; θ).

    The inner loop starts from φ = 0 on every task and changes the context alone,

        φ ← φ − α ∇_φ L(φ, θ; support),

    and the outer loop moves θ along the gradient of the mean query loss at the adapted contexts, through the inner
    steps (second order). A context beside the inputs of the first layer is a bias of each task's own there,
    W x + U φ + b, with the columns U a part of θ.

    ??? cite "Reference"

        Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson: Fast context adaptation via meta-learning. ICML 2019.
        arXiv:1810.03642, sections 3.1 (supervised learning) and 3.3 (conditioning on context parameters).
    """

    shares_head = True

    def __init__(
        self,
        net: FieldNetwork,
        dimension: int = 8,
        lr: float = 0.1,
        inner_steps: int = 5,
        first_order: bool = False,
        scale: str = "none",
        backend: str = "vectorized",
        task_chunk: int | None = None,
    ):
        """**Arguments** beside those of [`GradientLearner`][]:

        - `dimension`: numbers in φ.
        """
        super().__init__(net, lr, inner_steps, first_order, False, scale, backend, False, task_chunk)
        check_arguments(type(self), dimension=dimension)
        self.dimension = dimension
        self.layers = list(net.input_layers)
        widths = [layer.out_features for layer in net.input_layers.values()]
        bound = 1 / math.sqrt(dimension)
        # U, as PyTorch's linear layers begin.
        self.columns = nn.ParameterList(torch.empty(width, dimension).uniform_(-bound, bound) for width in widths)

    @property
    def adapted_names(self) -> list[str]:
        """The context."""
        return ["context"]

    def inner_problem(self, support: Points) -> InnerProblem:
        """Each task's support loss as a function of its context."""
        return _Context(self, support)

    def weights(self, context: Float[Tensor, "tasks dimension"]) -> dict[str, Tensor]:
        """U φ + b, the biases of the layers that are given the state."""
        own = dict(self.net.named_parameters())
        return {
            f"{name}.bias": own[f"{name}.bias"] + context @ columns.mT
            for name, columns in zip(self.layers, self.columns, strict=True)
        }

    def query_losses(self, parameters: Mapping[str, Tensor], query: Points) -> Float[Tensor, " tasks"]:
        """Equation (2) on every task's query set, with that task's context."""
        return super().query_losses(self.weights(parameters["context"]), query)

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Takes the inner steps of all tasks at once; yields the weights that the contexts lead to."""
        for parameters in super().adaptations(support, steps):
            yield self.weights(parameters["context"])

    @property
    def kept_arrays(self) -> int:
        """As many as for MAML: each inner step goes forwards and back through all layers."""
        return 7 * self.inner_steps * (len(list(self.net.parameters())) // 2 + 1)

    @property
    def step_cost(self) -> StepCost | None:
        """The step is not compiled."""
        return None

    @property
    def unknowns_of_a_member(self) -> int:
        """The numbers in φ."""
        return self.dimension

    def own_numbers(self, adapted: AdaptedSystems) -> Float[Tensor, "systems numbers"]:
        """The biases that contexts lead to, and the scale of a system's rates."""
        biases = [adapted.parameters[f"{name}.bias"] for name in self.layers]
        return torch.cat([adapted.scale[:, None], *biases], dim=1)

    def adapted_module(self) -> nn.Module:
        """For learn2learn: a module whose only parameter is the context."""
        return _WithContext(self)

    def module_inputs(self, x: Float[Tensor, "points state"]) -> Float[Tensor, "points ..."]:
        """The states themselves."""
        return x


class _Context(InnerProblem):
    """The support losses as functions of the contexts."""

    def __init__(self, learner: CAVIA, support: Points):
        self.learner = learner
        self.support = support
        self.start = {"context": support.x.new_zeros(len(support.x), learner.dimension)}

    def loss(self, weights: Mapping[str, Tensor]) -> Float[Tensor, " tasks"]:
        own = self.learner.weights(weights["context"])
        predicted = self.learner.net.linear_field_with(own, self.support.x)
        return field_loss(predicted, self.support.dxdt, self.support.mask)

    def gradient(self, weights: Mapping[str, Tensor], second_order: bool) -> Mapping[str, Tensor]:
        with torch.enable_grad():  # callers may have switched it off
            context = weights["context"]
            if not (second_order and context.requires_grad):  # the first step, or one that no graph leads through
                context = context.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss({"context": context}).sum(), context, create_graph=second_order)
        return {"context": gradient}


class _WithContext(nn.Module):
    def __init__(self, learner: CAVIA):
        super().__init__()
        self._learner = (learner,)  # not a part of this module: its weights are not the task's
        self.context = nn.Parameter(next(learner.net.parameters()).new_zeros(learner.dimension))

    def forward(self, x: Float[Tensor, "points state"]) -> Float[Tensor, "points state"]:
        (learner,) = self._learner
        return learner.net.linear_field_with(learner.weights(self.context[None]), x[None])[0]
