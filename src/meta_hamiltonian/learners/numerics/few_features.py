"""Which features a family needs: with few recordings, heads on all features would fit the errors too."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Features are left out as long as the variance that heads leave rises by no more than this, over all of them.
_RISE = 1.25
# Singular values below this part of the largest are rounding.
_RESOLVED = 1e-10


def needed(
    features: Float[Tensor, "tasks rows features"],
    targets: Float[Tensor, "tasks rows outputs"],
    rows: Float[Tensor, " tasks"],
) -> Int[Tensor, " needed"]:
    """The features that are left when those that explain least are taken out, one after another.

    Each task has a head of its own, so that nothing is assumed of the distribution of heads. Smoothed derivatives have
    errors that look like small terms of the law, such as second harmonics; with these, a head that is adapted to a
    short recording is known less well.

    **Arguments:**

    - `features`, `targets`: A and y; rows that a task does not have are 0.
    - `rows`: how many it has.
    """
    features, targets, rows = (part.double() for part in (features, targets, rows))
    sizes = features.square().mean((0, 1)).sqrt().clamp_min(torch.finfo(features.dtype).tiny)
    features = features / sizes
    gram, along, squares = features.mT @ features, features.mT @ targets, targets.square().sum((-2, -1))

    def left(kept: list[int]) -> float:
        """The variance that is left, without the part that so many unknowns fit by chance."""
        own = torch.linalg.pinv(gram[:, kept][:, :, kept], rtol=_RESOLVED, hermitian=True) @ along[:, kept]
        explained = (own * along[:, kept]).sum((-2, -1))
        free = (rows - len(kept)).clamp_min(1.0)
        return ((squares - explained).clamp_min(0.0).sum() / free.sum()).item()

    kept = list(range(features.shape[-1]))
    most = _RISE * left(kept)
    while len(kept) > 1:
        without = [[other for other in kept if other != one] for one in kept]
        found = [left(others) for others in without]
        best = min(range(len(kept)), key=found.__getitem__)
        if found[best] > most:
            break
        kept = without[best]
    return torch.tensor(kept, device=features.device)
