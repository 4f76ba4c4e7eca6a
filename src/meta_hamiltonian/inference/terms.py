"""The textbook terms of which a Hamiltonian may be a sum, as its domain suggests them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain, Inertia, hamiltonian_field
from meta_hamiltonian.dynamics.domain import Coordinate, Exclusion, Number, canonical_names

# With more degrees of freedom, only those that follow each other in the order of the coordinates make terms together.
_ALL_PAIRS = 9


@dataclasses.dataclass(frozen=True)
class Term:
    """A function of the state, and its name: a term of a sum, or a variable that terms are made of.

    On a lattice, the value of a variable has one more dimension, the sites.
    """

    name: str
    value: Callable[[Float[Tensor, "*batch state"]], Float[Tensor, "..."]]

    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """What the term adds to dx/dt, equation (1), where its coefficient is 1."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.value(x).sum(), x)
        return hamiltonian_field(gradient)


Function = tuple[str, Callable[[Tensor], Tensor]]
"""A function of one variable, and how it is written around the name of that."""


def _power(exponent: int) -> Function:
    digits = "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(abs(exponent)))
    return ("1/{}" if exponent < 0 else "{}") + ("" if abs(exponent) == 1 else digits), lambda v: v**exponent


_SQUARE = _power(2)
_POWERS = [_power(exponent) for exponent in (1, 2, 3, 4)]
_LOGARITHM: Function = ("log {}", torch.log)
_INVERSE = [_power(-1), _LOGARITHM, *(_power(exponent) for exponent in (-2, -3, -6, -12))]
_EXPONENTIAL: Function = ("exp({})", torch.exp)
_EXPONENTIALS: list[Function] = [_EXPONENTIAL, ("exp(−{})", lambda v: (-v).exp())]
_WAVES: list[Function] = [("cos {}", torch.cos), ("sin {}", torch.sin)]
_DOUBLE_WAVES: list[Function] = [("cos 2{}", lambda v: (2 * v).cos()), ("sin 2{}", lambda v: (2 * v).sin())]
_OF_DISTANCE = [*_INVERSE, *_POWERS[:2]]
_OF_MOMENTUM = [_SQUARE, _power(1), _power(4), *_EXPONENTIALS]
_OF_POSITION = {
    "length": [*_POWERS, *_EXPONENTIALS, *_WAVES],  # it may be an angle that nobody said is one
    "angle": [*_WAVES, *_DOUBLE_WAVES, *_POWERS[:2]],
    "logarithm": [_EXPONENTIAL, *_POWERS, _EXPONENTIALS[1]],
}


@dataclasses.dataclass(frozen=True)
class _Freedom:
    """A degree of freedom, or all those of a lattice: a position, its momentum, and what kind of coordinate it is."""

    q: Term
    p: Term
    coordinate: Coordinate

    @property
    def angle(self) -> bool:
        return self.coordinate.kind == "angle"

    @property
    def radius(self) -> bool:
        """Whether it is a length that stays above 0."""
        return not self.angle and self.coordinate.low > 0


def library(domain: Domain) -> list[Term]:
    """The terms that are tried for the systems of a domain, the simplest first.

    - *One momentum*: powers and exponentials.
    - *One position*: powers, exponentials and waves of a length, and inverse powers and the logarithm of one that stays
        above 0; waves and powers of an angle. The product of a length and its own momentum.
    - *Two degrees of freedom*: products of momenta, of lengths, and of a length and the other's momentum; powers and
        exponentials of the difference of lengths; waves of the sum and the difference of angles, and the square of
        the difference; a length times a wave of an angle; p²/r² for a radius r and the momentum p of an angle.
    - *Three*: the product of three lengths.
    - *Distances that the domain excludes*: powers, inverse powers and the logarithm.

    On a lattice, the terms are the sums over all sites of terms of one site and of two neighbours.
    """
    n = domain.degrees_of_freedom
    kinds = domain.coordinates[:n]
    if domain.lattice:
        site = _Freedom(Term("q_i", lambda x: x[..., :n]), Term("p_i", lambda x: x[..., n:]), kinds[0])
        after = _Freedom(_neighbour(site.q), _neighbour(site.p), kinds[0])
        terms = [*_of_one(site), *_of_difference(after, site), *_of_product(after, site)]
        if domain.exclusions:
            r = Term("r", lambda x: torch.stack([one.distance(x) for one in domain.exclusions], dim=-1))
            terms += _of_distance(r)
        return [_sum_over_sites(term) for term in terms]

    freedoms = [_Freedom(_coordinate(domain, i), _coordinate(domain, n + i), kinds[i]) for i in range(n)]
    pairs = list(itertools.combinations(freedoms, 2) if n <= _ALL_PAIRS else itertools.pairwise(freedoms))
    lengths = [freedom.q for freedom in freedoms if not freedom.angle] if n <= _ALL_PAIRS else []
    terms = [
        *(term for freedom in freedoms for term in _of_one(freedom)),
        *(term for pair in pairs for term in _of_product(*pair)),
        *(term for pair in pairs for term in _of_difference(*pair)),
        *(_product(_product(a, b), c) for a, b, c in itertools.combinations(lengths, 3)),
        *(term for one in domain.exclusions if not _of_a_radius(domain, one) for term in of_distance(domain, one)),
    ]
    return list({term.name: term for term in terms}.values())


