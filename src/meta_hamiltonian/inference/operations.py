"""Operations of PyTorch in terms of those on numbers, for [`Tape`][]."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from meta_hamiltonian.inference.tape import Tape
else:
    Tape = Any


class TapeError(RuntimeError):
    """A network whose operations cannot be listed. The message is one line."""


_Move = Callable[[Any, tuple[Any, Any], tuple[Any, Any]], Any]


def _same(func: Any, real: tuple[Any, Any], shadows: tuple[Any, Any]) -> Any:
    """The operation itself, done to places."""
    return func(*shadows[0], **shadows[1])


def _copied(func: Any, real: tuple[Any, Any], shadows: tuple[Any, Any]) -> Any:
    """An operation that changes no number, whatever dtype is asked for."""
    return shadows[0][0].clone()


def _indexed(position: int) -> _Move:
    """An operation whose index is a number, or numbers, that are known."""

    def move(func: Any, real: tuple[Any, Any], shadows: tuple[Any, Any]) -> Any:
        arguments = list(shadows[0])
        arguments[position] = real[0][position]
        return func(*arguments, **shadows[1])

    return move


MOVES: Mapping[str, _Move] = {
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


MADE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_empty_strided",
}  # fmt: skip
"""What takes no more than a shape and a dtype from a tensor."""


def _alike(name: str) -> Callable[..., Tensor]:
    return lambda tape, *operands: tape.write(name, *operands)


def _sum_of(sign: str) -> Callable[..., Tensor]:
    def write(tape: Tape, a: Any, b: Any, alpha: int | float = 1) -> Tensor:
        return tape.write(sign, a, b if alpha == 1 else tape.write("mul", b, alpha))

    return write


def _product(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    return tape.reduce("dot", a.unsqueeze(-2), b.mT.unsqueeze(-3))


def _matrix_vector(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    return tape.reduce("dot", a, b)


def _added_product(
    tape: Tape, c: Tensor, a: Tensor, b: Tensor, beta: int | float = 1, alpha: int | float = 1
) -> Tensor:
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


def _norm(tape: Tape, x: Tensor, order: int | float = 2, dims: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    if order != 2:
        raise TapeError(f"the norm of order {order} is not known to it")
    return tape.write("sqrt", _along(tape, tape.write("mul", x, x), dims, keepdim))


def _any(tape: Tape, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return tape.write("gt", _along(tape, x, dim, keepdim), 0.0)


def _added_at(tape: Tape, x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: int | float = 1) -> Tensor:
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
    """The backward operation of taking a part: the part, with zeros around it."""

    def write(tape: Tape, gradient: Tensor, sizes: Sequence[int], *where: Any) -> Tensor:
        zero = tape.constant(0.0)
        whole = zero.expand(*sizes).clone()
        put(whole, *where).copy_(gradient)
        return whole

    return write


WRITTEN: Mapping[str, Callable[..., Tensor]] = {
    **{name: _alike(name) for name in (
        "mul", "div", "neg", "sin", "cos", "tan", "tanh", "sinh", "cosh", "exp", "expm1", "log", "log1p", "sqrt",
        "rsqrt", "abs", "sign", "reciprocal", "sigmoid", "silu", "atan", "atan2", "round", "floor", "pow", "maximum",
        "minimum", "gt", "lt", "ge", "le", "eq", "ne", "where", "logaddexp", "remainder",
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
    "slice_backward": _placed(
        lambda whole, dim, start, end, step: whole[(slice(None),) * (dim % whole.dim()) + (slice(start, end, step),)]
    ),
    "select_backward": _placed(lambda whole, dim, index: whole.select(dim, index)),
}  # fmt: skip
"""What computes numbers."""
