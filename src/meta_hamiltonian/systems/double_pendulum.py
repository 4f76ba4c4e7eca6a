"""One pendulum hanging from another."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem

# Half-widths of the box of the momenta, for g = 1, see the class.
_HALF_P1, _HALF_P2 = 5.0, 4.0
# Orbits have less than this part of the energy with which a momentum can reach its edge.
_INSIDE = 0.998


@register
class DoublePendulum(SimulatedSystem):
    """Two masses m1, m2 ∈ [0.5, 1.5] on rods of the lengths l1, l2 ∈ [0.5, 1.5], all uniform, one below the other.

    Both angles q1 and q2 are absolute: from the vertical, in radians, 0 hanging down; q2 is not measured from the
    first rod. The momenta are those of these angles, with the mass matrix
    M = [[(m1 + m2) l1², m2 l1 l2 cos(q1 − q2)], [m2 l1 l2 cos(q1 − q2), m2 l2²]], so that

    H(q, p) = pᵀ M⁻¹ p / 2 + (m1 + m2) g l1 (1 − cos q1) + m2 g l2 (1 − cos q2)

    With `gravity=1` everything else is dimensionless. The box holds |p1| ≤ 5 √g and |p2| ≤ 4 √g. A pendulum of energy
    E keeps |p1| ≤ √(2 E (m1 + m2)) l1 and |p2| ≤ √(2 E m2) l2; with masses and lengths of 1, released from rest
    anywhere (E ≤ 6 g), these are 4.9 √g and 3.5 √g. Longer and heavier ones are released from where their momenta stay
    in the box.

    ??? cite "Reference"

        Landau, Lifshitz: Mechanics, 3rd edition, section 5, problem 1. Shinbrot, Grebogi, Wisdom, Yorke: Chaos in a
        double pendulum. American Journal of Physics 60, 1992.
    """

    parameter_names = ("m1", "m2", "l1", "l2")
    parameter_ranges = ((0.5, 1.5), (0.5, 1.5), (0.5, 1.5), (0.5, 1.5))
    turns = True

    def __init__(self, gravity: float = 1.0):
        """**Arguments:**

        - `gravity`: g, above 0.
        """
        check_arguments(type(self), gravity=gravity)
        self.gravity = gravity
        momenta = {"p1": _HALF_P1 * gravity**0.5, "p2": _HALF_P2 * gravity**0.5}
        ends = {"q1": math.pi, "q2": math.pi} | momenta
        self.domain = Domain.box({name: (-half, half) for name, half in ends.items()}, angles=("q1", "q2"))
        # About five Lyapunov times: of 100 orbits followed for 300 time units over half were chaotic, with a Lyapunov
        # time of 3.2 in the median (g = 1).
        self.horizon = 15.0 / gravity**0.5

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = pᵀ M⁻¹ p / 2 + (m1 + m2) g l1 (1 − cos q1) + m2 g l2 (1 − cos q2)."""
        q1, q2, p1, p2 = x.unbind(-1)
        m1, m2, l1, l2 = parameters.unbind(-1)
        upper = (m1 + m2) * self.gravity * l1 * (1 - q1.cos())
        lower = m2 * self.gravity * l2 * (1 - q2.cos())
        u1, u2 = p1 / l1, p2 / l2
        kinetic = m2 * u1**2 + (m1 + m2) * u2**2 - 2 * m2 * u1 * u2 * (q1 - q2).cos()
        return kinetic / (2 * m2 * (m1 + m2 * (q1 - q2).sin() ** 2)) + upper + lower

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dq/dt = M⁻¹ p, dp/dt by derivatives of M⁻¹ with respect to q1 − q2.

        With uᵢ = pᵢ / lᵢ, c and s the cosine and sine of q1 − q2, and D = m1 + m2 s²:

        - dq1/dt = (u1 − u2 c) / (l1 D) and dq2/dt = (u2 (m1 + m2) / m2 − u1 c) / (l2 D)
        - dp1/dt = −(m1 + m2) g l1 sin q1 − T' and dp2/dt = −m2 g l2 sin q2 + T', where
          T' = u1 u2 s / D − s c (m2 u1² + (m1 + m2) u2² − 2 m2 u1 u2 c) / D² is the derivative of the kinetic energy
        """
        q1, q2, p1, p2 = x.unbind(-1)
        m1, m2, l1, l2 = parameters.unbind(-1)
        c, s = (q1 - q2).cos(), (q1 - q2).sin()
        u1, u2 = p1 / l1, p2 / l2
        mass = m1 + m2 * s**2
        kinetic = m2 * u1**2 + (m1 + m2) * u2**2 - 2 * m2 * u1 * u2 * c
        turning = u1 * u2 * s / mass - s * c * kinetic / mass**2
        dh_dq1 = (m1 + m2) * self.gravity * l1 * q1.sin() + turning
        dh_dq2 = m2 * self.gravity * l2 * q2.sin() - turning
        dh_dp1 = (u1 - u2 * c) / (l1 * mass)
        dh_dp2 = (u2 * (m1 + m2) / m2 - u1 * c) / (l2 * mass)
        return hamiltonian_field(torch.stack(torch.broadcast_tensors(dh_dq1, dh_dq2, dh_dp1, dh_dp2), dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """The potential energy is linear in (m1 + m2) l1 and m2 l2; the kinetic energy is linear in no parameter."""
        m1, m2, l1, l2 = parameters.unbind(-1)
        return {"(m1 + m2) l1": (m1 + m2) * l1, "m2 l2": m2 * l2}

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One state at rest for each system, uniform among those too low in energy for a momentum to reach its edge."""
        parameters = parameters.double()
        m1, m2, l1, l2 = parameters.unbind(-1)
        _, _, half_p1, half_p2 = self.state_box
        highest = torch.minimum(half_p1**2 / (2 * (m1 + m2) * l1**2), half_p2**2 / (2 * m2 * l2**2))
        rest = torch.tensor([1.0, 1.0, 0.0, 0.0]).to(parameters)
        low = lambda x: self.hamiltonian(x * rest, parameters[:, None]) < _INSIDE * highest[:, None]  # noqa: E731
        return self.domain.draw(seed, (split, "initial"), range(len(parameters)), 1, low)[:, 0] * rest
