"""The few columns of many that meet a target best: sparse regression by sequential replacement."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

# A column that lies this near to the span of those that are chosen adds nothing but cancellation.
_INDEPENDENT = 0.01
# The first column that fits nearly as much as the best one, up to this part, is added.
_SLACK = 0.05
# An error must fall by this part at least, so that no rounding goes round in circles.
_GAIN = 1e-3
# Errors below this are rounding.
_ROUNDING = 1e-11
# Columns are exchanged two at a time once the error is below this, where the pairs to be compared are no more than
# so many.
_NEAR, _MOST_PAIRS = 0.3, 1e7
_TINY = 1e-300


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of the columns.

    - `columns`: their numbers, in their order.
    - `error`: what least squares on them leave of the target, relative to its norm.
    """

    columns: tuple[int, ...]
    error: float


class SubsetSearch:
    """Least squares on few of many columns.

    One QR decomposition makes the rows as few as the columns, and every later step is a few products of matrices of
    that size. A column that is nearly a combination of the chosen ones is never added to them, since the coefficients
    would be large and cancel each other.

    ??? cite "Reference"

        Sequential replacement: Miller: Subset selection in regression. 2nd edition, Chapman and Hall, 2002, section
        3.4. The way back to fewer columns: Pudil, Novovičová, Kittler: Floating search methods in feature selection.
        Pattern Recognition Letters 15, 1994.
    """

    def __init__(self, design: Float[Tensor, "rows columns"], target: Float[Tensor, " rows"]):
        """**Arguments:**

        - `design`: columns of any size, the simplest first; those that are 0 are never chosen.
        - `target`: what a few of them are to meet.
        """
        norms = design.norm(dim=0)
        scaled = design / torch.where(norms > 0, norms, 1.0)
        scaled_target = target / target.norm().clamp_min(torch.finfo(target.dtype).tiny)
        reduced = torch.linalg.qr(torch.cat([scaled, scaled_target[:, None]], dim=1), mode="r").R
        self._columns, self._target = reduced[:, :-1], reduced[:, -1]

    def path(self, most: int) -> Iterator[Subset]:
        """The best subsets that are found with no column, with one, with two, and so on up to `most`. A better subset
        of the same size may come later.

        From one size to the next, the column that lowers the error most is added; then columns are exchanged, one or
        two at a time, as long as the error falls. Where dropping one column gives a smaller error than the best subset
        of that size so far, the search goes on from there.
        """
        found = [self.subset(())]
        yield found[-1]
        while len(found) <= most and found[-1].error > _ROUNDING:
            errors = self._rest(found[-1]).errors_with_one()
            if not errors.isfinite().any():
                return
            fitted = found[-1].error ** 2 - errors.square()
            first = int((fitted >= (1 - _SLACK) * fitted.max()).nonzero()[0])
            found.append(self._improved(self.subset((*found[-1].columns, first))))
            yield found[-1]
            while len(found) > 2 and _better(smaller := self._smaller(found[-1]), found[-2]):
                found[-2:] = [self._improved(smaller)]
                yield found[-1]

    def simplest(self, subset: Subset, allowed: float) -> Subset:
        """The subset with columns exchanged for earlier ones, one or two at a time, while the error is allowed."""
        numbers = torch.arange(self._columns.shape[1])
        while True:
            best, lowest = subset, sum(subset.columns)
            for kept, errors in itertools.chain(self._exchanges(subset, 1), self._exchanges(subset, 2)):
                sums = numbers if errors.dim() == 1 else numbers[:, None] + numbers
                sums = torch.where(errors <= allowed, sums + sum(kept), lowest)
                if sums.min() < lowest:
                    best, lowest = self.subset((*kept, *_place(sums))), int(sums.min())
            if best is subset:
                return subset
            subset = best

    def alternatives(self, subset: Subset, allowed: float) -> Iterator[tuple[int, int]]:
        """Pairs of a chosen column and one that could take its place within the allowed error, except for columns that
        are the same by an identity.
        """
        identical = self._rest(subset).gram.diagonal() < _ROUNDING
        for chosen, (_, errors) in zip(subset.columns, self._exchanges(subset, 1), strict=True):
            for other in ((errors <= allowed) & ~identical).nonzero()[:, 0].tolist():
                yield chosen, other

    def subset(self, columns: Sequence[int]) -> Subset:
        """These columns, with what they leave."""
        columns = tuple(sorted(columns))
        basis, _ = torch.linalg.qr(self._columns[:, list(columns)])
        return Subset(columns, (self._target - basis @ (basis.mT @ self._target)).norm().item())

    def _smaller(self, subset: Subset) -> Subset:
        """The subset without the column that is missed least."""
        fewer = itertools.combinations(subset.columns, len(subset.columns) - 1)
        return min(map(self.subset, fewer), key=lambda found: found.error)

    def _improved(self, subset: Subset) -> Subset:
        """The subset with columns exchanged, one or two at a time, until no exchange leaves less."""
        while subset.error > _ROUNDING:
            for count in (1, 2) if subset.error < _NEAR else (1,):
                exchanges = self._exchanges(subset, count)
                kept, errors = min(exchanges, key=lambda exchange: float(exchange[1].min()), default=((), None))
                if errors is not None and _better(found := self.subset((*kept, *_place(errors))), subset):
                    subset = found
                    break
            else:
                break
        return subset

    def _exchanges(self, subset: Subset, count: int) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """The errors with one or two of the chosen columns exchanged: the columns kept, and the errors by the numbers
        of the new ones, infinite for columns that depend on the kept ones.

        Two at a time there are none where that would take long.
        """
        chosen = subset.columns
        if count == 2 and (len(chosen) * self._columns.shape[1]) ** 2 / 4 > _MOST_PAIRS:
            return
        rest = self._rest(subset)
        basis, triangle = torch.linalg.qr(self._columns[:, list(chosen)])
        # Unit vectors in the span of the chosen columns, each orthogonal to all of them but its own.
        own = torch.linalg.solve_triangular(triangle, basis.mT, upper=True)
        own = own / own.norm(dim=1, keepdim=True)
        for places in itertools.combinations(range(len(chosen)), count):
            freed, _ = torch.linalg.qr(own[list(places)].mT)
            left = rest.with_directions(freed.mT @ self._columns, freed.mT @ self._target)
            kept = tuple(column for place, column in enumerate(chosen) if place not in places)
            yield kept, left.errors_with_one() if count == 1 else left.errors_with_two()

    def _rest(self, subset: Subset) -> "_Rest":
        basis, _ = torch.linalg.qr(self._columns[:, list(subset.columns)])
        columns = self._columns - basis @ (basis.mT @ self._columns)
        target = self._target - basis @ (basis.mT @ self._target)
        return _Rest(columns.mT @ columns, columns.mT @ target, target.square().sum())


