"""In how many directions the heads of a family differ."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Episodes
from meta_hamiltonian.learners.numerics.linear_head import balanced, head_problem
from meta_hamiltonian.models import FieldNetwork

# More directions are taken only while they make the held-out loss smaller by this factor in all; of those that a body
# was trained with, by a smaller one, since they may be looked through several times.
WORTH, _WORTH_AMONG = 3.0, 1.3
# They are taken only while that loss is larger than this: nobody measures a field to three parts in a million.
ENOUGH = 1e-11
# The smallest variance around the field: far above what rounding leaves, far below what any body reaches.
_RESOLVED = 1e-20
# The ridge of heads that may differ in any way, as a part of the noise: one as large as the noise would bend them.
_SMALLER = 1e-4


class Directions(NamedTuple):
    """The directions in which the heads of many tasks differ most.

    - `mean`: the mean head.
    - `factor`: the directions, each times its singular value.
    - `singular_values`: the RMS of what each direction contributes to the scaled fields, for all directions.
    - `losses`: the mean query loss of heads that are fitted to the support sets in the first r directions alone, for
        r = 1, 2, …
    - `rank`: the smallest r whose loss is not much larger than the least one, or small enough.
    """

    mean: Float[Tensor, "features outputs"]
    factor: Float[Tensor, "features directions"]
    singular_values: Float[Tensor, " values"]
    losses: Float[Tensor, " ranks"]
    rank: int


class HeadRows(NamedTuple):
    """The rows and targets of many tasks' heads, in float64.

    - `support`, `query`: A and y of the two sets.
    - `triangle`: R of the QR decomposition of all rows, divided by the root of their number: R w is as large as the
        field of a head w.
    """

    support: tuple[Float[Tensor, "tasks rows features"], Float[Tensor, "tasks rows outputs"]]
    query: tuple[Float[Tensor, "tasks rows features"], Float[Tensor, "tasks rows outputs"]]
    triangle: Float[Tensor, "features features"]

    @staticmethod
    def of(net: FieldNetwork, tasks: Episodes, z: Float[Tensor, "tasks latents"] | None = None) -> "HeadRows":
        """**Arguments:** `tasks`: scaled as in training; `z`: their latents, where the network has any."""
        a, y = (balanced(net, part.double()) for part in head_problem(net, tasks.support, z))
        a_query, y_query = (balanced(net, part.double()) for part in head_problem(net, tasks.query, z))
        design = torch.cat([a, a_query], dim=1)
        triangle = torch.linalg.qr(design.flatten(0, 1), mode="r").R / design[..., 0].numel() ** 0.5
        return HeadRows((a, y), (a_query, y_query), triangle)


def find_directions(
    rows: HeadRows,
    noise: float,
    most: int,
    among: tuple[Float[Tensor, "features outputs"], Float[Tensor, "features columns"]] | None = None,
) -> Directions:
    """Fits a head to all points of every task, and looks at how these heads differ.

    Heads are compared by their fields, so that directions that change no field count for nothing. Few directions are
    enough where heads that are fitted to the support sets in these directions predict the query sets as well as heads
    in many directions.

    **Arguments:**

    - `rows`: those of held-out tasks.
    - `noise`: variance of the observations.
    - `most`: directions to look at.
    - `among`: heads are w₀ and combinations of columns of L, these two; None is any head.
    """
    (support, y), (query, target), triangle = rows
    design, targets = torch.cat([support, query], dim=1), torch.cat([y, target], dim=1)
    if among is None:
        heads, worth = _ridge(design, targets, _SMALLER * noise), WORTH
    else:
        own, columns = (part.double() for part in among)
        heads = own + columns @ _ridge(design @ columns, targets - design @ own, _RESOLVED)
        most, worth = min(most, columns.shape[-1]), _WORTH_AMONG
    misfit = (targets - design @ heads).square().mean().item()
    mean = heads.mean(0)
    each = (heads - mean).mT.flatten(0, 1) / (len(heads) * heads.shape[-1]) ** 0.5
    weights, values, _ = torch.linalg.svd(each @ triangle.mT, full_matrices=False)
    factor = each.mT @ weights
    most = min(most, factor.shape[-1])
    design, held_out = support @ factor[:, :most], query @ factor[:, :most]
    left, wanted = y - support @ mean, target - query @ mean
    losses = torch.stack(
        [
            (held_out[..., :r] @ _ridge(design[..., :r], left, max(_RESOLVED, misfit)) - wanted).square().mean()
            for r in range(1, most + 1)
        ]
    )
    rank = 1 + int((losses <= (worth * losses.min()).clamp_min(ENOUGH)).long().argmax())
    return Directions(mean, factor[:, :most], values, losses, rank)


def _ridge(
    design: Float[Tensor, "tasks rows columns"], targets: Float[Tensor, "tasks rows outputs"], noise: float
) -> Float[Tensor, "tasks columns outputs"]:
    """Means of coefficients that are N(0, 1) before, by QR: normal equations would lose half of the digits.

    The targets stand beside the design, so that R alone tells the solution: Q costs a GPU a call for each task.
    """
    tasks, _, columns = design.shape
    eye = (noise**0.5 * torch.eye(columns, dtype=design.dtype, device=design.device)).expand(tasks, -1, -1)
    both = torch.cat(
        [torch.cat([design, targets], dim=-1), torch.nn.functional.pad(eye, (0, targets.shape[-1]))], dim=1
    )
    triangle = torch.linalg.qr(both, mode="r").R[:, :columns]
    return torch.linalg.solve_triangular(triangle[..., :columns], triangle[..., columns:], upper=True)
