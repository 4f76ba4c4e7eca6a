"""Products of several inputs, powers of distances, and products of these, as terms of an energy."""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


def higher_terms(
    positions: Sequence[int], momenta: Sequence[int], waves: Sequence[int], degree: int, most: int
) -> list[tuple[int, ...]]:
    """Products beyond the squares that energies may have, at most so many.

    These are products of a length and a wave, such as the potential r cos φ; of two momenta and a wave, as in kinetic
    energies of arms and carts; and for each degree from the third on, products of all lengths, or where they are too
    many, those of positions alone and of momenta alone, or of positions alone.

    **Arguments:**

    - `positions`, `momenta`, `waves`: the numbers of the inputs that are lengths, of those that are momenta, and of
        cosines and sines.
    - `degree`: the highest number of factors, 2 for no products at all.
    - `most`: how many products there may be.
    """
    if degree < 3:
        return []
    powers = itertools.combinations_with_replacement
    found: list[tuple[int, ...]] = []

    def added(*choices: list[tuple[int, ...]]) -> bool:
        """Whether the first of these sets that is small enough was added."""
        fitting = next((one for one in choices if len(found) + len(one) <= most), None)
        found.extend(fitting or [])
        return fitting is not None

    added([(length, wave) for length in positions for wave in waves])
    added([(*pair, wave) for pair in powers(momenta, 2) for wave in waves])
    for factors in range(3, degree + 1):
        of_positions, of_momenta = list(powers(positions, factors)), list(powers(momenta, factors))
        every = list(powers([*positions, *momenta], factors))
        if not added(every, of_positions + of_momenta, of_positions):
            break
    return found


