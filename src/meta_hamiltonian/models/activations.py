"""Activations with their derivatives, which the explicit field of a Hamiltonian network needs."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class Activation(NamedTuple):
    """σ, and σ′ as a function of the input a and of h = σ(a), whichever is cheaper."""

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


def _silu_derivative(a: Float[Tensor, "*shape"], h: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    s = torch.sigmoid(a)
    return s + h * (1 - s)


ACTIVATIONS = {
    "tanh": Activation(torch.tanh, lambda a, h: 1 - h * h),
    "softplus": Activation(F.softplus, lambda a, h: torch.sigmoid(a)),
    "sin": Activation(torch.sin, lambda a, h: torch.cos(a)),
    "silu": Activation(F.silu, _silu_derivative),
}
"""All are smooth: the loss of a Hamiltonian network differentiates its output twice."""


def get_activation(name: str) -> Activation:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r} is not known; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
