"""The Duffing oscillator: a spring that grows stiffer, or a double well."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem


@register
class Duffing(SimulatedSystem):
    """Oscillators of mass m ∈ [0.5, 2] with a quartic potential, a ∈ [−2, 2] and b ∈ [0.5, 2], all uniform:

    H(q, p) = p² / (2m) + a q² / 2 + b q⁴ / 4

    Where a is negative there are two wells, at q = ±√(−a/b). Everything is dimensionless.

    ??? cite "Reference"

        Guckenheimer, Holmes: Nonlinear oscillations, dynamical systems, and bifurcations of vector fields.
        Springer, 1983, section 2.2.
    """

    parameter_names = ("m", "a", "b")
    parameter_ranges = ((0.5, 2.0), (-2.0, 2.0), (0.5, 2.0))
    domain = Domain.box((2.5, 4.0))
    horizon = 20.0  # about four periods of a typical oscillator

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = p² / (2m) + a q² / 2 + b q⁴ / 4, the kinetic and the potential energy."""
        q, p = x.unbind(-1)
        m, a, b = parameters.unbind(-1)
        return p**2 / (2 * m) + a * q**2 / 2 + b * q**4 / 4

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dq/dt = p / m and dp/dt = −a q − b q³."""
        q, p = x.unbind(-1)
        m, a, b = parameters.unbind(-1)
        return hamiltonian_field(torch.stack(torch.broadcast_tensors(a * q + b * q**3, p / m), dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H is linear in 1/m, a and b."""
        m, a, b = parameters.unbind(-1)
        return {"1/m": 1 / m, "a": a, "b": b}

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One initial state a system, uniform among those whose energy is too low to reach an edge of the box."""
        parameters = parameters.double()
        m, a, b = parameters.unbind(-1)
        half_q, half_p = self.state_box
        lowest = -(a.clamp(max=0.0) ** 2) / (4 * b)
        highest = torch.minimum(a * half_q**2 / 2 + b * half_q**4 / 4, lowest + half_p**2 / (2 * m))
        low = lambda x: self.hamiltonian(x, parameters[:, None]) < highest[:, None]  # noqa: E731
        return self.domain.draw(seed, (split, "initial"), range(len(parameters)), 1, low)[:, 0]
