"""Heads w₀ + L v: the field of every task is affine in its few numbers v."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.numerics.linear_head import head_columns, head_problem, own_head
from meta_hamiltonian.models import FieldNetwork


def affine_problem(
    net: FieldNetwork, directions: Float[Tensor, "features columns"], points: Points
) -> tuple[Float[Tensor, "tasks rows columns"], Float[Tensor, "tasks rows outputs"]]:
    """B = A L and y − A w₀ of every task: v fits it where B v is the second."""
    features, targets = head_problem(net, points)
    return features @ directions, targets - features @ head_columns(own_head(net))


def least_squares(
    design: Float[Tensor, "tasks rows columns"],
    residual: Float[Tensor, "tasks rows outputs"],
    ridge: float,
    counts: Float[Tensor, " tasks"],
) -> Float[Tensor, "tasks columns outputs"]:
    """argmin ‖B v − y‖² / K + ridge ‖v‖², in float64 whatever the dtype; differentiable.

    **Arguments:** `counts`: the number of points K of each task.
    """
    b, y = design.double(), residual.double()
    eye = torch.eye(b.shape[-1], dtype=b.dtype, device=b.device)
    factor = torch.linalg.cholesky(b.mT @ b + ridge * counts.double()[:, None, None] * eye)
    return torch.cholesky_solve(b.mT @ y, factor).to(design.dtype)
