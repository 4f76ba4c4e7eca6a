"""What an adapted system computes, as a list of operations on numbers that any language can run."""

import base64
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

# An operation needs the state (2), the system alone (1), or neither (0): what needs less is done less often.
_OF_STATE, _OF_SYSTEM, _KNOWN = 2, 1, 0


class TapeError(RuntimeError):
    """A network whose operations cannot be listed. The message is one line."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """`memory[out + i] = name(memory[a[i]], memory[b[i]], ...)` for each i.

    Of `dot` and `sum`, the tables have a second dimension, and products or numbers are added up along it.
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
        """Tells that this tensor's numbers will be others."""
        self._shadow(like, self._new(like, level))

    def places(self, tensor: Tensor) -> Int[np.ndarray, " numbers"]:
        """Where its numbers are."""
        return self._shadow(tensor).reshape(-1).numpy()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        inside = name.endswith("_") and not name.startswith("_")
        name = name.removesuffix("_") if inside else name
        shadows = tree_map(lambda v: self._shadow(v) if isinstance(v, Tensor) else v, (args, kwargs))
        result = func(*args, **kwargs)
        if name in _MOVES:
            moved = _MOVES[name](func, (args, kwargs), shadows)
            _each(result, moved, self._shadow)
            return result
        level = _KNOWN if name in _MADE else max((self._level(v) for v in _tensors(shadows)), default=_KNOWN)
        if level == _KNOWN:
            written = self._new(result, _KNOWN) if isinstance(result, Tensor) else None
        elif name in _WRITTEN and isinstance(result, Tensor):
            written = _WRITTEN[name](self, *shadows[0], **shadows[1])
        else:
            raise TapeError(f"the operation {name} of PyTorch is not known to it")
        if written is None:
            _each(result, tree_map(lambda v: self._new(v, _KNOWN) if isinstance(v, Tensor) else v, result), self._shadow)
        elif inside:
            shadows[0][0].copy_(written)
            self._shadow(result, shadows[0][0])
        else:
            self._shadow(result, written.reshape(result.shape))
        return result

    def write(self, name: str, *operands: Any) -> Tensor:
        """Adds an operation on numbers that are matched as PyTorch matches them; its shadow."""
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

    def _place(self, operand: Any) -> Tensor:
        return operand if isinstance(operand, Tensor) else self._new(torch.tensor(operand), _KNOWN)

    def _level(self, shadow: Tensor) -> int:
        return max((self.levels[place] for place in shadow.reshape(-1).tolist()), default=_KNOWN)

    def _shadow(self, tensor: Tensor, given: Tensor | None = None) -> Tensor:
        if given is not None:
            self._shadows[id(tensor)] = given
            self._kept.append(tensor)
        elif id(tensor) not in self._shadows:
            return self._shadow(tensor, self._new(tensor, _KNOWN))
        return self._shadows[id(tensor)]

    def _new(self, like: Tensor, level: int) -> Tensor:
        with torch.utils._python_dispatch._disable_current_modes():
            numbers = like.detach().reshape(-1).double().tolist()
        begin = len(self.values)
        self.values += numbers
        self.levels += [level] * len(numbers)
        return torch.arange(begin, len(self.values)).reshape(like.shape)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _each(result: Any, shadows: Any, keep: Callable[[Tensor, Tensor], Tensor]) -> None:
    if isinstance(result, Tensor):
        keep(result, shadows)
    else:
        for one, shadow in zip(result, shadows, strict=True):
            _each(one, shadow, keep)


_Move = Callable[[Any, tuple[Any, Any], tuple[Any, Any]], Any]


def _same(func: Any, real: tuple[Any, Any], shadows: tuple[Any, Any]) -> Any:
    """The operation itself, done to places."""
    return func(*shadows[0], **shadows[1])


def _copied(func: Any, real: tuple[Any, Any], shadows: tuple[Any, Any]) -> Any:
    """Where no number changes, whatever dtype is asked for."""
    return shadows[0][0].clone()


def _indexed(position: int) -> _Move:
    """The same, its index being a number or numbers that are known."""

    def move(func: Any, real: tuple[Any, Any], shadows: tuple[Any, Any]) -> Any:
        arguments = list(shadows[0])
        arguments[position] = real[0][position]
        return func(*arguments, **shadows[1])

    return move


_MOVES: Mapping[str, _Move] = {
    **dict.fromkeys(
        ("view", "_unsafe_view", "_reshape_alias", "as_strided", "t", "transpose", "permute", "unsqueeze", "squeeze",
         "expand", "slice", "select", "split", "split_with_sizes", "unbind", "alias", "detach", "cat", "stack", "copy",
         "flip", "roll", "diagonal", "slice_scatter", "select_scatter", "unfold", "narrow", "repeat", "movedim"),
        _same,
    ),
    **dict.fromkeys(("clone", "_to_copy", "lift_fresh", "lift_fresh_copy", "contiguous"), _copied),
    "index": _indexed(1),
    "index_select": _indexed(2),
    "gather": _indexed(2),
    "index_put": _indexed(1),
}  # fmt: skip
"""What moves numbers and changes none."""


