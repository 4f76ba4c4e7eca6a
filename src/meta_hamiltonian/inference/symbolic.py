"""A learned Hamiltonian in the terms of a textbook."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.inference.subsets import Subset, SubsetSearch
from meta_hamiltonian.inference.terms import library
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
    """H as a sum of simple terms, or why it is none.

    - `terms`, `coefficients`, `deviations`: their names, factors and the standard deviations of these (0 where there
        are no samples of a posterior). Without terms there is a `refusal`.
    - `error`: RMS of what the field of the sum differs from the learned field by, relative to its RMS, at states that
        the sum was not fitted at; that of the best sum where none is good enough.
    - `known`: how well the posterior knows the field, in the same units; 0 where there is none.
    - `alternatives`: terms, and others that would do as well in their place.
    - `refusal`: in words.
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


def read_symbolically(adapted: Adapted, samples: AdaptedSystems | None, near: Float[Tensor, "points state"]) -> Reading:
    """Sparse regression of the learned field on the fields of the terms of [`library`][].

    Of each number of terms the sum that leaves least is looked for ([`SubsetSearch`][]). The simplest that is good
    enough is then read: one that every term makes much better, tried at states that it was not fitted at.

    **Arguments:**

    - `adapted`: the system.
    - `samples`: of its posterior, for the uncertainty.
    - `near`: the observed states; the reading is for where they lie, as far as that is in the domain.

    ??? cite "Reference"

        Sparse regression on a library of terms: Brunton, Proctor, Kutz: Discovering governing equations from data by
        sparse identification of nonlinear dynamical systems. PNAS 113, 2016.
    """
    adapted = Adapted(dataclasses.replace(adapted.systems, forces=None))  # H, and not what takes it away
    domain = adapted.systems.net.domain
    x = _states(domain, near.double())
    if x is None:
        return _refused("H cannot be read in simple terms: no observed state lies in the domain")
    field = adapted.field(x)
    size = field.square().mean(0).sqrt()
    if not 0 < size.max() < math.inf:
        what = "vanishes" if size.max() == 0 else "is not finite"
        return _refused(f"H cannot be read in simple terms: the learned field {what} near the observations")

    # Rates have units of their own: each counts in parts of its size.
    half = size.new_tensor(domain.half_widths)
    weight = 1 / torch.maximum(size, half * _NOTHING * (size / half).max())
    terms = library(domain)
    columns = torch.stack([weight * term.field(x) for term in terms], dim=-1)
    columns = columns.masked_fill(~columns.isfinite().all((0, 1)), 0.0)  # an exponential that overflows is no term
    design, tried = columns[_TRIED:].flatten(0, 1), columns[:_TRIED].flatten(0, 1)
    target, aim = (weight * field)[_TRIED:].flatten(), (weight * field)[:_TRIED].flatten()
    sampled = None if samples is None else _sampled(samples, x[_TRIED:], weight)
    known = 0.0 if sampled is None else (sampled.var(0).mean() / target.square().mean()).sqrt().item()

    if known > _UNKNOWN:
        return _refused(f"H cannot be read in simple terms: the observations leave {known:.0%} of the field uncertain")

    search = SubsetSearch(design, target)
    freedoms = 1 if domain.lattice else domain.degrees_of_freedom
    most = min(_TERMS + _PER_FREEDOM * freedoms, _MOST)
    found = _chosen(search.path(most), known, freedoms)
    allowed = min(max(known, _ALIKE * found.error, _EXACT), _READABLE)
    if found.error <= _READABLE:
        found = search.simplest(found, allowed)
    chosen = list(found.columns)
    coefficients = _least_squares(design[:, chosen], target[:, None])[:, 0]
    error = ((tried[:, chosen] @ coefficients - aim).norm() / aim.norm()).item()
    if not max(error, found.error) <= _READABLE:
        return _refused(
            f"H cannot be read in simple terms: no sum of up to {most} of the {len(terms)} that are tried comes nearer "
            f"to the field than {max(error, found.error):.0%} of it",
            error,
        )
    deviations = torch.zeros_like(coefficients)
    if sampled is not None:
        deviations = _least_squares(design[:, chosen], sampled.mT).std(1)
    others = search.alternatives(found, allowed)
    return Reading(
        [terms[i].name for i in chosen],
        coefficients.tolist(),
        deviations.tolist(),
        error,
        known,
        [(terms[i].name, terms[other].name) for i, other in others][:_ALTERNATIVES],
    )


def _refused(why: str, error: float = math.inf) -> Reading:
    return Reading([], [], [], error, refusal=why)


def _chosen(path: Iterable[Subset], known: float, freedoms: int) -> Subset:
    """The subset that is worth its number of terms; where none is good enough, the best.

    A term is worth it where it halves the error, or divides one that is small already by 30; with n degrees of freedom,
    n terms do that. Errors below what is known of the field are all alike.
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
