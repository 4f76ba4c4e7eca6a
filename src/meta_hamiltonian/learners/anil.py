"""ANIL, almost no inner loop: the inner loop changes only the head."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.gradient import GradientLearner, InnerProblem
from meta_hamiltonian.learners.learner import StepCost
from meta_hamiltonian.learners.numerics.linear_head import head_columns, head_problem, head_weights, own_head
from meta_hamiltonian.models import FieldNetwork


@register
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
        """The tensors of the head: `head.weight`, and `head.bias` where there is one."""
        return list(own_head(self.net))

    def inner_problem(self, support: Points) -> InnerProblem:
        """Each task's support loss as a function of the head alone, which is quadratic."""
        return _LinearHead(self.net, support)

    @property
    def kept_arrays(self) -> int:
        """Four for every layer and coordinate: the features carry a tangent for each coordinate through the body."""
        return (
            4 * self.net.state_dim * (len(list(self.net.parameters())) // 2 + 1)
        )  # of every layer, for each coordinate

    @property
    def step_cost(self) -> StepCost | None:
        """Two passes, one over each of the two sets of points, however many inner steps there are."""
        if self.backend != "vectorized":
            return None
        return StepCost(24, 2)  # its inner loop is of the head's size

    def adapted_module(self) -> nn.Module:
        """The head, the only layer that the inner loop changes."""
        return self.net.head

    def module_inputs(self, x: Float[Tensor, "points state"]) -> Float[Tensor, "points ..."]:
        """The features A(x), which the head turns into the field."""
        return self.net.field_features(x)


class _LinearHead(InnerProblem):
    """Least squares: L(w) = Σₖ ‖Aₖ w − yₖ‖² / K over the K points, with A(x) w the field.

    With G = Σₖ AₖᵀAₖ / K and c = Σₖ Aₖᵀ yₖ / K its gradient is 2 (G w − c).
    """

    def __init__(self, net: FieldNetwork, support: Points):
        tasks = len(support.x)
        self.net = net
        self.counts = support.counts  # K
        self.start = {name: value.expand(tasks, *value.shape) for name, value in own_head(net).items()}
        self.features, self.targets = head_problem(net, support)
        self.gram = self.features.mT @ self.features / self.counts[:, None, None]  # G
        self.moment = self.features.mT @ self.targets / self.counts[:, None, None]  # c

    def loss(self, weights: Mapping[str, Tensor]) -> Float[Tensor, " tasks"]:
        residual = self.features @ head_columns(weights) - self.targets
        return residual.square().sum((-2, -1)) / self.counts

    def gradient(self, weights: Mapping[str, Tensor], second_order: bool) -> Mapping[str, Tensor]:
        gradient = 2 * (self.gram @ head_columns(weights) - self.moment)
        return head_weights(self.net, gradient if second_order else gradient.detach())