class Monomials(nn.Module):
    """Products uᵢ uⱼ uₖ … of inputs u, and their derivatives, written out."""

    def __init__(self, products: Sequence[Sequence[int]], size: int):
        """**Arguments:**

        - `products`: the numbers of the factors of each product, at least one product.
        - `size`: of u.
        """
        super().__init__()
        most = max(2, *map(len, products))
        # Those with fewer factors have the factor 1, which stands before the inputs.
        places = torch.tensor([[*(i + 1 for i in one), *[0] * (most - len(one))] for one in products])
        which = torch.nn.functional.one_hot(places, size + 1)[..., 1:].to(torch.get_default_dtype())
        pairs = [(which[:, k, :, None] * which[:, l, None, :]).flatten(1) for k, l in self._pairs(most)]
        self.places: Tensor
        self.which: Tensor
        self.both: Tensor
        self.register_buffer("places", places, persistent=False)
        # Which input each factor is, [products, factors, size], and each two factors, [pairs products, size²].
        self.register_buffer("which", which, persistent=False)
        self.register_buffer("both", torch.cat(pairs), persistent=False)

    @staticmethod
    def _pairs(factors: int) -> list[tuple[int, int]]:
        return list(itertools.combinations(range(factors), 2))

    def _factors(self, u: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(u[..., :1]), u], dim=-1)[..., self.places]

    def forward(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch products"]:
        """The products."""
        return _product(self._factors(u).unbind(-1))

    def rates(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch products size"]:
        """∂/∂u of each product."""
        factors = self._factors(u).unbind(-1)
        rates = torch.zeros((), dtype=u.dtype, device=u.device)
        for k in range(len(factors)):
            rates = rates + _product([*factors[:k], *factors[k + 1 :]]).unsqueeze(-1) * self.which[:, k]
        return rates

    def gradient(
        self, u: Float[Tensor, "*batch size"], c: Float[Tensor, "*tasks products"]
    ) -> Float[Tensor, "*batch size"]:
        """∂/∂u of the sum of the products with these coefficients, which broadcast over the batch."""
        factors = self._factors(u).unbind(-1)
        others = torch.stack([_product([*factors[:k], *factors[k + 1 :]]) for k in range(len(factors))], dim=-1)
        return (c.unsqueeze(-1) * others).flatten(-2) @ self.which.flatten(0, 1)

    def hessian(
        self, u: Float[Tensor, "*batch size"], c: Float[Tensor, "*tasks products"]
    ) -> Float[Tensor, "*batch size size"]:
        """∂²/∂u² of the same sum."""
        factors = self._factors(u).unbind(-1)
        others = [
            _product([c, *(one for i, one in enumerate(factors) if i not in pair)])
            for pair in self._pairs(len(factors))
        ]
        half = (torch.cat(others, dim=-1) @ self.both).unflatten(-1, (u.shape[-1], u.shape[-1]))
        return half + half.mT


class Exponentials(nn.Module):
    """exp(aᵢ uᵢ) of some inputs, and their derivatives: powers of a distance whose logarithm is an input."""

    def __init__(self, terms: Sequence[tuple[int, float]], size: int):
        """**Arguments:**

        - `terms`: i and aᵢ of each, at least one.
        - `size`: of u.
        """
        super().__init__()
        slopes = torch.zeros(len(terms), size, dtype=torch.float64)
        for row, (place, a) in enumerate(terms):
            slopes[row, place] = a
        self._slopes = slopes
        self.slopes: Tensor
        self.register_buffer("slopes", slopes.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Exponentials":
        # `double()` would keep the digits that float32 has of aᵢ.
        super()._apply(fn, recurse)
        self.slopes = self._slopes.to(self.slopes)
        return self

    def forward(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch terms"]:
        """The exponentials."""
        return (u @ self.slopes.mT).exp()

    def rates(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch terms size"]:
        """∂/∂u of each."""
        return self(u).unsqueeze(-1) * self.slopes

    def gradient(
        self, u: Float[Tensor, "*batch size"], c: Float[Tensor, "*tasks terms"]
    ) -> Float[Tensor, "*batch size"]:
        """∂/∂u of the sum of the terms with these coefficients, which broadcast over the batch."""
        return (c * self(u)) @ self.slopes

    def hessian(
        self, u: Float[Tensor, "*batch size"], c: Float[Tensor, "*tasks terms"]
    ) -> Float[Tensor, "*batch size size"]:
        """∂²/∂u² of the same sum."""
        return ((c * self(u)).unsqueeze(-2) * self.slopes.mT) @ self.slopes


class Quotients(nn.Module):
    """Products of a monomial and an exponential, such as p²/r² for a distance r whose logarithm is an input."""

    def __init__(self, terms: Sequence[tuple[Sequence[int], tuple[int, float]]], size: int):
        """**Arguments:**

        - `terms`: of each, the numbers of the factors of the monomial, and i and aᵢ of exp(aᵢ uᵢ); at least one.
        - `size`: of u.
        """
        super().__init__()
        monomials, exponentials = zip(*terms, strict=True)
        self.monomials, self.exponentials = Monomials(monomials, size), Exponentials(exponentials, size)

    def forward(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch terms"]:
        """The products."""
        return self.monomials(u) * self.exponentials(u)

    def rates(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch terms size"]:
        """∂/∂u of each."""
        m, e = self.monomials, self.exponentials
        return m.rates(u) * e(u).unsqueeze(-1) + m(u).unsqueeze(-1) * e.rates(u)

    def gradient(
        self, u: Float[Tensor, "*batch size"], c: Float[Tensor, "*tasks terms"]
    ) -> Float[Tensor, "*batch size"]:
        """∂/∂u of the sum of the terms with these coefficients, which broadcast over the batch."""
        m, e = self.monomials, self.exponentials
        return m.gradient(u, c * e(u)) + e.gradient(u, c * m(u))

    def hessian(
        self, u: Float[Tensor, "*batch size"], c: Float[Tensor, "*tasks terms"]
    ) -> Float[Tensor, "*batch size size"]:
        """∂²/∂u² of the same sum."""
        m, e = self.monomials, self.exponentials
        both = (c.unsqueeze(-1) * m.rates(u)).mT @ e.rates(u)
        return m.hessian(u, c * e(u)) + e.hessian(u, c * m(u)) + both + both.mT


def _product(factors: Sequence[Tensor]) -> Tensor:
    return functools.reduce(operator.mul, factors)
