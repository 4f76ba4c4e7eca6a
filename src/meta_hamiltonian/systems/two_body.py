"""Two bodies that attract each other."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Domain, Exclusion, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem
from meta_hamiltonian.systems.kepler import ELLIPSE_NUMBERS, ellipse

# Half-widths of the box, and the distance below which nothing is observed.
_HALF_Q, _HALF_P, _EXCLUDED = 2.0, 2.0, 0.5
# The bodies of test orbits keep so far apart, and inside this part of the box.
_NEAREST, _INSIDE = 0.55, 0.999
# Their centre of mass is at most so far from 0 along each axis.
_HALF_CENTRE = 0.5


@register
class TwoBody(SimulatedSystem):
    """Two masses m1, m2 ∈ [0.5, 2] in the plane, uniform, with a gravitational constant of 1:

    H(q, p) = |p₁|² / (2 m1) + |p₂|² / (2 m2) − m1 m2 / |q₁ − q₂|

    The first body is at (q1, q2) with the momentum (p1, p2), the second at (q3, q4) with (p3, p4). States with
    |q₁ − q₂| < 0.5 are left out of the domain. Everything is dimensionless.

    ??? cite "Reference"

        Goldstein, Poole, Safko: Classical mechanics, 3rd edition, section 3.1.
    """

    parameter_names = ("m1", "m2")
    parameter_ranges = ((0.5, 2.0), (0.5, 2.0))
    domain = Domain.box(
        (*4 * (_HALF_Q,), *4 * (_HALF_P,)),
        exclusions=(Exclusion(((1, 0, -1, 0, 0, 0, 0, 0), (0, 1, 0, -1, 0, 0, 0, 0)), (0.0, 0.0), _EXCLUDED),),
    )
    horizon = 70.0  # about seven revolutions of a typical pair

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = |p₁|² / (2 m1) + |p₂|² / (2 m2) − m1 m2 / |q₁ − q₂|, the kinetic and the potential energy."""
        first, second, p1, p2 = _bodies(x)
        m1, m2 = parameters.unbind(-1)
        kinetic = p1.square().sum(-1) / (2 * m1) + p2.square().sum(-1) / (2 * m2)
        return kinetic - m1 * m2 / (first - second).norm(dim=-1)

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dqᵢ/dt = pᵢ / mᵢ and dp₁/dt = −m1 m2 (q₁ − q₂) / |q₁ − q₂|³ = −dp₂/dt."""
        first, second, p1, p2 = _bodies(x)
        m1, m2 = parameters[..., :1], parameters[..., 1:]
        apart = first - second
        pull = m1 * m2 * apart / apart.square().sum(-1, keepdim=True) ** 1.5
        return hamiltonian_field(torch.cat([pull, -pull, p1 / m1, p2 / m2], dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H is linear in 1/m1, 1/m2 and m1 m2."""
        m1, m2 = parameters.unbind(-1)
        return {"1/m1": 1 / m1, "1/m2": 1 / m2, "m1 m2": m1 * m2}

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One state for each system: two bodies on ellipses in the box, no nearer to each other than 0.55.

        The difference of their places moves like a planet of the reduced mass, see [`ellipse`][]; their total
        momentum is 0, so that their centre of mass stays where it is.
        """
        m1, m2 = parameters.double().unbind(-1)
        whole = m1 + m2
        larger = torch.maximum(m1, m2) / whole  # how far the lighter body is from the centre, in units of the distance
        numbers = ELLIPSE_NUMBERS + 2
        unit = uniform(seed, (split, "initial"), range(len(parameters)), (1, numbers), whole.device)[:, 0]
        centre = _HALF_CENTRE * (2 * unit[:, :2] - 1)
        farthest = (_INSIDE * _HALF_Q - centre.abs().amax(-1)) / larger
        apart, p = ellipse(m1 * m2 / whole, m1 * m2, _NEAREST, farthest, _INSIDE * _HALF_P, unit[:, 2:])
        share = (m2 / whole)[:, None]
        return torch.cat([centre + share * apart, centre + (share - 1) * apart, p, -p], dim=-1)


def _bodies(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places and momenta of the two: q₁, q₂, p₁, p₂."""
    first, second, p1, p2 = x.unflatten(-1, (4, 2)).unbind(-2)
    return first, second, p1, p2
