"""How the meta-loss of a meta-batch is evaluated: compiled or not, all tasks at once or chunk by chunk."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.models import FieldNetwork

log = logging.getLogger(__name__)

# Numbers in one layer's values of a chunk's points: several such arrays share a core's cache.
_IN_CACHE = 2**15

TaskLosses = Callable[[Episodes], Float[Tensor, " tasks"]]


def compiled(task_losses: TaskLosses) -> TaskLosses:
    """The same function as one graph, by `torch.compile`, its gradient included.

    It is compiled at the first call with each shape, which takes from ten seconds to a minute; PyTorch keeps what it
    compiled in a folder for later processes. Where no compiler works, one warning says so, and nothing is compiled.
    """

    def on_tensors(*tensors: Tensor) -> Tensor:
        x, dxdt, query_x, query_dxdt, parameters = tensors
        return task_losses(Episodes(Points(x, dxdt), Points(query_x, query_dxdt), parameters))

    graph: Callable[..., Tensor] | None = None
    works = True

    def losses(episodes: Episodes) -> Float[Tensor, " tasks"]:
        from torch._dynamo.exc import TorchDynamoException  # here: it takes a second

        nonlocal graph, works
        if works:
            if graph is None:
                # On a GPU a step's thousands of kernels are launched as one CUDA graph.
                mode = "reduce-overhead" if episodes.parameters.is_cuda else None
                graph = torch.compile(on_tensors, fullgraph=True, dynamic=False, mode=mode)
            support, query = episodes.support, episodes.query
            try:
                return graph(support.x, support.dxdt, query.x, query.dxdt, episodes.parameters)
            except TorchDynamoException as error:
                reason = str(error).strip().splitlines()[0]
                log.warning(f"The step is not compiled, since no compiler works here: {reason}")
                works = False
        return task_losses(episodes)

    return losses


def mean_in_chunks(
    task_losses: TaskLosses, episodes: Episodes, chunk: int, parameters: Sequence[Tensor]
) -> Float[Tensor, ""]:
    """The mean of the tasks' losses, whose gradient is taken chunk by chunk.

    What a chunk's inner loop leaves for its gradient is then read while it is still in the cache, and memory does not
    grow with the meta-batch. The gradient is the same; it cannot be differentiated again.

    **Arguments:**

    - `task_losses`: depends on `parameters`.
    - `chunk`: tasks at a time.
    """
    if not torch.is_grad_enabled():
        parts = [task_losses(episodes[i : i + chunk]) for i in range(0, len(episodes), chunk)]
        return torch.cat(parts).mean()
    return _MeanInChunks.apply(task_losses, episodes, chunk, *parameters)


class _MeanInChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, task_losses: TaskLosses, episodes: Episodes, chunk: int, *parameters: Tensor) -> Tensor:
        total = episodes.query.x.new_zeros(())
        ctx.gradients = [torch.zeros_like(value) for value in parameters]
        for start in range(0, len(episodes), chunk):
            with torch.enable_grad():
                loss = task_losses(episodes[start : start + chunk]).sum() / len(episodes)
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
            for so_far, gradient in zip(ctx.gradients, gradients, strict=True):
                so_far += gradient
            total += loss.detach()
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None, None, *[gradient * value for value in ctx.gradients]


def cached_chunk(tasks: int, points: int, net: FieldNetwork, compiled: bool) -> int:
    """How many tasks of a meta-batch to take at once: all, or for compiled code on a CPU as many as stay in the cache.

    What is left of a compiled step is bound by memory, while a step that is not compiled is bound by its many calls.
    """
    most = max(1, _IN_CACHE // (points * net.head.in_features))
    if not compiled or net.state_box.is_cuda or most >= tasks:
        return tasks
    divisor = max(size for size in range(1, most + 1) if tasks % size == 0)
    return divisor if divisor > most / 2 else most  # a remainder would be compiled too
