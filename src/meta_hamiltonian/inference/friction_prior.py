"""What is known of a system's friction before it is observed: the friction of the other members of its family."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import scipy.stats
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.inference.friction import Kinds

# A member whose friction is so many deviations from that of the others is one of which they tell less.
_UNUSUAL = 3.0
# A coefficient that is so many standard deviations above 0 is not known better by being above 0.
_SURE = 4.0
# One that is so many below 0 cannot be above it.
_NEVER = 30.0


class Gaussian(NamedTuple):
    """The distribution of one number, or a factor of it."""

    mean: float
    deviation: float


@dataclasses.dataclass(frozen=True)
class FrictionPrior:
    """Coefficients d_j ~ N(mean_j, deviation_j²), d_j ≥ 0, of the kinds of friction that a family has.

    - `known`: the distribution of each coefficient over the family.
    - `kinds`, `above_zero`: a law that was fitted, and the factors that keep its coefficients above 0.
    """

    known: Mapping[str, Gaussian]
    kinds: Kinds = ()
    above_zero: Mapping[str, Gaussian] = dataclasses.field(default_factory=dict)

    def after(
        self, kinds: Kinds, found: Float[Tensor, " kinds"], deviations: Float[Tensor, " kinds"]
    ) -> "FrictionPrior":
        """The prior once a law with these kinds was fitted: the others tell less of a member that is far from them, and
        a coefficient that may be 0 is kept above it.

        **Arguments:** `found`, `deviations`: the coefficients and their standard deviations.
        """
        known, above_zero = dict(self.known), {}
        for kind, value, deviation in zip(kinds, found.tolist(), deviations.tolist(), strict=True):
            if kind not in known:
                continue
            mean, spread = known[kind]
            known[kind] = Gaussian(mean, abs(value - mean) if abs(value - mean) > _UNUSUAL * spread else spread)
            if (factor := at_least_zero(value, deviation)) is not None:
                above_zero[kind] = factor
        return FrictionPrior(known, kinds, above_zero)

    def rows(self, kinds: Kinds, like: Tensor) -> tuple[Float[Tensor, "rows kinds"], Float[Tensor, " rows"]]:
        """What is known of the coefficients of a law, as rows A d = b, each with an error of size 1."""
        factors = [(j, self.known[kind]) for j, kind in enumerate(kinds) if kind in self.known]
        if kinds == self.kinds:
            factors += [(j, self.above_zero[kind]) for j, kind in enumerate(kinds) if kind in self.above_zero]
        rows, values = like.new_zeros(len(factors), len(kinds)), like.new_zeros(len(factors))
        for row, (j, (mean, deviation)) in enumerate(factors):
            rows[row, j], values[row] = 1 / deviation, mean / deviation
        return rows, values

    def cost(
        self, kinds: Kinds, found: Float[Tensor, " kinds"], deviations: Float[Tensor, " kinds"], price: float
    ) -> float:
        """What the coefficients of a law cost in twice its log evidence.

        One that the members of the family have costs what its distribution says of the value, and how much less of the
        distribution is left. Another one costs `price`.
        """
        cost = 0.0
        for kind, value, left in zip(kinds, found.tolist(), deviations.tolist(), strict=True):
            if kind in self.known:
                mean, deviation = self.known[kind]
                cost += ((value - mean) / deviation) ** 2 + 2 * math.log(deviation / left)
            else:
                cost += price
        return cost


def at_least_zero(value: float, deviation: float) -> Gaussian | None:
    """The factor that gives N(value, deviation²) the moments of its part above 0.

    **Returns:** None where the value is far above 0, so that the factor would change nothing, or so far below that none
    helps.

    ??? cite "Reference"

        Minka: Expectation propagation for approximate Bayesian inference. UAI 2001.
    """
    below = -value / deviation
    if not -_SURE < below < _NEVER:
        return None
    ratio = math.exp(scipy.stats.norm.logpdf(below) - scipy.stats.norm.logsf(below))
    mean, variance = value + deviation * ratio, deviation**2 * (1 + below * ratio - ratio**2)
    precision = 1 / variance - 1 / deviation**2
    return Gaussian((mean / variance - value / deviation**2) / precision, precision**-0.5)
