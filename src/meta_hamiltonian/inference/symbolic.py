"""A learned Hamiltonian in the terms of a textbook."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain, Inertia
from meta_hamiltonian.inference.centres import with_centres
from meta_hamiltonian.inference.subsets import Subset, SubsetSearch
from meta_hamiltonian.inference.terms import Term, kinetic, library, of_distance
from meta_hamiltonian.models import Adapted, AdaptedSystems

# A sum that misses more than this part of the field is no reading of it.
_READABLE = 0.05
# A sum that misses more than this part takes in another term where that halves the rest; a better one, only where that
# divides the rest by so many.
_GOOD, _DIVIDES = 0.002, 30
# A field that is as uncertain as this part of itself has no reading.
_UNKNOWN = 0.5
# Sums are as good as each other where one misses no more than so many times what the other does, or than this part.
_ALIKE, _EXACT = 1.5, 1e-7
# A sum that can be read has so many terms, and so many a degree of freedom, and no more than so many in all.
_TERMS, _PER_FREEDOM, _MOST = 4, 4, 40
# With so many terms more than the best sum, and one a degree of freedom, no better one is waited for.
_PATIENCE = 2
# A sum is fitted at so many numbers, of so few and so many states, and tried at so many other states.
_NUMBERS, _FEWEST, _STATES, _TRIED = 8192, 128, 1024, 256
# A rate below this part of the largest, both in units of the box, is none.
_NOTHING = 0.03
# The box of the observed states is widened by this part.
_MARGIN = 0.1
# So many draws find states in it, or what the domain excludes leaves next to none.
_DRAWS = 100
# So many terms that would do as well as others are named.
_ALTERNATIVES = 2


@dataclasses.dataclass(frozen=True)
class Reading:
    """H as a sum of simple terms, or the reason why it cannot be read as one.

    - `terms`, `coefficients`, `deviations`: their names, factors and the standard deviations of these (0 where there
        are no samples of a posterior). Without terms there is a `refusal`.
    - `error`: RMS of the difference between the fields of the sum and of the learner, relative to the RMS of the
        latter, at states that the sum was not fitted at; where no sum is good enough, that of the best one.
    - `known`: how well the posterior knows the field, in the same units; 0 where there is none.
    - `alternatives`: pairs of a term and another that would do as well in its place.
    - `refusal`: why H cannot be read, in words.
    """

    terms: Sequence[str]
    coefficients: Sequence[float]
    deviations: Sequence[float]
    error: float
    known: float = 0.0
    alternatives: Sequence[tuple[str, str]] = ()
    refusal: str = ""

    def __str__(self) -> str:
        if self.refusal:
            return self.refusal
        parts = [
            f"{'−' if value < 0 else '+'} {abs(value):.4g}" + (f" (± {deviation:.1g})" if deviation > 0 else "")
            for value, deviation in zip(self.coefficients, self.deviations, strict=True)
        ]
        total = " ".join(f"{part} {term}" for part, term in zip(parts, self.terms, strict=True)).removeprefix("+ ")
        doubt = f", itself known to {self.known:.1g}" if self.known > self.error else ""
        others = "".join(f"; {other} would do as well as {term}" for term, other in self.alternatives)
        return f"H = {total} + const, to {self.error:.1g} of the field{doubt}{others}"


def read_symbolically(
    adapted: Adapted,
    samples: AdaptedSystems | None,
    near: Float[Tensor, "points state"],
    inertia: Inertia | None = None,
) -> Reading:
    """Sparse regression of the learned field on the fields of the terms of [`library`][].

    For each number of terms the best sum is searched for ([`SubsetSearch`][]). The simplest good sum is then read: each
    of its terms makes it much better, at states that it was not fitted to. Where no sum is good enough, forces may have
    their centres elsewhere ([`with_centres`][]).

    **Arguments:**

    - `adapted`: the system.
    - `samples`: samples of its posterior, for the uncertainty.
    - `near`: the observed states; the reading is for where they lie, as far as that is in the domain.
    - `inertia`: the mass matrix that the momenta were found with, whose kinetic energy is a term too; None where there
        is none.

    ??? cite "Reference"

        Sparse regression on a library of terms: Brunton, Proctor, Kutz: Discovering governing equations from data by
        sparse identification of nonlinear dynamical systems. PNAS 113, 2016.
    """
    adapted = Adapted(dataclasses.replace(adapted.systems, forces=None))  # H, and not what takes it away
    domain = adapted.domain
    x = _states(domain, near.double())
    if x is None:
        return _refused("no observed state lies in the domain")
    field = adapted.field(x)
    size = field.square().mean(0).sqrt()
    if not 0 < size.max() < math.inf:
        what = "vanishes" if size.max() == 0 else "is not finite"
        return _refused(f"the learned field {what} near the observations")
    # Rates have units of their own: each counts in parts of its size.
    half = size.new_tensor(domain.half_widths)
    weight = 1 / torch.maximum(size, half * _NOTHING * (size / half).max())
    rows = _Rows(x, weight, weight * field)
    sampled = None if samples is None else _sampled(samples, x[_TRIED:], weight)
    known = 0.0 if sampled is None else (sampled.var(0).mean() / rows.target.square().mean()).sqrt().item()
    if not known <= _UNKNOWN:
        return _refused(f"the observations leave {known:.0%} of the field uncertain")

    own = [] if inertia is None or inertia.constant else [kinetic(inertia)]
    fit = _fit([*own, *library(domain)], domain, rows, known)
    if domain.exclusions and not domain.lattice and fit.subset.error > max(_GOOD, known):
        moved = with_centres(domain, fit.without_distances, rows.target, rows.fitted)
        elsewhere = _fit([*own, *library(moved)], moved, rows, known)
        fit = elsewhere if elsewhere.subset.error < fit.subset.error / 2 else fit
    allowed = min(max(known, _ALIKE * fit.subset.error, _EXACT), _READABLE)
    found = fit.search.simplest(fit.subset, allowed) if fit.subset.error <= _READABLE else fit.subset
    design = fit.design[:, found.columns]
    chosen = [fit.terms[i] for i in found.columns]
    coefficients = _least_squares(design, rows.target[:, None])[:, 0]
    error = rows.error(chosen, coefficients)
    if not max(error, found.error) <= _READABLE:
        return _refused(
            f"no sum of up to {fit.most} of the {len(fit.terms)} that are tried comes nearer to the field than "
            f"{max(error, found.error):.0%} of it",
            error,
        )
    deviations = torch.zeros_like(coefficients) if sampled is None else _least_squares(design, sampled.mT).std(1)
    others = fit.search.alternatives(found, allowed)
    return Reading(
        [term.name for term in chosen],
        coefficients.tolist(),
        deviations.tolist(),
        error,
        known,
        [(fit.terms[i].name, fit.terms[other].name) for i, other in itertools.islice(others, _ALTERNATIVES)],
    )


def _refused(why: str, error: float = math.inf) -> Reading:
    return Reading([], [], [], error, refusal=f"H cannot be read in simple terms: {why}")


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The learned field as the rows of a regression, those at the first states left out to try it on.

    - `x`: the states.
    - `weight`: that of each rate.
    - `field`: the learned one, weighted.
    """

    x: Float[Tensor, "states state"]
    weight: Float[Tensor, " state"]
    field: Float[Tensor, "states state"]

    @property
    def target(self) -> Float[Tensor, " rows"]:
        """What is fitted."""
        return self.field[_TRIED:].flatten()

    def fitted(self, term: Term) -> Float[Tensor, " rows"]:
        """The field of a term in the rows that are fitted; 0 where it overflows."""
        field = (self.weight * term.field(self.x[_TRIED:])).flatten()
        return field if field.isfinite().all() else torch.zeros_like(field)

    def error(self, terms: Sequence[Term], coefficients: Float[Tensor, " terms"]) -> float:
        """What a sum misses of the field at the other states."""
        x, field = self.x[:_TRIED], self.field[:_TRIED]
        total = sum((c * self.weight * term.field(x) for c, term in zip(coefficients, terms, strict=True)), 0 * field)
        return ((total - field).norm() / field.norm()).item()


