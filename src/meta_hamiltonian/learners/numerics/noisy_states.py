"""Errors of observed states, which plain regression would take for exact."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points

# A coordinate observed at rest has this part of the state box for its size, and of a task's largest rate.
_SMALLEST = 1e-3


class Linearised(NamedTuple):
    """A regression with exact states that is equivalent to the first order.

    - `points`: the likeliest states, and the rates that the field should have there.
    - `whiten`: makes the errors of a point's rates uncorrelated and equally large, `[tasks, points, state, state]`.
    """

    points: Points
    whiten: Float[Tensor, "tasks points state state"]


def linearise(
    observed: Points,
    x: Float[Tensor, "tasks points state"],
    law: Callable[
        [Float[Tensor, "tasks points state"]],
        tuple[Float[Tensor, "tasks points state"], Float[Tensor, "tasks points state state"]],
    ],
    box: Float[Tensor, " state"],
    scales: Sequence[float],
) -> Linearised:
    """One Gauss-Newton step of the states, given a field.

    The errors of every coordinate and every rate are assumed to be the same part of its RMS over the points; that part
    need not be known. With Σₓ and Σ_y the squares of these RMS and J = ∂f/∂x, the residual r of a point's rates has the
    covariance S = J Σₓ Jᵀ + Σ_y, and the likeliest state is x_observed + Σₓ Jᵀ S⁻¹ r, equation (10). To take the states
    for exact would flatten the field, as if seen through a blur, and give all points the same weight.

    **Arguments:**

    - `observed`: the points.
    - `x`: the states found so far, at first the observed ones.
    - `law`: the field f found so far, and ∂f/∂x.
    - `box`: half-widths of the state box.
    - `scales`: the divisor of each coordinate's rate ([`Domain.error_scales`][]); the rows that are whitened are in
        these units.

    ??? cite "Reference"

        Boggs, Byrd, Schnabel: A stable and efficient algorithm for nonlinear orthogonal distance regression. SIAM
        Journal on Scientific and Statistical Computing 8, 1987.
    """
    sizes = _rms(observed, observed.x).maximum(_SMALLEST * box)
    each = sizes.new_tensor(scales)
    rates = _rms(observed, observed.dxdt) / each
    rates = rates.maximum(_SMALLEST * rates.amax(-1, keepdim=True)).clamp_min(torch.finfo(rates.dtype).tiny) * each
    for last in (False, True):
        field, jacobian = law(x)
        back = jacobian * sizes.unsqueeze(-2).square()  # J Σₓ
        covariance = back @ jacobian.mT + rates.square().diag_embed()
        # The rates as they would be at x, to first order.
        here = observed.dxdt - _times(jacobian, observed.x - x)
        if last:
            break
        x = observed.x + _times(back.mT, torch.linalg.solve(covariance, here - field))
    covariance = covariance / (each[:, None] * each)
    size = observed.mean(covariance.diagonal(dim1=-2, dim2=-1).mean(-1))  # the noise keeps its units
    factor, failed = torch.linalg.cholesky_ex(covariance / size[:, None, None, None])
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    # A field so steep that rounding makes its covariance indefinite: that point's rates keep their own errors.
    factor = torch.where((failed != 0)[..., None, None], eye, factor)
    return Linearised(
        dataclasses.replace(observed, x=x, dxdt=here), torch.linalg.solve_triangular(factor, eye, upper=False)
    )


def _rms(points: Points, values: Float[Tensor, "tasks points state"]) -> Float[Tensor, "tasks 1 state"]:
    return (points.rows(values).square().sum(1, keepdim=True) / points.counts[:, None, None]).sqrt()


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
