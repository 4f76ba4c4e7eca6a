"""Normal equations: their matrix from very many rows, and the solutions of very many small ones."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# A GPU's matrix product works on tiles of the result of about this size, of which it needs so many to be busy.
_TILE, _TILES = 128, 512


def gram_of(rows: Float[Tensor, "rows columns"]) -> Float[Tensor, "columns columns"]:
    """RᵀR.

    On a GPU a result of few tiles would keep few of its processors busy, however many rows there are: the rows are
    taken in parts side by side, and the results added.
    """
    if not rows.is_cuda:
        return rows.mT @ rows
    count, columns = rows.shape
    parts = max(1, min(_TILES // math.ceil(columns / _TILE) ** 2, count // columns))
    if parts == 1:
        return rows.mT @ rows
    even = count - count % parts
    each = rows[:even].view(parts, -1, columns)
    total = (each.mT @ each).sum(0)
    return total if even == count else total.addmm_(rows[even:].mT, rows[even:])


def ridge_factor(
    gram: Float[Tensor, "tasks size size"], noise: Float[Tensor, ""] | float
) -> Float[Tensor, "tasks size size"]:
    """The Cholesky factor of gram + σ², not a number for a task that has none, so that one does not end the run."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, failed = torch.linalg.cholesky_ex(gram + noise * eye)
    return factor.masked_fill((failed != 0)[:, None, None], math.nan)


def cholesky_solve(
    factor: Float[Tensor, "tasks size size"], right: Float[Tensor, "tasks size columns"]
) -> Float[Tensor, "tasks size columns"]:
    """The solutions of many small systems; on a GPU `torch.cholesky_solve` takes one after the other."""
    if not factor.is_cuda:
        return torch.cholesky_solve(right, factor)
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)