def _of_one(a: _Freedom) -> Iterator[Term]:
    for function in _OF_MOMENTUM:
        yield _applied(function, a.p)
    for function in _OF_POSITION[a.coordinate.kind]:
        yield _applied(function, a.q)
    if not a.angle:
        yield _product(a.q, a.p)
    if a.radius:
        for function in _INVERSE:
            yield _applied(function, a.q)


def _of_product(a: _Freedom, b: _Freedom) -> Iterator[Term]:
    yield _product(a.p, b.p)
    if not a.angle and not b.angle:
        yield _product(a.q, b.q)
        yield _product(a.q, b.p)
        yield _product(b.q, a.p)
        yield _product(_applied(_SQUARE, a.q), b.q)
        yield _product(_applied(_SQUARE, b.q), a.q)
        yield _product(_applied(_SQUARE, a.q), _applied(_SQUARE, b.q))
    elif a.angle != b.angle:
        length, angle = (b, a) if a.angle else (a, b)
        for function in _WAVES:
            yield _product(length.q, _applied(function, angle.q))
        if length.radius:
            yield _quotient(_applied(_SQUARE, angle.p), _applied(_SQUARE, length.q))


def _of_difference(a: _Freedom, b: _Freedom) -> Iterator[Term]:
    if a.angle != b.angle:
        return
    difference = _difference(a.q, b.q)
    if a.angle:
        for argument in (difference, _sum(a.q, b.q)):
            for function in _WAVES:
                yield _applied(function, argument)
        yield _applied(_SQUARE, difference)
    else:
        for function in _POWERS[1:]:
            yield _applied(function, difference)
        for argument in (difference, _difference(b.q, a.q)):
            yield _applied(_EXPONENTIAL, argument)


def _of_a_radius(domain: Domain, exclusion: Exclusion) -> bool:
    """Whether the distance is a coordinate that stays above 0, whose powers are terms already."""
    return exclusion.coordinate is not None and domain.coordinates[exclusion.coordinate].low > 0


def kinetic(inertia: Inertia) -> Term:
    """The kinetic energy of a mass matrix that depends on the positions."""

    def value(x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch"]:
        q, p = x.chunk(2, dim=-1)
        return (p * inertia.velocities(q, p)).sum(-1) / 2

    return Term("p·M(q)⁻¹p/2", value)


def of_distance(domain: Domain, exclusion: Exclusion) -> list[Term]:
    """The terms of one distance that the domain excludes, the potentials of a point in space and in the plane first."""
    return _of_distance(Term(_distance_name(domain, exclusion), exclusion.distance))


def _of_distance(r: Term) -> list[Term]:
    return [_applied(function, r) for function in _OF_DISTANCE]


def _coordinate(domain: Domain, i: int) -> Term:
    return Term(domain.names[i], lambda x: x[..., i])


def _neighbour(a: Term) -> Term:
    return Term(a.name.replace("_i", "_{i+1}"), lambda x: a.value(x).roll(-1, -1))


def _sum_over_sites(a: Term) -> Term:
    return Term(f"Σ {a.name}", lambda x: a.value(x).sum(-1))


def _applied(function: Function, a: Term) -> Term:
    written, value = function
    name = written.format(a.name)
    if a.name.startswith("("):  # its own parentheses are enough
        name = name.replace("((", "(").replace("))", ")").replace(" (", "(")
    return Term(name, lambda x: value(a.value(x)))


def _product(a: Term, b: Term) -> Term:
    return Term(f"{a.name} {b.name}", lambda x: a.value(x) * b.value(x))


def _quotient(a: Term, b: Term) -> Term:
    return Term(f"{a.name}/{b.name}", lambda x: a.value(x) / b.value(x))


def _sum(a: Term, b: Term) -> Term:
    return Term(f"({a.name} + {b.name})", lambda x: a.value(x) + b.value(x))


def _difference(a: Term, b: Term) -> Term:
    return Term(f"({a.name} − {b.name})", lambda x: a.value(x) - b.value(x))


def _distance_name(domain: Domain, exclusion: Exclusion) -> str:
    """The distance that an exclusion measures, such as `|q|`, `|q1 − q2|` or `|q − (0.2, −0.1)|`."""
    rows = [_combination(row, domain.names) for row in exclusion.matrix]
    centre = [_number(number) for number in exclusion.centre]
    if len(rows) > 1:
        whole = rows == canonical_names(domain.state_dim)[: domain.degrees_of_freedom]
        rows, centre = ["q" if whole else f"({', '.join(rows)})"], [f"({', '.join(centre)})"]
    away = f" − {centre[0]}".replace("− −", "+ ") if any(exclusion.centre) else ""
    return f"|{rows[0]}{away}|"


def _number(value: Number) -> str:
    return f"{value:.4g}".replace("-", "−")


def _combination(row: Sequence[Number], names: Sequence[str]) -> str:
    """A linear combination of coordinates, such as `q1 − q2`."""
    parts = [
        ("− " if factor < 0 else "+ ") + ("" if abs(factor) == 1 else f"{abs(factor):.4g} ") + name
        for factor, name in zip(row, names, strict=True)
        if factor
    ]
    return " ".join(parts).removeprefix("+ ")
