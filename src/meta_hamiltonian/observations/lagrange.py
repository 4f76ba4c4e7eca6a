"""Mass matrices from positions and velocities, by the Euler–Lagrange equations."""

import itertools
import logging
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import FRICTION, Domain
from meta_hamiltonian.dynamics.inertia import Entry, Factor, Factors, Inertia, KineticEnergies, places_of
from meta_hamiltonian.observations.canonical_states import canonical, well_known_points
from meta_hamiltonian.observations.forms import Trajectory

log = logging.getLogger(__name__)

# A law explains accelerations where it leaves at most so many times the variance that their errors would leave: the
# errors of positions and velocities add to it.
_EXPLAINED = 3.0
# Neighbours on smoothed curves say the same: at most so many points of a member count.
_INDEPENDENT = 40
# Curves through samples without noise still miss this part of the accelerations.
_MISSED = 1e-3
# Dry friction is smooth below this part of the RMS of the observed velocities.
_SLOW = 0.01
# Coefficients are kept this far from what no member tells, as a part of the size of their terms.
_RIDGE = 1e-9
# A mass matrix has at most so many terms, of which, with those of the potential, at most so many are tried.
_MOST_ENTRIES, _MOST_TRIED = 12, 300
# So many points of a member tell enough.
_MOST_POINTS = 1000
# One term is better than another if what it leaves is at most this part.
_BETTER = 0.95
# Rounds of expectation and maximisation, and of the fit of a member, whose errors depend on its coefficients.
_ROUNDS, _ROUNDS_OF_MEMBER = 40, 4
# Products of lengths in a potential have at most so many factors.
_DEGREE = 4
# A length that stays this part of its extent away from 0 may be a distance.
_AWAY = 0.02


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
        some = slice(None, None, -(-len(found.t) // _MOST_POINTS))
        (q, v), (_, a) = found.x[some].chunk(2, dim=-1), found.dxdt[some].chunk(2, dim=-1)
        error = found.rate_error[some, q.shape[1] :]
        return cls(q, v, a, (error.square() + _MISSED**2 * a.square().mean(0)).sqrt())


class _Equations(NamedTuple):
    """Those of one member, R θ = 0, a row for each point and coordinate, in units that are alike for all coordinates.

    - `rows`: R, whose columns are the terms of M, those of V and the kinds of friction.
    - `parts`: what the standard deviation of R θ comes from: its square is Σ (parts θ)² over the accelerations.
    """

    rows: Float[Tensor, "rows terms"]
    parts: Float[Tensor, "rows accelerations entries"]

    @property
    def independent(self) -> float:
        """How many rows tell something by themselves."""
        n = self.parts.shape[1]
        return float(min(_INDEPENDENT * n, len(self.rows)))

    def variance(self, theta: Float[Tensor, " terms"]) -> Float[Tensor, " rows"]:
        """That of the rows, which the errors of the accelerations explain."""
        return (self.parts @ theta[: self.parts.shape[2]]).square().sum(1)


def _equations(motion: Motion, energies: "_Terms", sizes: Float[Tensor, " n"]) -> _Equations:
    """Equation (13), d/dt (M v)ᵢ − ½ ∂ᵢ(v·M v) + ∂ᵢV + friction = 0, each row times the size of its velocity.

    ??? cite "Reference"

        Goldstein, Poole, Safko: Classical mechanics, 3rd edition, equations (1.57) and (1.70).
    """
    q, v, a, error = motion
    factors, places = Factors([one.factor for one in energies.entries]), places_of(energies.entries)
    values, slopes = factors(q), factors.gradient(q)
    of_v, of_a = (torch.einsum("kij,tj->tik", places, one) for one in (v, a))
    rates = (slopes @ v.unsqueeze(-1))[..., 0]
    doubled = torch.einsum("ti,tik->tk", v, of_v)  # v·M v
    momenta = of_a * values[:, None] + of_v * rates[:, None] - slopes.mT * doubled[:, None] / 2
    width = _SLOW * v.square().mean().sqrt().clamp_min(torch.finfo(v.dtype).tiny).item()
    friction = torch.stack([kind.force(v, width) for kind in FRICTION.values()], dim=-1)
    forces = [Factors(energies.potential).gradient(q).mT] if energies.potential else []
    rows = torch.cat([momenta, *forces, friction], dim=-1) * sizes[:, None]
    parts = torch.einsum("kij,tk,tj,i->tijk", places, values, error, sizes)
    return _Equations(rows.flatten(0, 1), parts.flatten(0, 1))


class _Terms(NamedTuple):
    """Those of a mass matrix and those of a potential."""

    entries: tuple[Entry, ...]
    potential: tuple[Factor, ...]

    @property
    def number(self) -> int:
        """Their number, with the kinds of friction."""
        return len(self.entries) + len(self.potential) + len(FRICTION)


def find_kinetic_energies(
    members: Sequence[Sequence[Trajectory]], domain: Domain, inertia: Sequence[float]
) -> KineticEnergies | None:
    """The mass matrices of members whose momenta were not observed, if those of p = inertia · dq/dt are wrong.

    Terms of the mass matrix and of the potential are products of lengths and waves of angles. Each member has a
    coefficient of its own for each term. Where a constant inertia and some potential explain the accelerations of all
    members, nothing else is looked for. Otherwise terms of the mass matrix are added one by one beside all those of the
    potential, the one with the largest evidence first, until the errors of the accelerations explain what is left.
    Then terms that the evidence does not ask for are left out, one by one.

    **Arguments:**

    - `members`: the trajectories of each.
    - `domain`: the coordinates; the box is not used.
    - `inertia`: the one that is assumed, a number for each coordinate.

    **Returns:** None where the given inertia explains the members, or where no mass matrix does.
    """
    if any(one.kind == "logarithm" for one in domain.coordinates) or any(one.inputs for own in members for one in own):
        return None
    motions = [Motion.of(own) for own in members]
    every = _library(domain, motions)
    if every is None:
        return None
    sizes = torch.stack([one.v.square().mean(0) for one in motions]).mean(0).sqrt()
    if not (sizes > 0).all():
        return None
    n = len(sizes)
    found = _Selection(
        every, (_equations(one, every, sizes) for one in motions), _traces(every.entries, motions, sizes)
    )
    diagonal = [k for k, one in enumerate(every.entries) if one.i == one.j and one.factor.constant]
    others = list(range(len(every.entries), every.number))
    if found.left_by(diagonal, others, inertia) <= _EXPLAINED:
        return None
    chosen = found.without_needless(found.with_needed([*diagonal, *others]))
    unexplained = found.unexplained(chosen)
    entries = [every.entries[k] for k in chosen if k < len(every.entries)]
    potential = [
        every.potential[k - len(every.entries)] for k in chosen if 0 <= k - len(every.entries) < len(every.potential)
    ]
    if unexplained > _EXPLAINED or not entries:
        log.info(f"No mass matrix of at most {_MOST_ENTRIES} terms explains the members (χ² {unexplained:.3g}).")
        return None
    terms = _Terms(tuple(entries), tuple(potential))
    equations = [_equations(one, terms, sizes) for one in motions]
    energies = _distribution(terms, equations, _traces(terms.entries, motions, sizes))
    own = [energies.inertia(_member(energies, one)) for one in equations]
    if not all((torch.linalg.eigvalsh(m.matrix(one.q)) > 0).all() for m, one in zip(own, motions, strict=True)):
        log.info("The mass matrix that explains the members is not positive, and is not used.")
        return None
    log.info(f"p = M(q) dq/dt, where the typical member has {energies.typical.words(domain.names[:n])}.")
    return energies


def inertia_of(energies: KineticEnergies, trajectories: Sequence[Trajectory]) -> Inertia:
    """The mass matrix of a member, from its positions and velocities and from what is known of its family."""
    motion = Motion.of(trajectories)
    alike = torch.ones_like(motion.v[0])  # each row counts by its own error
    terms = _Terms(energies.entries, energies.potential)
    return energies.inertia(_member(energies, _equations(motion, terms, alike)))


def _library(domain: Domain, motions: Sequence[Motion]) -> _Terms | None:
    """All terms that are tried: of many coordinates the simplest alone, and None where even these are too many."""
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
    nearest = [min(one.q[:, i].min().item() for one in motions) for i in range(n)]
    extent = [max(one.q[:, i].abs().max().item() for one in motions) for i in range(n)]
    radii = [i for i in lengths if nearest[i] > _AWAY * extent[i]]
    inverse = [Factor(unit((i, -k)), still) for i in radii for k in (1, 2)]
    higher = [factor for degree in range(3, _DEGREE + 1) for factor in products(degree)]
    for of_masses, potential in (
        ([one, *simple], [*simple, *higher, *inverse]),
        ([one], [*simple, *higher, *inverse]),
        ([one], [*simple, *inverse]),
    ):
        if len(pairs) * len(of_masses) + len(potential) <= _MOST_TRIED:
            return _Terms(tuple(Entry(i, j, factor) for i, j in pairs for factor in of_masses), tuple(potential))
    return None


def _traces(
    entries: Sequence[Entry], motions: Sequence[Motion], sizes: Float[Tensor, " n"]
) -> Float[Tensor, " entries"]:
    """What each term adds to the mean of the trace of M over all members, in units of the velocities."""
    values = Factors([one.factor for one in entries])
    mean = torch.stack([values(one.q).mean(0) for one in motions]).mean(0)
    along = torch.tensor([sizes[one.i].square().item() if one.i == one.j else 0.0 for one in entries])
    return mean * along.to(mean)


class _Selection:
    """Which terms the members need. Each member has its own coefficients, with c·θ = 1."""

    def __init__(self, terms: _Terms, equations: Iterable[_Equations], traces: Float[Tensor, " entries"]):
        self.terms = terms
        independent, counts, gram, errors = [], [], [], []
        for one in equations:  # one after the other: all of them together are large
            independent.append(one.independent)
            counts.append(float(len(one.rows)))
            gram.append(one.rows.mT @ one.rows / len(one.rows))
            parts = one.parts.flatten(0, 1)
            errors.append(parts.mT @ parts / len(one.rows))
        self.independent, self.counts = (torch.tensor(one, dtype=torch.float64) for one in (independent, counts))
        self.gram, self.errors = torch.stack(gram), torch.stack(errors)
        self.fixed = torch.cat([traces, traces.new_zeros(terms.number - len(terms.entries))])
        self.scales = self.gram.diagonal(dim1=-2, dim2=-1).mean(0).sqrt().clamp_min(1e-300)

    def solve(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The coefficients of these terms for each member, and the mean square of what they leave."""
        scales, fixed = self.scales[list(chosen)], self.fixed[list(chosen)]
        gram = self.gram[:, chosen][:, :, chosen] / (scales[:, None] * scales)
        wanted = (fixed / scales).expand(len(gram), -1)
        inverse = torch.linalg.solve(gram + _RIDGE * torch.eye(len(chosen), dtype=gram.dtype), wanted)
        theta = inverse / (inverse * wanted).sum(1, keepdim=True)
        left = torch.einsum("mk,mkl,ml->m", theta, gram, theta).clamp_min(0.0)
        return theta / scales, left * self.counts / (self.counts - len(chosen)).clamp_min(1.0)

    def _ratios(self, chosen: Sequence[int], theta: Tensor, left: Tensor) -> Tensor:
        """What is left, in units of what errors explain."""
        entries = [k for k in chosen if k < len(self.terms.entries)]
        own = theta[:, : len(entries)]
        explained = torch.einsum("mk,mkl,ml->m", own, self.errors[:, entries][:, :, entries], own)
        return left / explained.clamp_min(1e-300)

    def unexplained(self, chosen: Sequence[int]) -> float:
        """χ² of the typical member: what is left, in units of what errors explain."""
        return self._ratios(chosen, *self.solve(chosen)).log().mean().exp().item()

    def evidence(self, chosen: Sequence[int]) -> float:
        """The log evidence (Schwarz), for which what errors explain is no difference."""
        ratios = self._ratios(chosen, *self.solve(chosen)).clamp_min(_EXPLAINED)
        return -0.5 * ((self.independent * ratios.log()).sum() + len(chosen) * self.independent.log().sum()).item()

    def left_by(self, diagonal: Sequence[int], others: Sequence[int], inertia: Sequence[float]) -> float:
        """χ² of the typical member for a given constant inertia and any potential and friction."""
        masses = torch.tensor(inertia, dtype=torch.float64)
        scales = self.scales[list(others)]
        gram = self.gram[:, others][:, :, others] / (scales[:, None] * scales)
        cross = self.gram[:, others][:, :, diagonal] @ masses / scales
        best = -torch.linalg.solve(gram + _RIDGE * torch.eye(len(others), dtype=gram.dtype), cross)
        own = torch.einsum("k,mkl,l->m", masses, self.gram[:, diagonal][:, :, diagonal], masses)
        left = (own + (cross * best).sum(1)).clamp_min(0.0) * self.counts / (self.counts - len(others)).clamp_min(1.0)
        return self._ratios(diagonal, masses.expand(len(left), -1), left).log().mean().exp().item()

    def with_needed(self, chosen: list[int]) -> list[int]:
        """These terms and those of the mass matrix that the evidence asks for, one after the other."""
        best = self.evidence(chosen)
        for _ in range(_MOST_ENTRIES):
            if self.unexplained(chosen) <= _EXPLAINED:
                break
            tried = [sorted([*chosen, k]) for k in range(len(self.terms.entries)) if k not in chosen]
            evidence, more = max(((self.evidence(one), one) for one in tried), default=(-math.inf, chosen))
            if evidence <= best:
                break
            best, chosen = evidence, more
        return sorted(chosen)

    def without_needless(self, chosen: list[int]) -> list[int]:
        """Those of these terms that the evidence asks for, of as many terms the ones that leave least; friction is
        always allowed."""
        own = [k for k in chosen if k < self.terms.number - len(FRICTION)]
        while True:
            tried = [[k for k in chosen if k != out] for out in own if out in chosen]
            tried = [one for one in tried if self._on_diagonal(one) == self._on_diagonal(chosen)]
            fewer = max(tried, key=lambda one: (self.evidence(one), -self.unexplained(one)), default=chosen)
            if fewer == chosen or self.evidence(fewer) <= self.evidence(chosen):
                return self._exchanged(chosen)
            chosen = fewer

    def _place(self, term: int) -> tuple[int, int] | None:
        """Where it stands in the mass matrix; None for a term of the potential."""
        return self.terms.entries[term][:2] if term < len(self.terms.entries) else None

    def _on_diagonal(self, chosen: Sequence[int]) -> set[tuple[int, int]]:
        """Which places of the diagonal have a term: all must have one in a matrix that is positive."""
        places = {self._place(term) for term in chosen} - {None}
        return {one for one in places if one is not None and one[0] == one[1]}

    def _exchanged(self, chosen: list[int]) -> list[int]:
        """As many terms, of which one after the other is exchanged for another one that leaves less."""
        entries, last = len(self.terms.entries), self.terms.number - len(FRICTION)
        least = self.unexplained(chosen)
        while True:
            tried = [
                sorted([*(k for k in chosen if k != out), new])
                for out in chosen
                for new in range(entries if out < entries else last)
                if out < last and new not in chosen and self._place(new) == self._place(out)
            ]
            left, best = min(((self.unexplained(one), one) for one in tried), default=(least, chosen))
            if left >= _BETTER * least:
                return chosen
            least, chosen = left, best


def _distribution(terms: _Terms, equations: Sequence[_Equations], traces: Float[Tensor, " entries"]) -> KineticEnergies:
    """How the coefficients of the members are distributed, by expectation and maximisation."""
    fixed = torch.cat([traces, traces.new_zeros(terms.number - len(terms.entries))])
    found = _Selection(terms, equations, traces)
    own, _ = found.solve(list(range(terms.number)))
    middle = own.median(0).values
    mean = middle / (fixed @ middle)
    size = (own - mean).abs().median(0).values + 1e-3 * mean.abs() + 1e-6 / found.scales
    factor = torch.diag(size)
    energies = _energies(terms, fixed, mean, factor)
    for _ in range(_ROUNDS):
        fits = [_fit(energies, one) for one in equations]
        thetas = torch.stack([theta for theta, _ in fits])
        mean = thetas.mean(0)
        spread = (thetas - mean).mT @ (thetas - mean) / len(fits) + torch.stack([one for _, one in fits]).mean(0)
        values, vectors = torch.linalg.eigh(spread * found.scales * found.scales[:, None])
        factor = vectors * values.clamp_min(0.0).sqrt() / found.scales[:, None]
        energies = _energies(terms, fixed, mean, factor)
    return energies


def _energies(terms: _Terms, fixed: Tensor, mean: Tensor, factor: Tensor) -> KineticEnergies:
    columns = factor[:, factor.abs().amax(0) > 0]
    return KineticEnergies(
        terms.entries, terms.potential, tuple(fixed.tolist()), tuple(mean.tolist()), tuple(map(tuple, columns.tolist()))
    )


def _member(energies: KineticEnergies, equations: _Equations) -> Float[Tensor, " terms"]:
    """The likeliest coefficients of a member."""
    return _fit(energies, equations)[0]


def _fit(energies: KineticEnergies, equations: _Equations) -> tuple[Tensor, Tensor]:
    """The likeliest coefficients of a member, and their covariance."""
    mean, fixed = (torch.tensor(one, dtype=torch.float64) for one in (energies.mean, energies.fixed))
    factor = torch.tensor(energies.factor, dtype=torch.float64)
    # Directions in which c·θ stays what it is.
    along = fixed @ factor
    if along.norm() > 0:
        _, _, basis = torch.linalg.svd(along[None])
        factor = factor @ basis[1:].mT
    theta, count = mean, len(equations.rows)
    tell = equations.independent / count
    more, covariance = 1.0, factor @ factor.mT
    for _ in range(_ROUNDS_OF_MEMBER):
        weight = (equations.variance(theta) * more).clamp_min(1e-300).rsqrt()[:, None]
        rows = weight * equations.rows
        design = rows @ factor
        precision = tell * design.mT @ design + torch.eye(design.shape[1], dtype=design.dtype)
        z = torch.linalg.solve(precision, -tell * design.mT @ (rows @ mean))
        theta = mean + factor @ z
        covariance = factor @ torch.linalg.solve(precision, factor.mT)
        left = (equations.rows @ theta).square() / equations.variance(theta).clamp_min(1e-300)
        more = max(left.mean().item(), 1.0)
    return theta, covariance
