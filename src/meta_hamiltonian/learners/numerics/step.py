"""The meta-loss of a meta-batch and its gradient, evaluated chunk by chunk, compiled or not."""

import concurrent.futures
import ctypes
import functools
import logging
import math
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Episodes, Points

log = logging.getLogger(__name__)

LossesAndGradients = tuple[Float[Tensor, " tasks"], Mapping[str, Tensor]]
"""The tasks' losses, and the gradient of their sum for every parameter by name."""
Step = Callable[[Episodes], LossesAndGradients]

# Bytes of one layer's values of a compiled chunk: several such arrays stay in a core's cache.
_IN_CACHE = 2**17
# Bytes that a chunk keeps for its gradient where it is not compiled: large, since each of its many calls takes time,
# but less than the C library holds back from the system (below). On a GPU, all that fits into its memory.
_HELD, _ON_GPU = 45 * 2**20, 32 * 2**30


def chunk_size(tasks: int, layer: int, arrays: int, compiled: bool, on_gpu: bool) -> int:
    """How many tasks of a meta-batch to take at once.

    **Arguments:**

    - `tasks`: the number of tasks of the meta-batch.
    - `layer`: bytes of one layer's values at a task's points.
    - `arrays`: about how many such arrays a task keeps for its gradient.
    - `compiled`: whether the step is compiled: then every size is compiled by itself, and chunks run side by side.
    """
    bytes_at_once = _ON_GPU if on_gpu else _HELD
    if on_gpu or not compiled:
        most = max(1, bytes_at_once // (layer * arrays))
        return math.ceil(tasks / math.ceil(tasks / most))  # of about the same size
    most = min(max(1, _IN_CACHE // layer), math.ceil(tasks / torch.get_num_threads()))
    divisor = max(size for size in range(1, most + 1) if tasks % size == 0)
    return divisor if divisor > most / 2 else most  # a remainder would be compiled too


def mean_loss(parts: Iterable[LossesAndGradients], tasks: int, parameters: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """The mean of the tasks' losses, whose gradient is known before `backward` asks for it.

    Each chunk's gradient is thus taken while the arrays of its inner loop are still in the cache, and memory does not
    grow with the meta-batch. The mean cannot be differentiated a second time.

    **Arguments:**

    - `parts`: losses and gradients of every chunk of the meta-batch, which are added in this order.
    - `tasks`: the number of tasks of the meta-batch.
    - `parameters`: by name, those that the gradients are for.
    """
    return _MeanLoss.apply(parts, tasks, list(parameters), *parameters.values())


class _MeanLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, parts: Iterable[LossesAndGradients], tasks: int, names: Sequence[str], *parameters: Tensor
    ) -> Tensor:
        _keep_freed_memory()
        total: Tensor | None = None
        for losses, gradients in parts:
            # A copy, all tensors at once: a CUDA graph writes the next chunk's where it wrote this one's.
            mean = losses.sum() / tasks
            shares = torch._foreach_div([gradients[name] for name in names], tasks)  # pyright: ignore
            if total is None:
                total, ctx.gradients = mean, shares
            else:
                total = total + mean
                torch._foreach_add_(ctx.gradients, shares)  # pyright: ignore
        assert total is not None, "a meta-batch has tasks"
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None, None, *torch._foreach_mul(ctx.gradients, gradient)  # pyright: ignore


@functools.cache
def _keep_freed_memory() -> None:
    """Lets the C library keep what a step frees for the next one.

    By default glibc returns large blocks to the system, and the next step pays for thousands of page faults, up to
    half of its time. The largest block freed so far, up to 32 MiB, is what it takes for large.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


class CompiledStep:
    """A step of the outer loop as one graph, by `torch.compile`.

    The step is compiled at the first call with each shape, which takes from ten seconds to a minute; PyTorch keeps the
    result in a folder for later processes. Where compilation fails, for want of a compiler or because PyTorch cannot
    follow the network, one warning says so, and the step stays as it is.
    """

    def __init__(self, step: Step):
        self._step = step
        self._graphs: dict[tuple[Any, ...], Callable[..., LossesAndGradients]] = {}
        self._works = True

    def map(self, chunks: Sequence[Episodes]) -> Iterator[LossesAndGradients]:
        """The step for every chunk. On a CPU every thread takes chunks of its own."""
        threads = None if chunks[0].query.x.is_cuda else _threads(torch.get_num_threads())
        for chunk in chunks:
            if self._works and _shape(chunk) not in self._graphs:
                self._compile(chunk, threads)
        if not self._works:
            return map(self._step, chunks)
        if threads is None:
            return map(self._run, chunks)
        _pause_openmp()
        return threads.map(self._run, chunks)

    def _compile(self, chunk: Episodes, threads: concurrent.futures.Executor | None) -> None:
        from torch._dynamo.exc import TorchDynamoException  # here: it takes a second

        # On a GPU the step's thousands of kernels are launched as one CUDA graph. On a CPU its calls are C++.
        how: Any = {"options": {"cpp_wrapper": True, "cpp.threads": 1}} if threads else {"mode": "reduce-overhead"}
        graph = torch.compile(_on_tensors(self._step), fullgraph=True, dynamic=False, **how)
        self._graphs[_shape(chunk)] = graph
        try:
            # On one of the threads that will run it, whose settings it is compiled for.
            self._run(chunk) if threads is None else threads.submit(self._run, chunk).result()
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            log.warning(f"The step is not compiled, since that does not work here: {reason}")
            self._works = False

    def _run(self, chunk: Episodes) -> LossesAndGradients:
        support, query = chunk.support, chunk.query
        with torch.no_grad():  # a thread starts with gradients
            tensors = support.x, support.dxdt, support.mask, query.x, query.dxdt, query.mask
            return self._graphs[_shape(chunk)](*tensors)


def _shape(chunk: Episodes) -> tuple[Any, ...]:
    x, masks = chunk.query.x, (chunk.support.mask is None, chunk.query.mask is None)
    return chunk.support.x.shape, x.shape, x.dtype, x.device, masks


def _on_tensors(step: Step) -> Callable[..., LossesAndGradients]:
    def on_tensors(*tensors: Any) -> Any:
        return step(Episodes(Points(*tensors[:3]), Points(*tensors[3:])))

    # PyTorch keeps up to eight graphs for the code of a function, whoever compiled them: each gets code of its own.
    code = on_tensors.__code__.replace()
    return types.FunctionType(code, on_tensors.__globals__, closure=on_tensors.__closure__)


def _pause_openmp() -> None:
    """Frees the cores of the threads that PyTorch's last operation used: they wait for the next by spinning."""
    if pause := getattr(ctypes.CDLL(None), "omp_pause_resource_all", None):
        pause(1)  # OpenMP's omp_pause_soft; the threads come back with the next operation


@functools.cache
def _threads(count: int) -> concurrent.futures.Executor:
    """Threads each of which computes on one core, where PyTorch by default splits every operation over all of them."""
    started = threading.Barrier(count)

    def start(_: int) -> None:
        torch.get_num_threads()  # the first call on a thread sets it to the process's number
        torch.set_num_threads(1)
        started.wait()

    threads = concurrent.futures.ThreadPoolExecutor(count, "step")
    list(threads.map(start, range(count)))
    torch.set_num_threads(count)  # what this thread and later ones go on with
    return threads