@dataclasses.dataclass(frozen=True)
class _Rest:
    """The parts of all columns and of the target that the chosen columns do not fit.

    - `gram`, `fits`: products of the columns with each other and with the target.
    - `left`: the square of the target.
    """

    gram: Float[Tensor, "columns columns"]
    fits: Float[Tensor, " columns"]
    left: Float[Tensor, ""]

    def with_directions(
        self, along: Float[Tensor, "directions columns"], lost: Float[Tensor, " directions"]
    ) -> "_Rest":
        """The rest for fewer chosen columns: with the parts along directions that these no longer fit."""
        return _Rest(self.gram + along.mT @ along, self.fits + along.mT @ lost, self.left + lost.square().sum())

    def errors_with_one(self) -> Float[Tensor, " columns"]:
        """The errors with any one column more."""
        size = self.gram.diagonal()
        return self._errors(self.fits.square() / size.clamp_min(_TINY), size)

    def errors_with_two(self) -> Float[Tensor, "columns columns"]:
        """The errors with any two columns more, whose normal equations are solved by Cramer's rule."""
        size, fits = self.gram.diagonal(), self.fits
        determinant = size[:, None] * size - self.gram.square()
        crossed = fits.square()[:, None] * size
        fitted = (crossed + crossed.mT - 2 * fits[:, None] * fits * self.gram) / determinant.clamp_min(_TINY)
        return self._errors(fitted, determinant / torch.maximum(size[:, None], size).clamp_min(_TINY))

    def _errors(self, fitted: Tensor, independent: Tensor) -> Tensor:
        return torch.where(independent > _INDEPENDENT**2, (self.left - fitted).clamp_min(0).sqrt(), torch.inf)


def _better(found: Subset, than: Subset) -> bool:
    return found.error < (1 - _GAIN) * than.error


def _place(values: Tensor) -> tuple[int, ...]:
    """Where the smallest one is."""
    return tuple(int(index) for index in torch.unravel_index(values.argmin(), values.shape))
