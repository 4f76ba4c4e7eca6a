"""Forces that take energy out of a system: the gradients of Rayleigh functions."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# Dry friction is smooth below this part of the RMS of the observed velocities.
_SLOW = 0.01


class Friction(NamedTuple):
    """A kind of friction: dp/dt = −∂H/∂q − d ∂R/∂v with a coefficient d ≥ 0 and velocities v = dq/dt.

    - `rayleigh`: R(v, width), summed over the coordinates, `[...]`.
    - `force`: ∂R/∂v, `[..., n]`. Its product with v is nowhere negative, so that d ≥ 0 takes energy out.
    - `of`: what the coefficient is a factor of, in words.
    - `slope`: how each component of the force changes with its own velocity, `[..., n]`.

    `width` is the speed below which dry friction is smoothed; the other kinds have none.
    """

    rayleigh: Callable[[Float[Tensor, "*batch n"], float], Float[Tensor, "*batch"]]
    force: Callable[[Float[Tensor, "*batch n"], float], Float[Tensor, "*batch n"]]
    of: str
    slope: Callable[[Float[Tensor, "*batch n"], float], Float[Tensor, "*batch n"]]


FRICTION: Mapping[str, Friction] = {
    "viscous": Friction(
        lambda v, _: v.square().sum(-1) / 2,
        lambda v, _: v,
        "v",
        lambda v, _: torch.ones_like(v),
    ),
    "quadratic": Friction(
        lambda v, _: v.abs().pow(3).sum(-1) / 3,
        lambda v, _: v * v.abs(),
        "v |v|",
        lambda v, _: 2 * v.abs(),
    ),
    # log cosh without overflow.
    "dry": Friction(
        lambda v, width: width * _log_cosh(v / width).sum(-1),
        lambda v, width: torch.tanh(v / width),
        "sign v",
        lambda v, width: (1 - torch.tanh(v / width).square()) / width,
    ),
}
"""Viscous (Stokes), quadratic (Newton) and dry (Coulomb) friction, the last smoothed around v = 0.

??? cite "Reference"

    The Rayleigh function: Goldstein, Poole, Safko: Classical mechanics, 3rd edition, section 1.5. A network for it:
    Greydanus, Sosanya: Dissipative Hamiltonian neural networks. arXiv:2201.10085, equation (4).
"""


def friction_width(v: Float[Tensor, "points n"]) -> float:
    """The speed below which dry friction is smooth, for a system that was observed at these velocities."""
    return _SLOW * v.square().mean().sqrt().clamp_min(torch.finfo(v.dtype).tiny).item()


def _log_cosh(x: Tensor) -> Tensor:
    return torch.logaddexp(x, -x) - torch.log(x.new_tensor(2.0))
