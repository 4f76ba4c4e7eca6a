"""The symplectic structure, shared by the true systems and the networks that learn them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def hamiltonian_field(gradient: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
    """Equation (1): dx/dt = Ω ∇ₓH, with Ω = [[0, I], [−I, 0]] in canonical coordinates x = (q, p).

    **Arguments:**

    - `gradient`: ∇ₓH = (∂H/∂q, ∂H/∂p), shape `[..., 2n]`.

    **Returns:**

    (dq/dt, dp/dt) = (∂H/∂p, −∂H/∂q), shape `[..., 2n]`.
    """
    dh_dq, dh_dp = gradient.chunk(2, dim=-1)
    return torch.cat([dh_dp, -dh_dq], dim=-1)


def autograd_field(
    energy: Callable[[Float[Tensor, "*batch state"]], Float[Tensor, "*batch"]], x: Float[Tensor, "*batch state"]
) -> Float[Tensor, "*batch state"]:
    """Equation (1) for any energy, by automatic differentiation: where the gradient is not written out.

    **Arguments:**

    - `energy`: H, a function of states `[..., 2n]`; the energy of one state depends on that state alone.
    - `x`: the states.

    **Returns:** dx/dt, the shape of `x`; differentiable.
    """
    return hamiltonian_field(torch.func.grad(lambda x: energy(x).sum())(x))
