"""Where the likely latents of a new member are, by evidence, from several starts."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.learners.numerics.latents import starts
from meta_hamiltonian.learners.numerics.posterior import Posterior

# How many starts are tried for each latent, and at most; how many of the best are followed.
_EACH, _MOST, _FOLLOWED = 16, 64, 4
# The most steps; a step that raises no log evidence by so much is the last.
_STEPS, _SETTLED = 12, 1e-3
# A step that is too long is shortened by this factor, down to this part of its length.
_SHORTER, _SHORTEST = 0.25, 1e-3

Regression = Callable[
    [Int[Tensor, " some"], Float[Tensor, "some latents"], Float[Tensor, "some unknowns outputs"] | None], Posterior
]
"""The regression of some tasks at given latents: on their heads, or where u is given, on heads and latents,
linearised there."""


class Answers(NamedTuple):
    """The unknowns that several starts have led to, for each task, the likeliest first.

    - `u`: those of the head, and then the latents.
    - `log_evidence`: that of the observations and z, integrated over the head.
    """

    u: Float[Tensor, "tasks followed unknowns outputs"]
    log_evidence: Float[Tensor, "tasks followed"]

    @property
    def best(self) -> Float[Tensor, "tasks unknowns outputs"]:
        """The likeliest unknowns of each task."""
        return self.u[:, 0]


def search(regression: Regression, tasks: int, latents: int, like: Tensor, at_once: int) -> Answers:
    """Raises log p(y | z) + log p(z), z ~ N(0, I), from the best of many starts.

    Each step goes to the posterior mean of the regression that is linearised at z, or part of the way (Gauss-Newton).
    Heads, noise and the width of the heads' prior are integrated over at every z, so that a start from a bad z is not
    misled by a wrong noise.

    **Arguments:**

    - `tasks`, `latents`: how many there are.
    - `like`: tells dtype and device.
    - `at_once`: regressions that are made together.
    """
    first = starts(latents, min(_EACH * latents, _MOST)).to(like)
    every = torch.arange(tasks, device=like.device)
    which, z = every.repeat_interleave(len(first)), first.repeat(tasks, 1)
    found = [_at(regression, a, b) for a, b in zip(which.split(at_once), z.split(at_once), strict=True)]
    scores = torch.cat([score for score, _ in found]).view(tasks, -1)
    kept = min(_FOLLOWED, len(first))
    chosen = scores.topk(kept, dim=1).indices
    u = torch.cat([own for _, own in found]).unflatten(0, scores.shape)
    u = u.gather(1, chosen[..., None, None].expand(-1, -1, *u.shape[2:])).flatten(0, 1)
    which, z, score = every.repeat_interleave(kept), first[chosen].flatten(0, 1), scores.gather(1, chosen).flatten()
    parts = [
        _climb(regression, *part)
        for part in zip(*(value.split(at_once) for value in (which, z, u, score)), strict=True)
    ]
    u, score = (torch.cat(values).unflatten(0, (tasks, kept)) for values in zip(*parts, strict=True))
    order = score.argsort(dim=1, descending=True)
    return Answers(u.gather(1, order[..., None, None].expand_as(u)), score.gather(1, order))


def _at(regression: Regression, which: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The log evidence at these latents, and the mean of the head's unknowns."""
    posterior = regression(which, z, None)
    return posterior.relative_evidence - z.square().sum(-1) / 2, posterior.mean


def _climb(regression: Regression, which: Tensor, z: Tensor, own: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """The unknowns, and their log evidence, after as many steps as raise it."""
    length = torch.ones_like(score)
    for _ in range(_STEPS):
        at = torch.cat([own, z.unsqueeze(-1).expand(-1, -1, own.shape[-1])], dim=1)
        towards = regression(which, z, at).mean[:, own.shape[1] :, 0]
        trial = z + length[:, None] * (towards - z)
        new_score, new_own = _at(regression, which, trial)
        better = new_score > score
        settled = ~better & (length <= _SHORTEST) | better & (new_score - score < _SETTLED)
        length = torch.where(better, (length / _SHORTER).clamp_max(1.0), _SHORTER * length)
        z, own = torch.where(better[:, None], trial, z), torch.where(better[:, None, None], new_own, own)
        score = torch.where(better, new_score, score)
        if bool(settled.all()):
            break
    return torch.cat([own, z.unsqueeze(-1).expand(-1, -1, own.shape[-1])], dim=1), score
