"""The Hénon-Heiles system: a star in the field of its galaxy."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem

# Orbits have less than this part of the energy with which one can leave the well or the box.
_INSIDE = 0.998


@register
class HenonHeiles(SimulatedSystem):
    """Masses m ∈ [0.5, 2] in a plane, on springs of stiffness k ∈ [0.5, 2] with a cubic term, λ ∈ [0.2, 1]:

    H(q, p) = |p|² / (2m) + k |q|² / 2 + λ (q₁² q₂ − q₂³ / 3)

    All are uniform. The cubic term is λ r³ sin(3θ) / 3 in polar coordinates: the well is a triangle with corners at
    a distance k/λ, which are saddles, and above their energy k³ / (6 λ²) an orbit may escape. Below it some orbits are
    chaotic. Everything is dimensionless.

    ??? cite "Reference"

        Hénon, Heiles: The applicability of the third integral of motion: some numerical experiments. The
        Astronomical Journal 69, 1964.
    """

    parameter_names = ("m", "k", "lam")
    parameter_ranges = ((0.5, 2.0), (0.5, 2.0), (0.2, 1.0))
    domain = Domain.box((1.0, 1.0, 1.0, 1.0))
    horizon = 60.0  # about ten periods; the Lyapunov times of such orbits are over a hundred time units

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = |p|² / (2m) + k |q|² / 2 + λ (q₁² q₂ − q₂³ / 3)."""
        q1, q2, p1, p2 = x.unbind(-1)
        m, k, lam = parameters.unbind(-1)
        return (p1**2 + p2**2) / (2 * m) + k * (q1**2 + q2**2) / 2 + lam * (q1**2 * q2 - q2**3 / 3)

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dq/dt = p / m, dp₁/dt = −k q₁ − 2 λ q₁ q₂, dp₂/dt = −k q₂ − λ (q₁² − q₂²)."""
        q1, q2, p1, p2 = x.unbind(-1)
        m, k, lam = parameters.unbind(-1)
        dh_dq = (k * q1 + 2 * lam * q1 * q2, k * q2 + lam * (q1**2 - q2**2))
        return hamiltonian_field(torch.stack(torch.broadcast_tensors(*dh_dq, p1 / m, p2 / m), dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H is linear in 1/m, k and λ."""
        m, k, lam = parameters.unbind(-1)
        return {"1/m": 1 / m, "k": k, "λ": lam}

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One initial state a system, uniform among those that can leave neither the well nor the box.

        The potential is at least k r² / 2 − λ r³ / 3, which rises up to the saddles. From inside a circle of radius r
        that does not reach beyond them, no orbit of less energy gets out; the largest such circle in the box is that
        of the saddles or touches an edge. The momentum bounds the energy too.
        """
        parameters = parameters.double()
        m, k, lam = parameters.unbind(-1)
        _, half_q, _, half_p = self.state_box
        radius = (k / lam).clamp(max=half_q)
        rim = k * radius**2 / 2 - lam * radius**3 / 3
        highest = _INSIDE * torch.minimum(rim, half_p**2 / (2 * m))
        fastest = (2 * m * highest).sqrt()
        size = torch.stack([radius, radius, fastest, fastest], dim=-1)[:, None] / torch.tensor(self.state_box).to(m)

        def low(x: Float[Tensor, "systems points state"]) -> Tensor:
            x = size * x  # such states may be so rare in the box that none would be found there
            inside = x[..., :2].norm(dim=-1) < radius[:, None]
            return inside & (self.hamiltonian(x, parameters[:, None]) < highest[:, None])

        return (size * self.domain.draw(seed, (split, "initial"), range(len(parameters)), 1, low))[:, 0]
