"""How far a forecast can be trusted: its expected error, relative to the size of the motion."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.models import Adapted

TOLERATED = 0.2
"""A forecast with a larger error, as a part of the motion's size, is said to be of little worth."""

# A motion that is smaller than this part of the box counts as large as this part.
_SMALLEST = 1e-3
# Errors are no larger than those of an orbit whose phase is random.
_LOST = math.sqrt(2.0)
# The median of the absolute value of a standard normal variable.
_MEDIAN = 0.6745


class Outlook(NamedTuple):
    """The expected error of a forecast.

    - `error`: RMS over the instants and coordinates, each in units of the standard deviation of its motion.
    - `until`: the time at which the error becomes larger than is tolerated; infinite if it does not.
    """

    error: float
    until: float

    @property
    def worthless(self) -> bool:
        """Whether the error is larger than is tolerated."""
        return not self.error <= TOLERATED


def _outlook(errors: Float[Tensor, " instants"], t: Float[Tensor, " instants"]) -> Outlook:
    beyond = (~(errors <= TOLERATED)).nonzero()[:, 0]
    until = t[beyond[0]].item() if len(beyond) else math.inf
    return Outlook(errors.square().mean().sqrt().item(), until)


def size_of_motion(x: Float[Tensor, "instants state"], domain: Domain) -> Float[Tensor, " state"]:
    """The standard deviation of each coordinate along an orbit."""
    least = _SMALLEST * x.new_tensor(domain.half_widths)
    return (x - x.mean(0)).square().mean(0).sqrt().maximum(least)


def of_samples(
    states: Float[Tensor, "samples instants state"],
    x: Float[Tensor, "instants state"],
    t: Float[Tensor, " instants"],
    domain: Domain,
) -> Outlook:
    """The outlook from orbits of samples of a posterior, beside the orbit that is forecast."""
    away = (states - x).abs().median(0).values / _MEDIAN / size_of_motion(x, domain)
    return _outlook(away.square().mean(-1).sqrt(), t)


def of_pace(
    error: float, adapted: Adapted, x: Float[Tensor, "instants state"], t: Float[Tensor, " instants"]
) -> Outlook:
    """The outlook from the relative error of the field: by as much orbits are too fast or slow, too large or small."""
    size = size_of_motion(x, adapted.domain)
    moved = (t - t[0])[:, None] * adapted.field(x) / size  # by which the phase is off, for a relative error of 1
    lag = (error * moved).square().mean(-1).sqrt()
    return _outlook((lag.square() + error**2).sqrt().clamp(max=_LOST), t)


def of_tail(error: float, duration: float, t: Float[Tensor, " instants"]) -> Outlook:
    """The outlook from the error of what was held out, which grows with time as a lag of the phase does.

    **Arguments:** `error`: RMS over an earlier forecast of this `duration`, relative to the motion.
    """
    growing = math.sqrt(3.0) * error * (t - t[0]) / duration
    return _outlook(growing.clamp(max=_LOST), t)
