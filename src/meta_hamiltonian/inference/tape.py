"""Writes down what PyTorch computes, number by number."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from meta_hamiltonian.inference.operations import MADE, MOVES, WRITTEN, TapeError

# An operation depends on the state (2), on the system alone (1), or on neither (0); the last two are done less often.
OF_STATE, OF_SYSTEM, KNOWN = 2, 1, 0


@dataclasses.dataclass(frozen=True)
class Operation:
    """`memory[out + i] = name(memory[a[i]], memory[b[i]], ...)` for each i.

    For `dot` and `sum` the tables have a second dimension, along which products or numbers are added up.
    """

    name: str
    out: int
    tables: Sequence[Int[np.ndarray, "..."]]

    @property
    def count(self) -> int:
        """How many numbers it writes."""
        return len(self.tables[0])

    @property
    def read(self) -> Int[np.ndarray, " places"]:
        """The places that it reads."""
        return np.concatenate([table.ravel() for table in self.tables])


class Tape(TorchDispatchMode):
    """Listens to PyTorch and writes down every operation, number by number.

    Each tensor has a shadow of the same shape, which holds where in one long memory its numbers are. Whatever moves
    numbers without changing them, such as a transposition or an assignment to a part of a tensor, is done to the
    shadows by PyTorch itself, and costs nothing afterwards. What is left are operations on numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.values: list[float] = []
        self.levels: list[int] = []
        self._shadows: dict[int, Tensor] = {}
        self._kept: list[Tensor] = []  # a name of a tensor that is gone would be given to another

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # PyTorch's compiler, which it would import to say that it is not wanted here, takes seconds.
        return False

    def variable(self, like: Tensor, level: int) -> None:
        """Declares that the numbers of this tensor will vary."""
        self._shadow(like, self._new(like, level))

    def places(self, tensor: Tensor) -> Int[np.ndarray, " numbers"]:
        """The places of a tensor's numbers."""
        return self._shadow(tensor).reshape(-1).numpy()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        inside = name.endswith("_") and not name.startswith("_")
        name = name.removesuffix("_") if inside else name
        shadows = tree_map(lambda v: self._shadow(v) if isinstance(v, Tensor) else v, (args, kwargs))
        result = func(*args, **kwargs)
        if name in MOVES:
            moved = MOVES[name](func, (args, kwargs), shadows)
            _each(result, moved, self._shadow)
            return result
        level = KNOWN if name in MADE else max((self._level(v) for v in _tensors(shadows)), default=KNOWN)
        if level == KNOWN:
            written = self._new(result, KNOWN) if isinstance(result, Tensor) else None
        elif name in WRITTEN and isinstance(result, Tensor):
            written = WRITTEN[name](self, *shadows[0], **shadows[1])
        else:
            raise TapeError(f"the operation {name} of PyTorch is not known to it")
        if written is None:
            _each(result, tree_map(lambda v: self._new(v, KNOWN) if isinstance(v, Tensor) else v, result), self._shadow)
        elif inside:
            shadows[0][0].copy_(written)
            self._shadow(result, shadows[0][0])
        else:
            self._shadow(result, written.reshape(result.shape))
        return result

    def write(self, name: str, *operands: Any) -> Tensor:
        """Adds an operation on numbers that are broadcast as PyTorch does, and returns its shadow."""
        places = torch.broadcast_tensors(*map(self._place, operands))
        shape = places[0].shape
        return self._add(name, [place.reshape(-1) for place in places]).reshape(shape)

    def reduce(self, name: str, *operands: Tensor) -> Tensor:
        """Adds up along the last dimension: numbers, or products of two."""
        places = torch.broadcast_tensors(*operands)
        rows = [place.reshape(-1, place.shape[-1]) for place in places]
        return self._add(name, rows).reshape(places[0].shape[:-1])

    def _add(self, name: str, tables: Sequence[Tensor]) -> Tensor:
        level = max(self._level(table) for table in tables)
        out = len(self.values)
        self.operations.append(Operation(name, out, [table.numpy().copy() for table in tables]))
        count = len(tables[0])
        self.values += [math.nan] * count
        self.levels += [level] * count
        return torch.arange(out, out + count)

    def constant(self, value: bool | int | float) -> Tensor:
        """The shadow of a number."""
        return self._new(torch.tensor(value, dtype=torch.float64), KNOWN)

    def _place(self, operand: Any) -> Tensor:
        return operand if isinstance(operand, Tensor) else self.constant(operand)

    def _level(self, shadow: Tensor) -> int:
        return max((self.levels[place] for place in shadow.reshape(-1).tolist()), default=KNOWN)

    def _shadow(self, tensor: Tensor, given: Tensor | None = None) -> Tensor:
        if given is not None:
            self._shadows[id(tensor)] = given
            self._kept.append(tensor)
        elif id(tensor) not in self._shadows:
            return self._shadow(tensor, self._new(tensor, KNOWN))
        return self._shadows[id(tensor)]

    def _new(self, like: Tensor, level: int) -> Tensor:
        with _disable_current_modes():
            numbers = like.detach().reshape(-1).double().tolist()
        begin = len(self.values)
        self.values += numbers
        self.levels += [level] * len(numbers)
        return torch.arange(begin, len(self.values)).reshape(like.shape)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _each(result: Any, shadows: Any, keep: Callable[[Tensor, Tensor], Tensor]) -> None:
    if isinstance(result, Tensor):
        keep(result, shadows)
    else:
        for one, shadow in zip(result, shadows, strict=True):
            _each(one, shadow, keep)