@dataclasses.dataclass(frozen=True)
class _Fit:
    """The best sum of the terms of a domain.

    - `terms`, `design`: all that were tried, and their fields.
    - `most`: the largest number of terms of a sum.
    - `search`, `subset`: the search among the terms, and the subset that it has chosen.
    """

    domain: Domain
    terms: Sequence[Term]
    design: Float[Tensor, "rows terms"]
    most: int
    search: SubsetSearch
    subset: Subset

    @property
    def without_distances(self) -> Float[Tensor, "rows others"]:
        """The fields of the terms that are no distances."""
        distances = {t.name for exclusion in self.domain.exclusions for t in of_distance(self.domain, exclusion)}
        return self.design[:, [i for i, term in enumerate(self.terms) if term.name not in distances]]


def _fit(terms: Sequence[Term], domain: Domain, rows: _Rows, known: float) -> _Fit:
    design = torch.stack([rows.fitted(term) for term in terms], dim=-1)
    freedoms = 1 if domain.lattice else domain.degrees_of_freedom
    most = min(_TERMS + _PER_FREEDOM * freedoms, _MOST)
    search = SubsetSearch(design, rows.target)
    return _Fit(domain, terms, design, most, search, _chosen(search.path(most), known, freedoms))


def _chosen(path: Iterable[Subset], known: float, freedoms: int) -> Subset:
    """The subset that is worth its number of terms; where none is good enough, the best.

    A term is worth its place where it halves the error, or divides an error that is small already by 30; with n degrees
    of freedom, n terms together have to do so. Errors below the uncertainty of the field are all alike.
    """
    best, lowest, nearest = None, math.inf, None
    for subset in path:
        if nearest is None or subset.error < nearest.error:
            nearest = subset
        if subset.error <= _READABLE:
            error = max(subset.error, known, _EXACT) / _GOOD
            cost = len(subset.columns) / freedoms + math.log(error, 2 if error > 1 else _DIVIDES)
            if cost < lowest:
                best, lowest = subset, cost
        if best is not None and len(subset.columns) > len(best.columns) + _PATIENCE + freedoms:
            break
    assert nearest is not None
    return best or nearest


