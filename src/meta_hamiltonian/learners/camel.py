"""CAMEL: free heads of few numbers for the tasks of the training set, without an inner loop."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.contexts import ContextLearner
from meta_hamiltonian.learners.numerics.affine_head import affine_problem
from meta_hamiltonian.learners.numerics.linear_head import head_columns, head_weights, own_head
from meta_hamiltonian.models import FieldNetwork


@register
class CAMEL(ContextLearner):
    """Context-affine multi-environment learning: H(x) = c(x; θ) + wₜ · v(x; θ), affine in the numbers wₜ of task t.

    c and v are outputs of one network: c is that of its own head, and each component of v that of another head.
    Training minimises the mean over the tasks t of L(θ, wₜ) over θ and all wₜ jointly, each gradient step on both; a
    new system's w is the solution of ordinary least squares for the same θ.

    The paper takes any functions of x that are affine in w, such as fields, in the place of H.

    ??? cite "Reference"

        Blanke, Lelarge: Interpretable meta-learning of physical systems. ICLR 2024. arXiv:2312.00477, sections 2 and 3.
    """

    def __init__(self, net: FieldNetwork, dimension: int = 8, scale: str = "none"):
        """**Arguments:**

        - `net`: the network.
        - `dimension`: numbers in w, for each output of the network.
        - `scale`: `"none"` or `"task"`, see [`Learner`][].
        """
        features, outputs = head_columns(own_head(net)).shape
        super().__init__(net, dimension * outputs, scale)
        self.directions = nn.Parameter(torch.randn(features, dimension) / math.sqrt(features))

    def weights(self, contexts: Float[Tensor, "tasks numbers"]) -> dict[str, Tensor]:
        """The head of c + w · v."""
        own = contexts.unflatten(1, (self.directions.shape[1], -1))
        return head_weights(self.net, head_columns(own_head(self.net)) + self.directions @ own)

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Yields the mean head of the training set, then that of least squares, which no further step changes.

        Where the points do not determine w, it is the shortest of all solutions.
        """
        mean = self.contexts.mean(0) if len(self.contexts) else self.contexts.new_zeros(self.dimension)
        yield self.weights(mean.expand(len(support.x), -1))
        design, residual = affine_problem(self.net, self.directions, support)
        fitted = self.weights((torch.linalg.pinv(design) @ residual).flatten(1))
        for _ in range(steps):
            yield fitted

    def tested_steps(self, steps: Sequence[int]) -> Sequence[int]:
        """There is one step, and it converges."""
        return [1]