_MADE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_empty_strided",
}  # fmt: skip
"""What takes no more than a shape and a dtype from a tensor."""


def _alike(name: str) -> Callable[..., Tensor]:
    return lambda tape, *operands: tape.write(name, *operands)


def _sum_of(sign: str) -> Callable[..., Tensor]:
    def write(tape: Tape, a: Any, b: Any, alpha: float = 1) -> Tensor:
        return tape.write(sign, a, b if alpha == 1 else tape.write("mul", b, alpha))

    return write


def _product(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    return tape.reduce("dot", a.unsqueeze(-2), b.mT.unsqueeze(-3))


def _matrix_vector(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    return tape.reduce("dot", a, b)


def _added_product(tape: Tape, c: Tensor, a: Tensor, b: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    assert beta == alpha == 1
    return tape.write("add", c, _product(tape, a, b))


def _along(tape: Tape, x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    dims = [dims] if isinstance(dims, int) else list(dims or range(x.dim()))
    dims = [dim % x.dim() for dim in dims]
    others = [dim for dim in range(x.dim()) if dim not in dims]
    moved = x.permute(*others, *dims)
    total = tape.reduce("sum", moved.reshape(*(x.shape[dim] for dim in others), -1))
    return total.reshape([1 if dim in dims else size for dim, size in enumerate(x.shape)]) if keepdim else total


def _mean(tape: Tape, x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    total = _along(tape, x, dims, keepdim)
    return tape.write("div", total, x.numel() / total.numel())


def _norm(tape: Tape, x: Tensor, order: float = 2, dims: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    if order != 2:
        raise TapeError(f"the norm of order {order} is not known to it")
    return tape.write("sqrt", _along(tape, tape.write("mul", x, x), dims, keepdim))


def _any(tape: Tape, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return tape.write("gt", _along(tape, x, dim, keepdim), 0.0)


def _added_at(tape: Tape, x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float = 1) -> Tensor:
    """One row of the source after the other."""
    total = x.clone()
    rows = [int(tape.values[place]) for place in index.tolist()]
    for i, row in enumerate(rows):
        total.select(dim, row).copy_(tape.write("add", total.select(dim, row), source.select(dim, i)))
    return total


def _clamped(tape: Tape, x: Tensor, low: Any = None, high: Any = None, **_: Any) -> Tensor:
    x = x if low is None else tape.write("maximum", x, low)
    return x if high is None else tape.write("minimum", x, high)


def _placed(put: Callable[..., Any]) -> Callable[..., Tensor]:
    """What autograd makes of taking a part: the part, and zeros around it."""

    def write(tape: Tape, gradient: Tensor, sizes: Sequence[int], *where: Any) -> Tensor:
        zero = tape._new(torch.zeros(()), _KNOWN)
        whole = zero.expand(*sizes).clone()
        put(whole, *where).copy_(gradient)
        return whole

    return write


_WRITTEN: Mapping[str, Callable[..., Tensor]] = {
    **{name: _alike(name) for name in (
        "mul", "div", "neg", "sin", "cos", "tan", "tanh", "sinh", "cosh", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt",
        "abs", "sign", "reciprocal", "sigmoid", "silu", "atan", "atan2", "round", "floor", "pow", "maximum", "minimum",
        "gt", "lt", "ge", "le", "eq", "ne", "where", "logaddexp", "remainder",
    )},
    "add": _sum_of("add"),
    "sub": _sum_of("sub"),
    "rsub": lambda tape, a, b, alpha=1: _sum_of("sub")(tape, b, a, alpha),
    "square": lambda tape, x: tape.write("mul", x, x),
    "softplus": lambda tape, x, beta=1, threshold=20: tape.write("softplus", x),
    "addcmul": lambda tape, a, b, c, value=1: tape.write("add", a, tape.write("mul", tape.write("mul", b, c), value)),
    "masked_fill": lambda tape, x, mask, value: tape.write("where", mask, value, x),
    **dict.fromkeys(("bitwise_or", "logical_or"), lambda tape, a, b: tape.write("maximum", a, b)),
    **dict.fromkeys(("bitwise_and", "logical_and"), lambda tape, a, b: tape.write("minimum", a, b)),
    **dict.fromkeys(("bitwise_not", "logical_not"), lambda tape, a: tape.write("sub", 1.0, a)),
    **dict.fromkeys(("mm", "bmm"), _product),
    **dict.fromkeys(("mv", "dot"), _matrix_vector),
    **dict.fromkeys(("addmm", "baddbmm"), _added_product),
    "sum": _along,
    "mean": _mean,
    "linalg_vector_norm": _norm,
    "any": _any,
    "index_add": _added_at,
    "clamp": _clamped,
    "clamp_min": lambda tape, x, low: tape.write("maximum", x, low),
    "tanh_backward": lambda tape, g, h: tape.write("mul", g, tape.write("sub", 1.0, tape.write("mul", h, h))),
    "sigmoid_backward": lambda tape, g, h: tape.write(
        "mul", g, tape.write("mul", h, tape.write("sub", 1.0, h))
    ),
    "slice_backward": _placed(lambda whole, dim, start, end, step: whole[(slice(None),) * dim + (slice(start, end, step),)]),
    "select_backward": _placed(lambda whole, dim, index: whole.select(dim, index)),
}  # fmt: skip
"""What computes numbers."""


def program(
    functions: Mapping[str, Callable[..., Tensor]],
    state: Float[Tensor, " numbers"],
    own: Float[Tensor, " own"],
) -> dict[str, Any]:
    """The functions of a state and of a system's own numbers, as plain values.

    **Arguments:**

    - `functions`: by name; each takes `state` and `own`, vectors in float64.
    - `state`, `own`: any for which all is finite. Which operations there are must not depend on them.

    **Raises:** [`TapeError`][] for an operation that is not known.
    """
    tape = Tape()
    with torch.no_grad():
        tape.variable(state, _OF_STATE)
        tape.variable(own, _OF_SYSTEM)
        places = {}
        for name, function in functions.items():
            with tape:
                result = function(state, own)
            places[name] = tape.places(result)
    needed = {name: _needed(tape.operations, out) for name, out in places.items()}
    kept = sorted({i for some in needed.values() for i in some})
    used = [place for i in kept for place in (tape.operations[i].read, _written(tape.operations[i]))]
    fixed = [tape.places(state), tape.places(own)]
    memory = np.concatenate([*fixed, *(np.unique(np.concatenate([*used, *places.values()])),)])
    memory = np.array(list(dict.fromkeys(memory.tolist())))
    # Constants come after what is given, and then what is computed, each operation's numbers side by side.
    computed = np.zeros(len(tape.values), dtype=bool)
    for i in kept:
        computed[_written(tape.operations[i])] = True
    given = np.concatenate(fixed)
    constants = np.array([place for place in memory if not computed[place] and place not in set(given.tolist())], int)
    order = np.concatenate([given, constants, np.flatnonzero(computed)])
    new = np.full(len(tape.values), -1)
    new[order] = np.arange(len(order))
    level = np.array(tape.levels)

    def plain(which: Sequence[int]) -> list[Any]:
        found = [tape.operations[i] for i in which]
        return [[op.name, int(new[op.out]), *(_table(new[table]) for table in op.tables)] for op in found]

    setup = [i for i in kept if level[tape.operations[i].out] == _OF_SYSTEM]
    return {
        "size": len(order),
        "state": len(state),
        "own": len(own),
        "constants": numbers([tape.values[place] for place in constants]),
        "setup": plain(setup),
        **{name: {"steps": plain([i for i in some if i not in setup]), "out": new[places[name]].tolist()}
           for name, some in needed.items()},
    }  # fmt: skip


def numbers(values: Any) -> str:
    """Numbers in float64, as text."""
    return base64.b64encode(np.asarray(values, dtype="<f8").tobytes()).decode()


def _written(operation: Operation) -> Int[np.ndarray, " places"]:
    return np.arange(operation.out, operation.out + operation.count)


def _needed(operations: Sequence[Operation], out: Int[np.ndarray, " places"]) -> list[int]:
    """Those on which the numbers at these places depend, in order."""
    wanted, found = set(out.tolist()), []
    for i in range(len(operations) - 1, -1, -1):
        if not wanted.isdisjoint(range(operations[i].out, operations[i].out + operations[i].count)):
            found.append(i)
            wanted.update(operations[i].read.tolist())
    return found[::-1]


def _table(places: Int[np.ndarray, "..."]) -> Any:
    """Places as `[first, shape, strides]` where they are regular, else one by one with the shape."""
    strides = [int(np.take(places, 1, axis=d).flat[0] - places.flat[0]) if n > 1 else 0 for d, n in enumerate(places.shape)]
    regular = np.full(places.shape, places.flat[0])
    for d, stride in enumerate(strides):
        regular = regular + stride * np.arange(places.shape[d]).reshape([-1 if e == d else 1 for e in range(places.ndim)])
    if (regular == places).all():
        return {"first": int(places.flat[0]), "shape": list(places.shape), "strides": strides}
    return {"places": places.ravel().tolist(), "shape": list(places.shape)}