def _states(domain: Domain, near: Float[Tensor, "points state"]) -> Float[Tensor, "states state"] | None:
    """States around the observed ones, inside the domain; None where no observed state is."""
    near = domain.wrap(near)
    near = near[~domain.outside(near)]
    if not len(near):
        return None
    ends = near.new_tensor([(c.low, c.high) for c in domain.coordinates]).mT
    low, high = near.amin(0), near.amax(0)
    margin = _MARGIN * torch.where(high > low, high - low, ends[1] - ends[0])  # one state alone has no box
    low, high = torch.maximum(low - margin, ends[0]), torch.minimum(high + margin, ends[1])
    count = _TRIED + min(max(_NUMBERS // domain.state_dim, _FEWEST), _STATES)
    engine = torch.quasirandom.SobolEngine(domain.state_dim, scramble=True, seed=0)
    x = near[:0]
    for _ in range(_DRAWS):
        drawn = low + (high - low) * engine.draw(count, dtype=torch.float64)
        x = torch.cat([x, drawn[~domain.excluded(drawn)]])
        if len(x) >= count:
            return x[:count]
    return None


def _sampled(
    samples: AdaptedSystems, x: Float[Tensor, "states state"], weight: Float[Tensor, " state"]
) -> Float[Tensor, "samples rows"]:
    samples = dataclasses.replace(samples, forces=None)
    return (weight * samples.field(x.expand(len(samples.scale), *x.shape))).flatten(1)


def _least_squares(design: Float[Tensor, "rows terms"], targets: Float[Tensor, "rows targets"]) -> Tensor:
    norms = design.norm(dim=0)
    return torch.linalg.lstsq(design / norms, targets).solution / norms[:, None]
