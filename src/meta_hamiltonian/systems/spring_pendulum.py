"""A mass that swings on a spring, whose rest length may be unknown."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import ConfigError, check_arguments
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem

# The mean rest length, and how far from it others may be: the spring is never squeezed to less than a quarter of it.
_REST, _WIDEST_SPREAD = 1.0, 0.5


@register
class SpringPendulum(SimulatedSystem):
    """Masses m ∈ [0.5, 1.5] that hang on springs of stiffness k ∈ [5, 15] and rest length l, in a vertical plane:

    H(x, q, pₓ, p) = pₓ² / (2m) + p² / (2m (l + x)²) + k x² / 2 + m g (l − (l + x) cos q)

    Here x is how far the spring is stretched beyond its rest length and q the angle from the vertical, in radians, 0
    hanging down. The rest length l is 1, or unknown and within `spread` of 1; the law is not linear in it. (In
    Cartesian coordinates around the point of suspension the law would be, since k (r − l)² / 2 is linear in k and k l.)
    All are uniform; g = 1, and everything is dimensionless.

    ??? cite "Reference"

        Vitt, Gorelik: Oscillations of an elastic pendulum as an example of the oscillations of two parametrically
        coupled linear systems. Journal of Technical Physics 3, 1933.
    """

    turns = True
    # About ten periods of the spring and three of the swing; such orbits are chaotic where the two exchange energy.
    horizon = 20.0

    def __init__(self, spread: float = 0.5):
        """**Arguments:**

        - `spread`: how far from 1 the rest length may be, from 0 (it is 1) to 0.5.
        """
        check_arguments(type(self), spread=spread)
        if spread > _WIDEST_SPREAD:
            raise ConfigError(f"spread={spread:g} is not allowed: give a number from 0 to {_WIDEST_SPREAD:g}")
        self.spread = spread
        ranges = ((0.5, 1.5), (5.0, 15.0))
        self.parameter_names = ("m", "k", "l") if spread else ("m", "k")
        self.parameter_ranges = (*ranges, (_REST - spread, _REST + spread)) if spread else ranges
        ends = {"x": (-0.25, 0.75), "q": (-torch.pi, torch.pi), "px": (-2.0, 2.0), "p": (-2.0, 2.0)}
        self.domain = Domain.box(ends, angles=("q",))

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H = pₓ² / (2m) + p² / (2m r²) + k x² / 2 + m (l − r cos q), with r = l + x and g = 1."""
        stretch, q, px, p = x.unbind(-1)
        m, k, rest = self._parameters(parameters)
        r = rest + stretch
        return px**2 / (2 * m) + p**2 / (2 * m * r**2) + k * stretch**2 / 2 + m * (rest - r * q.cos())

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dx/dt = pₓ / m, dq/dt = p / (m r²), dpₓ/dt = p² / (m r³) − k x + m cos q and
        dp/dt = −m r sin q."""
        stretch, q, px, p = x.unbind(-1)
        m, k, rest = self._parameters(parameters)
        r = rest + stretch
        dh_dx = k * stretch - m * q.cos() - p**2 / (m * r**3)
        parts = torch.broadcast_tensors(dh_dx, m * r * q.sin(), px / m, p / (m * r**2))
        return hamiltonian_field(torch.stack(parts, dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H is linear in 1/m, k and m; the potential energy is linear in m l too."""
        m, k, rest = self._parameters(parameters)
        return {"1/m": 1 / m, "k": k, "m": m} | ({"m l": m * rest} if self.spread else {})

    def _parameters(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m, k = parameters[..., 0], parameters[..., 1]
        return m, k, parameters[..., 2] if self.spread else torch.full_like(m, _REST)
