"""Least squares that may have fewer independent columns than columns."""

import torch
from jaxtyping import Float
from torch import Tensor


def least_squares(
    rows: Float[Tensor, "*batch rows columns"],
    values: Float[Tensor, "*batch rows targets"],
    resolved: float | None = None,
) -> Float[Tensor, "*batch columns targets"]:
    """The shortest solution of min ‖rows · x − values‖, by a singular value decomposition (LAPACK's gelsd).

    A GPU has no such method: these problems are small, and are solved on the CPU wherever they come from.

    **Arguments:** `resolved`: singular values below this part of the largest count as 0; None is what float64 resolves.
    """
    found = torch.linalg.lstsq(rows.cpu(), values.cpu(), rcond=resolved, driver="gelsd").solution
    return found.to(rows.device)
