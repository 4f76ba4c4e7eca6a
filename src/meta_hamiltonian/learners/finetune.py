"""Baselines without meta-learning: a network trained on all tasks jointly, or not at all, then fine-tuned."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.learners.loss import field_loss
from meta_hamiltonian.learners.maml import WholeNetwork
from meta_hamiltonian.models import FieldNetwork

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


@register
class FineTune(Learner):
    """Training fits one network to the points of all tasks; adaptation goes on from it with an ordinary optimizer."""

    validates_adapted = False

    def __init__(
        self, net: FieldNetwork, optimizer: str = "adam", lr: float = 1e-3, steps: int = 50, scale: str = "none"
    ):
        """**Arguments:**

        - `net`: the network.
        - `optimizer`, `lr`: those of the fine-tuning, `"sgd"` or `"adam"`.
        - `steps`: gradient steps of `adapt` when it is not told.
        - `scale`: `"none"` or `"task"`, see [`Learner`][].
        """
        super().__init__(net, scale)
        check_arguments(type(self), optimizer=optimizer, lr=lr)
        self.optimizer = optimizer
        self.lr = lr
        self.steps = steps

    @property
    def unknowns_of_a_member(self) -> int:
        """All weights."""
        return sum(value.numel() for value in self.net.parameters())

    @property
    def default_steps(self) -> int:
        """The `steps` of the constructor: training has no inner steps to go by."""
        return self.steps

    def task_losses(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        """Equation (2) on all points of every task, without adaptation."""
        both = (episodes.support, episodes.query)
        x, dxdt = (torch.cat([getattr(points, name) for points in both], dim=1) for name in ("x", "dxdt"))
        mask = None
        if any(points.mask is not None for points in both):
            mask = torch.cat(
                [
                    points.counts.new_ones(points.x.shape[:2]).bool() if points.mask is None else points.mask
                    for points in both
                ],
                dim=1,
            )
        return field_loss(self.net.linear_field(x), dxdt, mask)

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Fits every weight to each task's support set by steps of SGD or Adam."""
        problem = WholeNetwork(self.net, support)
        weights = {name: value.detach().clone().requires_grad_() for name, value in problem.start.items()}
        # Both optimizers treat every number for itself, so that one of them serves all tasks.
        optimizer = OPTIMIZERS[self.optimizer](list(weights.values()), lr=self.lr)
        yield {name: value.detach().clone() for name, value in weights.items()}
        for _ in range(steps):
            with torch.enable_grad():
                gradient = problem.gradient(weights, second_order=False)
            for name, value in weights.items():
                value.grad = gradient[name]
            optimizer.step()
            yield {name: value.detach().clone() for name, value in weights.items()}


@register
class Scratch(FineTune):
    """Fine-tuning from random weights: there is no training before a system is observed."""

    meta_trained = False
