"""Dormand and Prince's Runge-Kutta method of order eight, with SciPy's coefficients, for many systems at once.

??? cite "Reference"

    Hairer, Nørsett, Wanner: Solving ordinary differential equations I. Springer 1993, section II.5 (DOP853) and
    section II.6 (its interpolant of order seven).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Field = Callable[[Float[Tensor, "systems state"]], Float[Tensor, "systems state"]]


class DOP853:
    """The steps of a batch of systems, each of a length of its own."""

    def __init__(self, field: Field, like: Tensor):
        """**Arguments:**

        - `field`: the vector fields, row by row: system i's state is row i.
        - `like`: a tensor whose dtype and device the coefficients get.
        """
        from scipy import integrate  # here: it takes a third of a second, and few commands need it

        self._field, known = field, integrate.DOP853
        self._stages, self._extra, self._weights, self._third, self._fifth, self._dense = (
            torch.as_tensor(rows).to(like) for rows in (known.A, known.A_EXTRA, known.B, known.E3, known.E5, known.D)
        )

    def step(
        self,
        x: Float[Tensor, "systems state"],
        rate: Float[Tensor, "systems state"],
        h: Float[Tensor, " systems"],
    ) -> tuple[Float[Tensor, "systems state"], Float[Tensor, "13 systems state"]]:
        """The states after steps of lengths h, and the rates of all stages; the last are those at the new states."""
        k = x.new_empty(len(self._stages) + 1, *x.shape)
        k[0] = rate
        for i, row in enumerate(self._stages[1:], 1):
            k[i] = self._field(x + h[:, None] * _combined(row[:i], k[:i]))
        new = x + h[:, None] * _combined(self._weights, k[:-1])
        k[-1] = self._field(new)
        return new, k

    def error(
        self,
        k: Float[Tensor, "13 systems state"],
        scale: Float[Tensor, "systems state"],
        h: Float[Tensor, " systems"],
    ) -> Float[Tensor, " systems"]:
        """The errors of the steps in units of the scale: Hairer's combination of those of orders three and five."""
        low = (_combined(self._third, k) / scale).square().sum(-1)
        high = (_combined(self._fifth, k) / scale).square().sum(-1)
        both = (high + 0.01 * low) * scale.shape[-1]
        return torch.where(both == 0, 0.0, h * high / both.sqrt())

    def interpolant(
        self,
        x: Float[Tensor, "systems state"],
        new: Float[Tensor, "systems state"],
        k: Float[Tensor, "13 systems state"],
        h: Float[Tensor, " systems"],
    ) -> Float[Tensor, "7 systems state"]:
        """The coefficients that [`between`][] takes, for three more evaluations of the field."""
        for row in self._extra:
            k = torch.cat([k, self._field(x + h[:, None] * _combined(row[: len(k)], k))[None]])
        change, first, last = new - x, h[:, None] * k[0], h[:, None] * k[12]
        rest = h[:, None] * (self._dense @ k.flatten(1)).view(-1, *x.shape)
        return torch.cat([torch.stack([change, first - change, 2 * change - first - last]), rest])


def between(
    x: Float[Tensor, "rows state"], coefficients: Float[Tensor, "7 rows state"], part: Float[Tensor, " rows"]
) -> Float[Tensor, "rows state"]:
    """The states in a step that begins at x, after the given part of it."""
    part, total = part[:, None], torch.zeros_like(x)
    for i, row in enumerate(reversed(coefficients)):
        total = (total + row) * (part if i % 2 == 0 else 1 - part)
    return x + total


def first_steps(
    x: Float[Tensor, "systems state"], rate: Float[Tensor, "systems state"], scale: Float[Tensor, "systems state"]
) -> Float[Tensor, " systems"]:
    """Lengths to begin with: a hundredth of the time in which a state would change by its size."""
    size, speed = (x / scale).square().mean(-1).sqrt(), (rate / scale).square().mean(-1).sqrt()
    return torch.where((size > 1e-5) & (speed > 1e-5), 0.01 * size / speed, 1e-6).nan_to_num(nan=1e-6)


def _combined(weights: Float[Tensor, " stages"], k: Float[Tensor, "stages systems state"]) -> Tensor:
    """The weighted sum of the stages."""
    return (weights @ k.flatten(1)).view(k.shape[1:])
