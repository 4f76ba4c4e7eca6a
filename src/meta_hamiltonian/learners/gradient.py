"""The inner loop that MAML and ANIL share: gradient steps on the support set."""

import abc
import functools
import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.config import ConfigError, check_arguments
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.learners.loss import field_loss
from meta_hamiltonian.learners.numerics.step import CompiledStep, chunk_size, mean_loss
from meta_hamiltonian.models import FieldNetwork

# 2⁻³⁰ of a step changes nothing in float32; after so many halvings a task takes none.
_HALVINGS = 30


class InnerProblem(abc.ABC):
    """The support losses of a meta-batch of tasks, as functions of each task's own weights."""

    start: Mapping[str, Tensor]
    """The weights before adaptation, `[tasks, ...]` each."""

    @abc.abstractmethod
    def loss(self, weights: Mapping[str, Tensor]) -> Float[Tensor, " tasks"]:
        """Equation (2) on every task's support set."""

    @abc.abstractmethod
    def gradient(self, weights: Mapping[str, Tensor], second_order: bool) -> Mapping[str, Tensor]:
        """Each task's gradient of its own loss; differentiable only if `second_order`."""


class GradientLearner(Learner):
    """Adapts by gradient descent on the support loss.

    With `learn_lr`, every inner step has a learned rate for every parameter tensor (as in MAML++,
    Antoniou et al. 2019, arXiv:1810.09502), kept positive by learning its logarithm. A learned sequence of rates may
    overshoot in one step and make up for it in the next, so that it is right only as the whole that was
    trained. Steps beyond the trained ones therefore use the last rates as a proposal: for a task whose support loss
    would rise they are halved until it does not. With fixed rates every step is the plain step.
    """

    def __init__(
        self,
        net: FieldNetwork,
        lr: float = 0.005,
        inner_steps: int = 5,
        first_order: bool = False,
        learn_lr: bool = False,
        scale: str = "none",
        backend: str = "vectorized",
        compile: bool = False,
        task_chunk: int | None = None,
    ):
        """**Arguments:**

        - `net`: the network.
        - `lr`: the inner rate α, above 0; where the rates are learned, what they start from.
        - `inner_steps`: gradient steps in training, at least 1.
        - `first_order`: ignore how the inner gradients depend on the initial weights.
        - `learn_lr`: learn a rate for each step and parameter tensor.
        - `scale`: `"none"` or `"task"`, see [`Learner`][].
        - `backend`: `"vectorized"` takes all tasks of a meta-batch at once; `"learn2learn"` clones and adapts
            task by task. Both give the same meta-gradient.
        - `compile`: run the step, inner and outer loop, as one graph of `torch.compile`.
        - `task_chunk`: tasks whose gradient is taken at once; None is as many as stay in the cache.
        """
        super().__init__(net, scale)
        check_arguments(type(self), lr=lr, inner_steps=inner_steps, backend=backend, task_chunk=task_chunk)
        if compile and backend != "vectorized":
            raise ValueError(f"compile=True needs backend='vectorized', got backend={backend!r}")
        if backend == "learn2learn" and importlib.util.find_spec("learn2learn") is None:
            raise ConfigError(
                "algo.backend=learn2learn is not allowed: learn2learn is not installed; use algo.backend=vectorized, "
                "or `uv sync` in a clone"
            )
        self.compiled = compile
        self.task_chunk = task_chunk
        self.lr = lr
        self.inner_steps = inner_steps
        self.first_order = first_order
        self.backend = backend
        self.learn_lr = learn_lr
        if learn_lr:
            dtype = net.head.weight.dtype
            self.log_lr = nn.Parameter(torch.full((inner_steps, len(self.adapted_names)), math.log(lr), dtype=dtype))

    @property
    @abc.abstractmethod
    def adapted_names(self) -> list[str]:
        """The parameters of the network that the inner loop changes."""

    @abc.abstractmethod
    def inner_problem(self, support: Points) -> InnerProblem:
        """The tasks' support losses, all at once."""

    @property
    @abc.abstractmethod
    def kept_arrays(self) -> int:
        """About how many arrays of the size of a layer's values a task keeps until its gradient is taken."""

    @abc.abstractmethod
    def adapted_module(self) -> nn.Module:
        """For learn2learn: the module that the inner loop adapts."""

    @abc.abstractmethod
    def module_inputs(self, x: Float[Tensor, "points state"]) -> Float[Tensor, "points ..."]:
        """For learn2learn: what that module is given for the states x."""

    @property
    def unknowns_of_a_member(self) -> int:
        """All weights that the inner loop changes."""
        return sum(self.net.get_parameter(name).numel() for name in self.adapted_names)

    @property
    def default_steps(self) -> int:
        """As many steps as in training."""
        return self.inner_steps

    def rate(self, step: int, tensor: int) -> Float[Tensor, "*shape"] | float:
        """α of an inner step for one of `adapted_names`: a number, or one for each of its elements."""
        return self.log_lr[min(step, self.inner_steps - 1), tensor].exp() if self.learn_lr else self.lr

    def rate_gradients(self, of_rates: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """The gradients for the parameters behind the rates, by name.

        **Arguments:** `of_rates`: the gradient for each step's rate of each of `adapted_names`, as if every
        element had a rate of its own.
        """
        sums = torch.stack([torch.stack([of_rate.sum() for of_rate in step]) for step in of_rates])
        return {"log_lr": sums * self.log_lr.exp()}

    def mean_loss(self, episodes: Episodes) -> Float[Tensor, ""]:
        """The mean of `task_losses`, chunk by chunk; each chunk's gradient is taken along with its loss."""
        if torch.compiler.is_compiling():  # by a user, who differentiates the loss in his own way
            return self.task_losses(episodes).mean()
        compiled = self.compiled and self.training  # held-out tasks, of another number, do not earn a compilation
        size = self.task_chunk or chunk_size(
            len(episodes), self._layer_bytes(episodes), self.kept_arrays, compiled, episodes.query.x.is_cuda
        )
        chunks = [episodes[i : i + size] for i in range(0, len(episodes), size)]
        if not torch.is_grad_enabled():
            return torch.cat([self.task_losses(chunk) for chunk in chunks]).mean()
        parts = self._compiled_step.map(chunks) if compiled else map(self.losses_and_gradients, chunks)
        return mean_loss(parts, len(episodes), dict(self.named_parameters()))

    def losses_and_gradients(self, episodes: Episodes) -> tuple[Float[Tensor, " tasks"], dict[str, Tensor]]:
        """`task_losses` without a graph, and the gradient of their sum for every parameter by name."""
        parameters: dict[str, Tensor] = dict(self.named_parameters())
        if torch.compiler.is_compiling():

            def total(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
                losses = torch.func.functional_call(self, parameters, (episodes,))
                return losses.sum(), losses

            gradients, (_, losses) = torch.func.grad_and_value(total, has_aux=True)(parameters)
            return losses, gradients
        with torch.enable_grad():
            losses = self.task_losses(episodes)
            gradients = torch.autograd.grad(
                losses.sum(), list(parameters.values()), allow_unused=True, materialize_grads=True
            )
        return losses.detach(), dict(zip(parameters, gradients, strict=True))

    def _layer_bytes(self, episodes: Episodes) -> int:
        points = max(episodes.support.x.shape[1], episodes.query.x.shape[1])
        return points * self.net.head.in_features * episodes.query.x.element_size()

    @functools.cached_property
    def _compiled_step(self) -> CompiledStep:
        return CompiledStep(self.losses_and_gradients)

    def __getstate__(self) -> dict[str, Any]:
        # A copy compiles for itself: what was compiled has the weights of this learner.
        return {name: value for name, value in vars(self).items() if name != "_compiled_step"}

    def task_losses(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        """Each task's query loss after `inner_steps` steps on its support set, by either backend."""
        if self.backend == "learn2learn":
            with torch.enable_grad():  # callers may have switched it off
                losses = torch.stack([self._clone_and_adapt(episodes, task) for task in range(len(episodes))])
            return losses if torch.is_grad_enabled() else losses.detach()
        problem = self.inner_problem(episodes.support)
        weights = problem.start
        second_order = torch.is_grad_enabled() and not self.first_order
        for step in range(self.inner_steps):
            weights = self._step(problem, weights, step, second_order)
        return self.query_losses(weights, episodes.query)

    def query_losses(self, parameters: Mapping[str, Tensor], query: Points) -> Float[Tensor, " tasks"]:
        """Equation (2) on every task's query set, of fields that nothing constrains."""
        return field_loss(self.net.linear_field_with(parameters, query.x), query.dxdt, query.mask)

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Takes the inner steps of all tasks at once; no graph leads from one step to the next."""
        problem = self.inner_problem(support)
        weights = {name: value.detach() for name, value in problem.start.items()}
        yield weights
        for step in range(steps):
            weights = self._step(problem, weights, step, second_order=False)
            weights = {name: value.detach() for name, value in weights.items()}
            yield weights

    def _step(
        self, problem: InnerProblem, weights: Mapping[str, Tensor], step: int, second_order: bool
    ) -> Mapping[str, Tensor]:
        """Equation (3), θ′ = θ − α ∇_θ L(support; θ), for every task; equation (5) where θ is the head."""
        gradient = problem.gradient(weights, second_order)
        change = {name: -self.rate(step, i) * gradient[name] for i, name in enumerate(weights)}
        if self.learn_lr and step >= self.inner_steps:
            change = _without_rise(problem, weights, change)
        return {name: weights[name] + change[name] for name in weights}

    def _clone_and_adapt(self, episodes: Episodes, task: int) -> Float[Tensor, ""]:
        """One task's query loss by learn2learn's own loop."""
        support, query = episodes.support[task], episodes.query[task]
        clone = self.learn2learn().clone()
        inputs = self.module_inputs(support.x)
        for step in range(self.inner_steps):
            loss = field_loss(clone(inputs).reshape(support.x.shape), support.dxdt, support.mask)
            self.adapt_clone(clone, loss, step)
        return field_loss(clone(self.module_inputs(query.x)).reshape(query.x.shape), query.dxdt, query.mask)

    def learn2learn(self) -> Any:
        """learn2learn's algorithm around [`adapted_module`][]."""
        from meta_hamiltonian.learners.numerics import learn2learn  # seconds that the other backend need not spend

        return learn2learn.MAML(self.adapted_module(), lr=self.lr, first_order=self.first_order)

    def adapt_clone(self, clone: Any, loss: Float[Tensor, ""], step: int) -> None:
        """One inner step of a clone of [`learn2learn`][]."""
        if not self.learn_lr:
            clone.adapt(loss)
            return
        from meta_hamiltonian.learners.numerics import learn2learn

        parameters = list(clone.module.parameters())  # MAML.adapt has one rate for everything
        gradients = torch.autograd.grad(loss, parameters, create_graph=not self.first_order)
        updates = [-self.rate(step, i) * gradient for i, gradient in enumerate(gradients)]
        clone.module = learn2learn.update_module(clone.module, updates)


def _without_rise(
    problem: InnerProblem, weights: Mapping[str, Tensor], change: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """The change, halved for each task as often as it takes for its support loss not to rise."""

    def scaled(factor: Tensor) -> dict[str, Tensor]:
        return {name: value * factor.reshape(-1, *[1] * (value.dim() - 1)) for name, value in change.items()}

    with torch.no_grad():
        before = problem.loss(weights)
        factor = torch.ones_like(before)
        for _ in range(_HALVINGS):
            after = problem.loss({name: weights[name] + value for name, value in scaled(factor).items()})
            rises = ~(after <= before)  # also where it is not a number
            if not rises.any():
                break
            factor = torch.where(rises, factor / 2, factor)
        else:
            factor = factor.masked_fill(factor <= 2.0**-_HALVINGS, 0.0)
        return scaled(factor)
