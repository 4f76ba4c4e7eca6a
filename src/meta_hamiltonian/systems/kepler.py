"""A planet around a fixed sun, whose place may be unknown."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import ConfigError, check_arguments
from meta_hamiltonian.dynamics import Domain, Exclusion, Singularity, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem

# Half-widths of the box, and the radius around the sun in which nothing is observed.
_HALF_Q, _HALF_P, _EXCLUDED = 3.0, 3.0, 0.5
# Orbits keep so far away from the sun, and inside this part of the box.
_PERIHELION, _INSIDE = 0.55, 0.999
# A sun that may be farther away from 0 leaves no room for the orbits of heavy planets.
_FARTHEST_CENTRE = 1.5
# How many uniform numbers the draw of an ellipse takes.
ELLIPSE_NUMBERS = 5


@register
class Kepler(SimulatedSystem):
    """Planets of mass m ∈ [0.5, 2] that a sun at c attracts with a strength k ∈ [0.5, 5], in the plane:

    H(q, p) = |p|² / (2m) − k / |q − c|

    The sun is at 0, or at an unknown place, c₁ and c₂ ∈ [−`centre`, `centre`]: two more parameters, and the only ones
    that the law is not linear in. All are uniform. States with |q − c| < 0.5 are left out: of the domain where c is
    known, else of what each member may be observed in. Everything is dimensionless.

    ??? cite "Reference"

        Goldstein, Poole, Safko: Classical mechanics, 3rd edition, sections 3.7 and 3.8.
    """

    horizon = 50.0  # about five periods of a typical ellipse, and sixty of the tightest, which say what a test costs

    def __init__(self, centre: float = 0.0):
        """**Arguments:**

        - `centre`: how far from 0 the sun may be along each axis, from 0 (where its place is known) to 1.5.
        """
        check_arguments(type(self), centre=centre)
        if centre > _FARTHEST_CENTRE:
            raise ConfigError(f"centre={centre:g} is not allowed: give a number from 0 to {_FARTHEST_CENTRE:g}")
        known = centre == 0
        self.centre = centre
        self.parameter_names = ("m", "k") if known else ("m", "k", "c1", "c2")
        self.parameter_ranges = ((0.5, 2.0), (0.5, 5.0), *(() if known else 2 * ((-centre, centre),)))
        position, origin = ((1, 0, 0, 0), (0, 1, 0, 0)), (0.0, 0.0)
        box = (_HALF_Q, _HALF_Q, _HALF_P, _HALF_P)
        if known:
            self.domain = Domain.box(box, exclusions=(Exclusion(position, origin, _EXCLUDED),))
        else:
            sun = Singularity(position, origin, (float(centre), float(centre)), _EXCLUDED)
            self.domain = Domain.box(box, singularities=(sun,))

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = |p|² / (2m) − k / |q − c|, the kinetic and the potential energy."""
        m, k = parameters[..., 0], parameters[..., 1]
        p = x[..., 2:]
        return p.square().sum(-1) / (2 * m) - k / self._away(x, parameters).norm(dim=-1)

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dq/dt = p / m and dp/dt = −k (q − c) / |q − c|³."""
        m, k = parameters[..., :1], parameters[..., 1:2]
        away = self._away(x, parameters)
        dh_dq = k * away / away.square().sum(-1, keepdim=True) ** 1.5
        dh_dp = x[..., 2:] / m
        return hamiltonian_field(torch.cat([dh_dq, dh_dp], dim=-1))

    def admits(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Bool[Tensor, "*batch"]:
        """The states at a distance of at least 0.5 from the sun."""
        return self._away(x, parameters).norm(dim=-1) >= _EXCLUDED

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H is linear in 1/m, and in k where the sun's place is known."""
        m, k = parameters[..., 0], parameters[..., 1]
        return {"1/m": 1 / m} | ({"k": k} if self.centre == 0 else {})

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One state on a bound ellipse a system, with a perihelion of at least 0.55, that lies in the box.

        [`ellipse`][] says how it is drawn; the aphelion is nearer to the sun than any edge of the box is.
        """
        parameters = parameters.double()
        m, k = parameters[:, 0], parameters[:, 1]
        sun = parameters[:, 2:] if self.centre else parameters.new_zeros(len(parameters), 2)
        farthest = _INSIDE * (_HALF_Q - sun.abs().amax(-1))
        unit = uniform(seed, (split, "initial"), range(len(parameters)), (1, ELLIPSE_NUMBERS), m.device)[:, 0]
        q, p = ellipse(m, k, _PERIHELION, farthest, _INSIDE * _HALF_P, unit)
        return torch.cat([sun + q, p], dim=-1)

    def _away(self, x: Tensor, parameters: Tensor) -> Tensor:
        """q − c."""
        leading = torch.broadcast_shapes(x.shape[:-1], parameters.shape[:-1])
        q = x[..., :2] - parameters[..., 2:] if self.centre else x[..., :2]
        return q.expand(*leading, 2)


def ellipse(
    m: Float[Tensor, " systems"],
    k: Float[Tensor, " systems"],
    nearest: float,
    farthest: Float[Tensor, " systems"],
    fastest: float,
    unit: Float[Tensor, "systems numbers"],
) -> tuple[Float[Tensor, "systems 2"], Float[Tensor, "systems 2"]]:
    """A random state of a mass m on an ellipse around a focus at 0 that attracts it with the potential energy −k / r.

    Perihelion r₋ and aphelion r₊ are uniform among those that are allowed, the first and then the second; so are
    the eccentric anomaly and the direction of the axis, and either sense of revolution is as likely. The momentum is
    largest at the perihelion, where conservation of energy and angular momentum make it

    p² = 2 m k r₊ / (r₋ (r₋ + r₊)).

    **Arguments:**

    - `m`, `k`: mass and strength.
    - `nearest`: the least r₋.
    - `farthest`: the largest r₊; it must lie above `nearest` and m k / `fastest`², so that a circle fits.
    - `fastest`: the largest |p|.
    - `unit`: five uniform numbers in [0, 1) a system.

    **Returns:** q and p.

    ??? cite "Reference"

        Goldstein, Poole, Safko: Classical mechanics, 3rd edition, section 3.8.
    """
    of_perihelion, of_aphelion, anomaly, direction, sense = unit.unbind(-1)
    slowest = m * k / fastest**2  # on a circle of this radius the momentum is the largest one
    low = slowest.clamp_min(nearest)
    perihelion = low + (farthest - low) * of_perihelion
    faster = 2 * slowest / perihelion - 1  # r₋ / r₊ may not be less
    high = torch.where(faster * farthest > perihelion, perihelion / faster, farthest)
    aphelion = perihelion + (high - perihelion) * of_aphelion
    a, e = (aphelion + perihelion) / 2, (aphelion - perihelion) / (aphelion + perihelion)
    flattening = torch.where(sense < 0.5, -1.0, 1.0) * (1 - e**2).sqrt()
    cos, sin = (2 * math.pi * anomaly).cos(), (2 * math.pi * anomaly).sin()
    speed = (k / (m * a)).sqrt() / (1 - e * cos)
    q = torch.stack([a * (cos - e), a * flattening * sin], dim=-1)
    p = torch.stack([-m * speed * sin, m * speed * flattening * cos], dim=-1)
    turn = 2 * math.pi * direction
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], dim=-1).unflatten(-1, (2, 2))
    return (rotation @ q[..., None])[..., 0], (rotation @ p[..., None])[..., 0]
