"""Recorded momenta p = M(q) dq/dt: linear in the coefficients of a mass matrix."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics.inertia import Factors, places_of
from meta_hamiltonian.observations.canonical_states import canonical, well_known_points
from meta_hamiltonian.observations.euler_lagrange import Equations, Terms
from meta_hamiltonian.observations.forms import Derivatives, Trajectory
from meta_hamiltonian.observations.smoothing import MISSED, MOST_POINTS


class Momenta(NamedTuple):
    """What is known of the momenta of one member.

    - `q`, `v`, `p`: positions, velocities and momenta.
    - `error`, `noise`: standard deviations of the velocities and of the momenta.
    """

    q: Float[Tensor, "points n"]
    v: Float[Tensor, "points n"]
    p: Float[Tensor, "points n"]
    error: Float[Tensor, "points n"]
    noise: Float[Tensor, "points n"]

    @classmethod
    def of(cls, observations: Derivatives | Sequence[Trajectory]) -> "Momenta":
        """Those of states with their rates, or of smoothed trajectories."""
        if isinstance(observations, Derivatives):
            x, dxdt = torch.from_numpy(observations.x), torch.from_numpy(observations.dxdt)
            error = torch.zeros_like(x)
        else:
            found = well_known_points([canonical(one, 1.0) for one in observations])
            x, dxdt, error = found.x, found.dxdt, found.rate_error
        some = slice(None, None, -(-len(x) // MOST_POINTS))
        (q, p), (v, force), (error, rough) = (one[some].chunk(2, dim=-1) for one in (x, dxdt, error))
        # The error of a smoothed momentum is to that of its rate about as the momentum is to its rate.
        noise = rough * (p.square().mean(0) / force.square().mean(0).clamp_min(1e-300)).sqrt()
        missed = MISSED**2
        error = (error.square() + missed * v.square().mean(0)).sqrt()
        return cls(q, v, p, error, (noise.square() + missed * p.square().mean(0)).sqrt())

    def equations(self, terms: Terms, sizes: Float[Tensor, " n"]) -> Equations:
        """M(q) v − p = 0, each row times the size of its velocity; the last column is for the momenta."""
        factors, places = Factors([one.factor for one in terms.entries]), places_of(terms.entries)
        values = factors(self.q)
        of_v = torch.einsum("kij,tj->tik", places, self.v)
        rows = torch.cat([of_v * values[:, None], -self.p[..., None]], dim=-1) * sizes[:, None]
        parts = torch.einsum("kij,tk,tj,i->tijk", places, values, self.error, sizes)
        parts = torch.nn.functional.pad(parts, (0, 1, 0, 1))
        parts[..., -1, -1] = self.noise * sizes
        return Equations(rows.flatten(0, 1), parts.flatten(0, 1), self.q.shape[1])
