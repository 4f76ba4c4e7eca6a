"""How the coefficients of friction are distributed over a family of recordings."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.dynamics import FRICTION

# What is thought of the spread before any member is seen, as a part of the mean, and how many members that is worth.
_SPREAD, _WORTH = 1.0, 1.0


class FamilyFriction(nn.Module):
    """d_j ~ N(mean_j, deviation_j²), d_j ≥ 0, for each kind of friction that the members of a family have.

    A short recording may hardly tell weak friction from none, and yet its forecast needs it. What the other members
    have is then the best guess, and their spread tells how good a guess it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        for name in ("mean", "deviation"):  # 0 for kinds that the members do not have
            self.register_buffer(name, torch.zeros(len(FRICTION), dtype=torch.float64))

    @property
    def known(self) -> Mapping[str, tuple[float, float]]:
        """Mean and standard deviation of the coefficient of each kind that the members have."""
        each = zip(FRICTION, self.mean.tolist(), self.deviation.tolist(), strict=True)
        return {kind: (mean, deviation) for kind, mean, deviation in each if deviation > 0}

    def estimate(self, kinds: Sequence[str], coefficients: Float[Tensor, "members kinds"]) -> None:
        """Takes the distribution from the coefficients of some members.

        Few members do not tell their spread. It is therefore shrunk towards the size of the mean, which counts as one
        member more, and widened for the error of the mean. Of coefficients that are all 0 nothing is learned.
        """
        self.mean.zero_()
        self.deviation.zero_()
        members = len(coefficients)
        for kind, found in zip(kinds, coefficients.unbind(-1), strict=True):
            mean = found.mean().clamp_min(0.0)
            squares = (found - mean).square().sum() + _WORTH * (_SPREAD * mean).square()
            variance = squares / (members - 1 + _WORTH) * (1 + 1 / members)
            place = list(FRICTION).index(kind)
            self.mean[place], self.deviation[place] = mean, variance.sqrt()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, value in self.named_buffers():  # checkpoints of earlier versions have none
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
