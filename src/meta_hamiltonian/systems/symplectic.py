"""The symplectic form, shared by the true systems and the networks that learn them."""

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
