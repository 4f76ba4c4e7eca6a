"""Heads w₀ + L v: the field of every task is affine in its few numbers v."""

from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners.numerics.gram import cholesky_solve, ridge_factor
from meta_hamiltonian.learners.numerics.linear_head import centred_problem
from meta_hamiltonian.models import FieldNetwork


def affine_problem(
    net: FieldNetwork, directions: Float[Tensor, "features columns"], points: Points
) -> tuple[Float[Tensor, "tasks rows columns"], Float[Tensor, "tasks rows outputs"]]:
    """B = A L and y − A w₀ of every task: v fits the task where B v = y − A w₀."""
    features, residual = centred_problem(net, points)
    return features @ directions, residual


def least_squares(
    design: Float[Tensor, "tasks rows columns"],
    residual: Float[Tensor, "tasks rows outputs"],
    ridge: float,
    counts: Float[Tensor, " tasks"],
) -> Float[Tensor, "tasks columns outputs"]:
    """argmin ‖B v − y‖² / K + ridge ‖v‖², in float64 whatever the dtype; differentiable.

    **Arguments:** `counts`: the number of points K of each task.
    """
    counts = counts.double()[:, None, None]
    b, y = design.double(), residual.double()
    return cholesky_solve(ridge_factor(b.mT @ b / counts, ridge), b.mT @ y / counts).to(design.dtype)
