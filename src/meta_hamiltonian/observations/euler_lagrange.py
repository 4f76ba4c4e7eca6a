"""The Euler–Lagrange equations of recordings: linear in the coefficients of a mass matrix and of a potential."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import FRICTION, Domain
from meta_hamiltonian.dynamics.friction import friction_width
from meta_hamiltonian.dynamics.inertia import Entry, Factor, Factors, places_of
from meta_hamiltonian.observations.canonical_states import canonical, well_known_points
from meta_hamiltonian.observations.forms import Trajectory
from meta_hamiltonian.observations.smoothing import INDEPENDENT, MISSED, MOST_POINTS

# Products of lengths in a potential have at most so many factors.
_DEGREE = 4
# A length that stays this part of its extent away from 0 may be a distance.
_AWAY = 0.02
# At most so many terms are tried.
_MOST_TRIED = 300


class Equations(NamedTuple):
    """Those of one member, R θ = 0, a row for each point and coordinate, in units that are alike for all coordinates.

    - `rows`: R, whose columns are the terms of M, those of V, and others that are always there.
    - `parts`: what the standard deviation of R θ comes from: its square is Σ (parts θ)² over the errors of what was
        observed. The columns are the first ones of R.
    - `coordinates`: how many there are.
    """

    rows: Float[Tensor, "rows terms"]
    parts: Float[Tensor, "rows errors first"]
    coordinates: int

    @property
    def independent(self) -> float:
        """How many rows tell something by themselves."""
        return float(min(INDEPENDENT * self.coordinates, len(self.rows)))

    def variance(self, theta: Float[Tensor, " terms"]) -> Float[Tensor, " rows"]:
        """That of the rows, which the errors of what was observed explain."""
        return (self.parts @ theta[: self.parts.shape[2]]).square().sum(1)


class Terms(NamedTuple):
    """Those of a mass matrix and those of a potential, and how many columns the equations have beside them.

    These are for the kinds of friction, or for the momenta where these were recorded.
    """

    entries: tuple[Entry, ...]
    potential: tuple[Factor, ...]
    beside: int = len(FRICTION)

    @property
    def number(self) -> int:
        """How many columns the equations have."""
        return len(self.entries) + len(self.potential) + self.beside


class Motion(NamedTuple):
    """What is known of one member where it is known well.

    - `q`, `v`, `a`: positions, velocities and accelerations.
    - `error`: standard deviation of the accelerations.
    """

    q: Float[Tensor, "points n"]
    v: Float[Tensor, "points n"]
    a: Float[Tensor, "points n"]
    error: Float[Tensor, "points n"]

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory]) -> "Motion":
        """That of smoothed trajectories, whose momenta were not observed."""
        found = well_known_points([canonical(one, 1.0) for one in trajectories])
        some = slice(None, None, -(-len(found.t) // MOST_POINTS))
        (q, v), (_, a) = found.x[some].chunk(2, dim=-1), found.dxdt[some].chunk(2, dim=-1)
        error = found.rate_error[some, q.shape[1] :]
        return cls(q, v, a, (error.square() + MISSED**2 * a.square().mean(0)).sqrt())

    def equations(self, terms: Terms, sizes: Float[Tensor, " n"]) -> Equations:
        """Equation (13), d/dt (M v)ᵢ − ½ ∂ᵢ(v·M v) + ∂ᵢV + friction = 0, each row times the size of its velocity.

        ??? cite "Reference"

            Goldstein, Poole, Safko: Classical mechanics, 3rd edition, equations (1.57) and (1.70).
        """
        q, v, a, error = self
        factors, places = Factors([one.factor for one in terms.entries]), places_of(terms.entries)
        values, slopes = factors(q), factors.gradient(q)
        of_v, of_a = (torch.einsum("kij,tj->tik", places, one) for one in (v, a))
        rates = (slopes @ v.unsqueeze(-1))[..., 0]
        doubled = torch.einsum("ti,tik->tk", v, of_v)  # v·M v
        momenta = of_a * values[:, None] + of_v * rates[:, None] - slopes.mT * doubled[:, None] / 2
        friction = torch.stack([kind.force(v, friction_width(v)) for kind in FRICTION.values()], dim=-1)
        forces = [Factors(terms.potential).gradient(q).mT] if terms.potential else []
        rows = torch.cat([momenta, *forces, friction], dim=-1) * sizes[:, None]
        parts = torch.einsum("kij,tk,tj,i->tijk", places, values, error, sizes)
        return Equations(rows.flatten(0, 1), parts.flatten(0, 1), q.shape[1])


def library(domain: Domain, positions: Sequence[Float[Tensor, "_ n"]]) -> Terms | None:
    """All terms that are tried: of many coordinates the simplest alone, and None where even these are too many.

    **Arguments:** `positions`: where each member has been.
    """
    n = domain.degrees_of_freedom
    kinds = [one.kind for one in domain.coordinates[:n]]
    lengths = [i for i in range(n) if kinds[i] == "length"]
    angles = [i for i in range(n) if kinds[i] == "angle"]
    still = (0,) * n

    def unit(*places: tuple[int, int]) -> tuple[int, ...]:
        found = [0] * n
        for place, times in places:
            found[place] += times
        return tuple(found)

    waves = [unit((i, k)) for i in angles for k in (1, 2)]
    waves += [unit((i, 1), (j, sign)) for i, j in itertools.combinations(angles, 2) for sign in (-1, 1)]
    of_angles = [Factor(still, wave, sine) for wave in waves for sine in (False, True)]
    single = [unit((i, 1)) for i in angles]
    mixed = [Factor(unit((i, 1)), wave, sine) for i in lengths for wave in single for sine in (False, True)]

    def products(degree: int) -> list[Factor]:
        chosen = itertools.combinations_with_replacement(lengths, degree)
        return [Factor(unit(*((i, 1) for i in one)), still) for one in chosen]

    one, simple = Factor.one(n), [*of_angles, *products(1), *products(2), *mixed]
    pairs = list(itertools.combinations_with_replacement(range(n), 2))
    nearest = [min(q[:, i].min().item() for q in positions) for i in range(n)]
    extent = [max(q[:, i].abs().max().item() for q in positions) for i in range(n)]
    radii = [i for i in lengths if nearest[i] > _AWAY * extent[i]]
    inverse = [Factor(unit((i, -k)), still) for i in radii for k in (1, 2)]
    higher = [factor for degree in range(3, _DEGREE + 1) for factor in products(degree)]
    for of_masses, potential in (
        ([one, *simple], [*simple, *higher, *inverse]),
        ([one], [*simple, *higher, *inverse]),
        ([one], [*simple, *inverse]),
    ):
        if len(pairs) * len(of_masses) + len(potential) <= _MOST_TRIED:
            return Terms(tuple(Entry(i, j, factor) for i, j in pairs for factor in of_masses), tuple(potential))
    return None


def traces_of(
    entries: Sequence[Entry], positions: Sequence[Float[Tensor, "_ n"]], sizes: Float[Tensor, " n"]
) -> Float[Tensor, " entries"]:
    """What each term adds to the mean of the trace of M over all members, in units of the velocities."""
    values = Factors([one.factor for one in entries])
    mean = torch.stack([values(q).mean(0) for q in positions]).mean(0)
    along = torch.tensor([sizes[one.i].square().item() if one.i == one.j else 0.0 for one in entries])
    return mean * along.to(mean)
