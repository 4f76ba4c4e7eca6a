"""The random numbers of NumPy's Philox on any device, and any of them at once."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

# The multipliers and the steps of the key of Philox4x64-10, and its rounds (Salmon et al. 2011, table 2 and section 4).
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_STEPS, _ROUNDS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B), 10
_LOW = 2**32 - 1


def philox(counters: Int[Tensor, " blocks"], key: Sequence[int]) -> Int[Tensor, "blocks 4"]:
    """Philox4x64-10 of the counters (c, 0, 0, 0), as 64 bits each: a negative integer is one above 2⁶³.

    ??? cite "Reference"

        Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
    """
    multipliers = counters.new_tensor([[_signed(m)] for m in _MULTIPLIERS])
    m_low, m_high = multipliers & _LOW, multipliers >> 32 & _LOW
    even = torch.stack([counters, torch.zeros_like(counters)])  # the words that are multiplied
    odd = torch.zeros_like(even)
    for turn in range(_ROUNDS):
        keys = counters.new_tensor([[_signed(k + turn * step)] for k, step in zip(key, _STEPS, strict=True)])
        low, high = even & _LOW, even >> 32 & _LOW
        # The upper half of the product of 128 bits, by halves of the factors.
        middle = high * m_low + (low * m_low >> 32 & _LOW)
        other = low * m_high + (middle & _LOW)
        upper = high * m_high + (middle >> 32 & _LOW) + (other >> 32 & _LOW)
        even, odd = upper.flip(0) ^ odd ^ keys, (even * multipliers).flip(0)
    return torch.stack([even[0], odd[0], even[1], odd[1]], dim=-1)


def _signed(word: int) -> int:
    """The 64 bits of a number as those of a signed one."""
    word %= 2**64
    return word - 2**64 if word >= 2**63 else word
