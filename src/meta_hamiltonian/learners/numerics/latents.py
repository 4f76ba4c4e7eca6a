"""Unknowns that no linear head can follow: a member's latents z, found together with its head."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.learners.numerics.gram import cholesky_solve

# The most Gauss-Newton steps of a start; one that lowers a member's cost by no more than so much is its last.
_STEPS, _SETTLED = 12, 1e-5
# The damping of a member's steps: what it starts from, by what it changes, and where no step would matter.
_DAMPING, _LESS, _MORE, _LARGEST = 1e-3, 0.1, 10.0, 1e3
# Newton steps at the end, where derivatives are wanted, and how long one may be.
_NEWTON, _NEAR = 3, 0.3
# Rounding is no misfit.
_TINY = 1e-30


class Rows(NamedTuple):
    """The rows of many tasks with given latents.

    - `design`: B = A(z) L.
    - `residual`: y − A(z) w₀.
    """

    design: Float[Tensor, "tasks rows rank"]
    residual: Float[Tensor, "tasks rows outputs"]


class Problem(NamedTuple):
    """What is to be explained: y = A(z) (w₀ + L v) + ε, with v ~ N(0, I / ridge) · σ² and z ~ N(0, I).

    - `rows`: B and y − A w₀ of some tasks, by their numbers, at z.
    - `slopes`: ∂(A (w₀ + L v))/∂z likewise, at z and v.
    - `ridge`: that of v.
    - `counts`: how many rows each task has.
    """

    rows: Callable[[Int[Tensor, " some"], Float[Tensor, "some latents"]], Rows]
    slopes: Callable[
        [Int[Tensor, " some"], Float[Tensor, "some latents"], Float[Tensor, "some rank outputs"]],
        Float[Tensor, "some rows latents"],
    ]
    ridge: Float[Tensor, ""]
    counts: Float[Tensor, " tasks"]


class Found(NamedTuple):
    """Latents and heads, and their cost: N log (‖r‖² + ridge ‖v‖²) + ‖z‖², for N rows.

    Half the cost is −log p(y, v, z) at the likeliest variance of the noise, up to a constant: so a misfit is explained
    by noise rather than by latents that are far from those of the family.
    """

    z: Float[Tensor, "tasks latents"]
    v: Float[Tensor, "tasks rank outputs"]
    cost: Float[Tensor, " tasks"]


def heads(problem: Problem, rows: Rows) -> tuple[Float[Tensor, "some rank outputs"], Float[Tensor, " some"]]:
    """The ridge regression for v at given latents, and ‖r‖² + ridge ‖v‖².

    By QR: normal equations would lose half of the digits.
    """
    design, residual = rows
    eye = problem.ridge.sqrt() * torch.eye(design.shape[-1], dtype=design.dtype, device=design.device)
    both = torch.cat([design, residual], dim=-1)
    below = torch.nn.functional.pad(eye, (0, residual.shape[-1])).expand(len(design), -1, -1)
    triangle = torch.linalg.qr(torch.cat([both, below], dim=1), mode="r").R
    rank = design.shape[-1]
    v = torch.linalg.solve_triangular(triangle[:, :rank, :rank], triangle[:, :rank, rank:], upper=True)
    return v, triangle[:, rank:, rank:].square().sum((-2, -1))


def starts(latents: int, count: int) -> Float[Tensor, "starts latents"]:
    """Latents that are spread as N(0, I) is, the mean first."""
    unit = torch.quasirandom.SobolEngine(latents, scramble=True, seed=0).draw(count - 1, dtype=torch.float64)
    return torch.cat([torch.zeros(1, latents, dtype=torch.float64), torch.special.ndtri(unit.clamp(1e-6, 1 - 1e-6))])


def cost_of(
    square: Float[Tensor, " some"],
    z: Float[Tensor, "some latents"],
    rows: Float[Tensor, " some"],
    ridge: Float[Tensor, ""],
) -> Float[Tensor, " some"]:
    """N log (‖r‖² + ridge ‖v‖²) + ‖z‖²."""
    return rows * (square + rows * ridge + _TINY).log() + z.square().sum(-1)


@torch.no_grad()
def candidates(
    problem: Problem, starts: Float[Tensor, "starts latents"], kept: int, at_once: int
) -> Float[Tensor, "tasks kept latents"]:
    """The latents with the least cost for each task, among those to start from.

    **Arguments:** `at_once`: tasks with their starts that are looked at together.
    """
    tasks = len(problem.counts)
    which = torch.arange(tasks, device=starts.device).repeat_interleave(len(starts))
    every = starts.repeat(tasks, 1)
    costs = []
    for some, z in zip(which.split(at_once), every.split(at_once), strict=True):
        rows = problem.rows(some, z)
        costs.append(cost_of(heads(problem, rows)[1], z, problem.counts[some], problem.ridge))
    order = torch.cat(costs).view(tasks, -1).argsort(1)[:, :kept]
    return starts[order]


@torch.no_grad()
def descend(
    problem: Problem, which: Int[Tensor, " some"], z: Float[Tensor, "some latents"], steps: int = _STEPS
) -> Found:
    """Levenberg-Marquardt steps on z with v solved for (variable projection), each task with a damping of its own.

    With Z = ∂(A w)/∂z at fixed v, a step solves for changes of v and z together, and v is then solved for again: the
    approximation of Kaufman.

    ??? cite "Reference"

        Kaufman: A variable projection method for solving separable nonlinear least squares problems. BIT 15, 1975.
    """
    rows = problem.rows(which, z)
    counts = problem.counts[which]
    v, square = heads(problem, rows)
    cost = cost_of(square, z, counts, problem.ridge)
    z, damping = z.clone(), torch.full_like(cost, _DAMPING)
    left = torch.arange(len(which), device=which.device)  # those that have not settled
    for _ in range(steps):
        own = Rows(rows.design[left], rows.residual[left])
        slopes = problem.slopes(which[left], z[left], v[left])
        trial = z[left] + _step(problem, own, slopes, v[left], z[left], square[left] / counts[left], damping[left])
        new = problem.rows(which[left], trial)
        new_v, new_square = heads(problem, new)
        new_cost = cost_of(new_square, trial, counts[left], problem.ridge)
        better, gain = new_cost < cost[left], cost[left] - new_cost
        damping[left] *= torch.where(better, _LESS, _MORE)
        taken = left[better]
        z[taken], v[taken], square[taken], cost[taken] = (
            trial[better],
            new_v[better],
            new_square[better],
            new_cost[better],
        )
        rows.design[taken], rows.residual[taken] = new.design[better], new.residual[better]
        left = left[torch.where(better, gain > _SETTLED, damping[left] < _LARGEST)]
        if not len(left):
            break
    return Found(z, v, cost)


def _step(
    problem: Problem,
    rows: Rows,
    slopes: Float[Tensor, "some rows latents"],
    v: Float[Tensor, "some rank outputs"],
    z: Float[Tensor, "some latents"],
    noise: Float[Tensor, " some"],
    damping: Float[Tensor, " some"],
) -> Float[Tensor, "some latents"]:
    """The damped Gauss-Newton step of z, with v free to follow, for a network with one output."""
    design, residual = rows
    rank, eye = design.shape[-1], torch.eye(design.shape[-1], dtype=design.dtype, device=design.device)
    below = (problem.ridge.sqrt() * eye).expand(len(design), -1, -1)
    # The part of a change of z that v can make good is taken out of the slopes.
    q, _ = torch.linalg.qr(torch.cat([design, below], dim=1))
    along = torch.nn.functional.pad(slopes, (0, 0, 0, rank))
    along = along - q @ (q.mT @ along)
    left = torch.cat([residual - design @ v, -problem.ridge.sqrt() * v], dim=1)
    prior = (noise + problem.ridge)[:, None]
    matrix = along.mT @ along + (prior * torch.ones_like(z)).diag_embed()
    matrix = matrix + (damping[:, None] * matrix.diagonal(dim1=1, dim2=2)).diag_embed()
    right = along.mT @ left - (prior * z).unsqueeze(-1)
    factor, _ = torch.linalg.cholesky_ex(matrix)
    return cholesky_solve(factor, right)[..., 0]


def polished(cost: Callable[[Tensor], Tensor], z: Float[Tensor, "tasks latents"]) -> Float[Tensor, "tasks latents"]:
    """Latents of least cost from latents that are nearly so, differentiable with respect to what the cost depends on.

    The steps are Newton's, with the Hessian from automatic differentiation. A task whose cost is not convex there stays
    where it is.
    """
    for _ in range(_NEWTON):
        at = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cost(at).sum(), at, create_graph=True)
        rows = [torch.autograd.grad(part.sum(), at, retain_graph=True)[0] for part in gradient.unbind(-1)]
        factor, failed = torch.linalg.cholesky_ex(torch.stack(rows, dim=-2))
        change = torch.cholesky_solve(gradient.unsqueeze(-1), factor.detach())[..., 0]
        good = (failed == 0) & (change.abs().amax(-1) < _NEAR)
        z = at.detach() - torch.where(good[:, None], change, 0.0)
    return z
