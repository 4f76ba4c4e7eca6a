"""A mass on a spring: the harmonic oscillator."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem


@register
class Spring(SimulatedSystem):
    """Masses m ∈ [0.5, 5] on springs of stiffness k ∈ [0.5, 5] that rest at q0 ∈ [−1, 1], all uniform:

    H(q, p) = p² / (2m) + k (q − q0)² / 2

    Everything is dimensionless.

    ??? cite "Reference"

        Goldstein, Poole, Safko: Classical mechanics, 3rd edition, section 6.4.
    """

    parameter_names = ("m", "k", "q0")
    parameter_ranges = ((0.5, 5.0), (0.5, 5.0), (-1.0, 1.0))
    domain = Domain.box((4.0, 6.0))
    horizon = 20.0  # about three periods of a typical spring

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = p² / (2m) + k (q − q0)² / 2, the kinetic and the potential energy."""
        q, p = x.unbind(-1)
        m, k, q0 = parameters.unbind(-1)
        return p**2 / (2 * m) + k * (q - q0) ** 2 / 2

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dq/dt = p / m and dp/dt = −k (q − q0)."""
        q, p = x.unbind(-1)
        m, k, q0 = parameters.unbind(-1)
        return hamiltonian_field(torch.stack(torch.broadcast_tensors(k * (q - q0), p / m), dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H = p² / (2m) + k q² / 2 − k q0 q + const."""
        m, k, q0 = parameters.unbind(-1)
        return {"1/m": 1 / m, "k": k, "k q0": k * q0}

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One initial state a system, uniform among those whose energy is too low to reach an edge of the box."""
        parameters = parameters.double()
        m, k, q0 = parameters.unbind(-1)
        half_q, half_p = self.state_box
        highest = torch.minimum(k * (half_q - q0.abs()) ** 2 / 2, half_p**2 / (2 * m))
        low = lambda x: self.hamiltonian(x, parameters[:, None]) < highest[:, None]  # noqa: E731
        return self.domain.draw(seed, (split, "initial"), range(len(parameters)), 1, low)[:, 0]
