"""What a learner found out about its family: how many terms there are, and whether the head knows the parameters."""

import dataclasses
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.episodes import Episodes, sample_episodes
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.learners.numerics.least_squares import least_squares
from meta_hamiltonian.systems import SimulatedSystem

# A field is compared on a grid of so many states an axis; beyond one degree of freedom as so many numbers, or as this
# many for each of the systems.
_PER_AXIS, _NUMBERS, _PER_SYSTEM = 15, 10_000, 4
_POINTS = 50
# How many recorded members there must be for each direction of a regression on their heads.
_MEMBERS_EACH = 3
# A contribution of zero, as float64 leaves it.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Identified:
    """What many adapted systems have in common.

    - `singular_values`: those of the predicted fields at many states where all members may be observed. Each field is
        in units of its RMS, and the values are relative to the RMS of all fields: how much each direction contributes.
    - `error`: RMS of the predicted fields' errors in these units; smaller contributions cannot be told from the error.
    - `terms`: how many singular values lie above the error: the number of linearly independent terms of the family.
    - `unknowns`: how many unknowns the learner's heads have, as training has found; a few may hardly contribute. None
        where all weights of a head are free.
    - `latents`: how many unknowns there are beside the head, in which the law is not linear.
    - `r2`: how well the true combinations of parameters that the Hamiltonian is linear in are linear in the head, and
        in latents where there are any, on systems that the regression has not seen.
    """

    singular_values: Float[Tensor, " directions"]
    error: float
    terms: int
    unknowns: int | None
    latents: int
    r2: Mapping[str, float]


def identify(learner: Learner, system: SimulatedSystem, n_systems: int, seed: int = 0) -> Identified:
    """Adapts to new systems, from 50 points each, and looks at what their fields and heads have in common.

    **Arguments:**

    - `learner`: trained.
    - `system`: the family that new members are drawn from.
    - `n_systems`, `seed`: how many, and which.
    """
    tasks = sample_episodes(system, n_systems, _POINTS, 1, seed, "identify", torch.float64)
    parameters = tasks.parameters
    assert parameters is not None
    (adapted,) = learner.adapt_tasks(tasks.support, [learner.default_steps])
    states = _states(system.domain, n_systems)
    states = states[system.admits(states, parameters[:, None]).all(0)]
    x = states.expand(n_systems, *states.shape)
    predicted = adapted.field(x.to(learner.device)).flatten(1).cpu()
    true = system.field(x, parameters[:, None]).flatten(1)
    size = true.square().mean(1, keepdim=True).sqrt()
    error = ((predicted - true) / size).square().mean().sqrt().item()
    values = torch.linalg.svdvals(predicted / size) / (predicted.numel() ** 0.5)

    own = learner.own_numbers(adapted).cpu()
    r2 = {name: _r2(own, value) for name, value in system.linear_parameters(parameters).items()}
    return Identified(
        values, error, int((values > max(error, _ROUNDING)).sum()), _unknowns(learner), learner.net.latents, r2
    )


def identify_recorded(
    learner: Learner, members: Episodes, known: Mapping[str, Float[Tensor, " systems"]]
) -> Identified:
    """Identifies the terms of a family from recorded members, whose true fields nobody knows.

    The error is that of the query's rates when the learner is adapted to the support, in units of each member's RMS; it
    includes the noise of these rates. Whether a known number of the members is linear in the head is told by a
    regression on the directions above the error, from which each member is left out once.

    **Arguments:**

    - `learner`: trained.
    - `members`: with all of their points.
    - `known`: numbers of each member by name.
    """
    (adapted,) = learner.adapt_tasks(members.points, [learner.default_steps])
    states = _states(learner.net.domain, len(members)).to(learner.device)
    predicted = adapted.field(states.expand(len(members), *states.shape)).flatten(1).cpu()
    left, singular, _ = torch.linalg.svd(
        predicted / predicted.square().mean(1, keepdim=True).sqrt(), full_matrices=False
    )
    values = singular / predicted.numel() ** 0.5
    with torch.no_grad():
        loss = learner.meta_loss(members.to(learner.device, next(learner.parameters()).dtype))
    error = (loss / learner.net.state_dim).sqrt().item()
    count = int((values > max(error, _ROUNDING)).sum())
    # At least so many members for each direction, or a regression on few of them would explain anything.
    scores = (left * singular)[:, : max(1, min(count, len(members) // _MEMBERS_EACH))]
    r2 = {name: _r2_left_out(scores, value) for name, value in known.items()}
    return Identified(values, error, count, _unknowns(learner), learner.net.latents, r2)


def _unknowns(learner: Learner) -> int | None:
    heads = learner.family_heads()
    return None if heads is None else heads[1].shape[1]


def _r2_left_out(scores: Float[Tensor, "systems numbers"], value: Float[Tensor, " systems"]) -> float:
    """R² of a linear regression on all systems but the one that it predicts."""
    design = torch.cat([scores, torch.ones_like(scores[:, :1])], dim=1)
    basis, _ = torch.linalg.qr(design)
    left = value - basis @ (basis.mT @ value)
    left = left / (1 - basis.square().sum(-1)).clamp_min(torch.finfo(left.dtype).eps)
    return 1 - (left.square().mean() / value.var(correction=0)).item()


def _states(domain: Domain, n_systems: int) -> Float[Tensor, "states state"]:
    """Where the fields are compared: enough states to tell so many systems apart, few enough in any dimension."""
    if domain.degrees_of_freedom == 1:
        return domain.grid(_PER_AXIS)
    return domain.sobol(max(_NUMBERS, _PER_SYSTEM * n_systems) // domain.state_dim)


def _r2(heads: Float[Tensor, "systems weights"], value: Float[Tensor, " systems"]) -> float:
    """R² of a linear regression on one half of the systems, on the other half."""
    design = torch.cat([heads, torch.ones_like(heads[:, :1])], dim=1)
    design = design / design.square().mean(0).sqrt().clamp_min(torch.finfo(design.dtype).tiny)
    half = len(value) // 2
    solution = least_squares(design[:half], value[:half, None], 1e-12)
    left = value[half:] - (design[half:] @ solution)[:, 0]
    return 1 - (left.square().mean() / value[half:].var()).item()
