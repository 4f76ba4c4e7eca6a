"""A context for each task: the learners that train one jointly with what all tasks share."""

import abc
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.config import ConfigError, check_arguments
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.learners.loss import field_loss
from meta_hamiltonian.models import AdaptedSystems, FieldNetwork


class ContextLearner(Learner):
    """One vector z of few numbers tells a task from the others; what all share turns it into the weights of a network.

    Training finds the vectors of all tasks of the training set together with what they share, by the same outer steps:
    there is no inner loop, and nothing is differentiated twice. Adaptation to a new system keeps everything shared as
    it is.

    To add one, write `weights`, and `adaptations` or `penalty`.
    """

    def __init__(self, net: FieldNetwork, dimension: int, scale: str = "none"):
        """**Arguments:**

        - `net`: the network.
        - `dimension`: numbers in z.
        - `scale`: `"none"` or `"task"`, see [`Learner`][].
        """
        super().__init__(net, scale)
        check_arguments(type(self), dimension=dimension)
        self.dimension = dimension
        self.contexts = nn.Parameter(torch.zeros(0, dimension))

    def prepare(self, tasks: int | None) -> None:
        """Gives each task of the training set a context, at 0.

        **Raises:** [`ConfigError`][] for an endless stream of tasks, none of which is met twice.
        """
        if tasks is None:
            raise ConfigError(
                f"data.tasks=null is not allowed here: {type(self).__name__} learns a context for each task of a fixed "
                "training set; give a number"
            )
        self.contexts.data = self.contexts.new_zeros(tasks, self.dimension)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        kept = state_dict.get(f"{prefix}contexts")
        if kept is not None:
            self.prepare(len(kept))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @abc.abstractmethod
    def weights(self, contexts: Float[Tensor, "tasks dimension"]) -> Mapping[str, Tensor]:
        """The weights `[tasks, ...]` of each task's network by name; those left out are the network's own."""

    def penalty(self, contexts: Float[Tensor, "tasks dimension"]) -> Float[Tensor, " tasks"]:
        """What is added to each task's loss in training; in adaptation, only the part of it that depends on z."""
        return contexts.new_zeros(len(contexts))

    def task_losses(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        """Equation (2) on all points of the tasks of the training set, each with its context, and the penalty.

        For other tasks, such as those of the validation, it is the query loss at the weights that adaptation finds.

        **Raises:** `ValueError` where [`prepare`][] has made no room for the tasks.
        """
        if episodes.index is None:
            *_, weights = self.adaptations(episodes.support, self.default_steps)
            return field_loss(
                self.net.linear_field_with(weights, episodes.query.x), episodes.query.dxdt, episodes.query.mask
            )
        if not len(self.contexts):
            raise ValueError(
                f"the learner has no contexts: call prepare({len(episodes)}) with the number of training tasks"
            )
        contexts, points = self.contexts[episodes.index], episodes.points
        losses = field_loss(self.net.linear_field_with(self.weights(contexts), points.x), points.dxdt, points.mask)
        return losses + self.penalty(contexts)

    @property
    def unknowns_of_a_member(self) -> int:
        """The numbers in z."""
        return self.dimension

    def own_numbers(self, adapted: AdaptedSystems) -> Float[Tensor, "systems numbers"]:
        """All weights that are a system's own, and the scale of its rates."""
        own = [value.flatten(1) for value in adapted.parameters.values()]
        return torch.cat([adapted.scale[:, None], *own], dim=1)


class AutoDecoder(ContextLearner):
    """A context learner that finds the context of a new system by Adam, from the mean context of the training set.

    ??? cite "Reference"

        Park, Florence, Straub, Newcombe, Lovegrove: DeepSDF. CVPR 2019. arXiv:1901.05103.
    """

    def __init__(self, net: FieldNetwork, dimension: int, lr: float = 0.03, steps: int = 100, scale: str = "none"):
        """**Arguments** beside those of [`ContextLearner`][]:

        - `lr`: Adam's rate for the context of a new system.
        - `steps`: how many of Adam's steps, unless `adapt` is told.
        """
        super().__init__(net, dimension, scale)
        check_arguments(type(self), lr=lr, steps=steps)
        self.lr = lr
        self.steps = steps

    @property
    def default_steps(self) -> int:
        """The `steps` of the constructor: training has no inner steps to go by."""
        return self.steps

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Fits the context of each task by steps of Adam; a graph leads to what is shared, none through the steps."""
        start = self.contexts.detach().mean(0) if len(self.contexts) else self.contexts.new_zeros(self.dimension)
        contexts = start.expand(len(support.x), -1).clone().requires_grad_()
        optimizer = torch.optim.Adam([contexts], self.lr)  # every number for itself: one of them serves all tasks
        yield self.weights(contexts.detach())
        for _ in range(steps):
            with torch.enable_grad():  # callers may have switched it off
                predicted = self.net.linear_field_with(self.weights(contexts), support.x)
                losses = field_loss(predicted, support.dxdt, support.mask) + self.penalty(contexts)
                (contexts.grad,) = torch.autograd.grad(losses.sum(), contexts)
            optimizer.step()
            yield self.weights(contexts.detach())
