"""Hits and pushes: instants at which something that is not in the law acts on a system."""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Inertia, Signal, Terms
from meta_hamiltonian.inference.friction import FIRST
from meta_hamiltonian.inference.solution import of_trajectories
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.models import AdaptedSystems
from meta_hamiltonian.observations import CanonicalTrajectory, Trajectory, canonical

# States are followed over this part of a period, in so many steps.
_HOP, _STEPS = 1 / 12, 8
# A hop that misses by this part of the size of the states, and by so many times what hops usually do, was interrupted.
_MISSED, _UNUSUAL = 0.15, 12.0
# What so many standard deviations of the states explain is no miss.
_ERRORS = 4.0
# Hops that miss by less than this part of the largest miss are looked at again when that one is gone.
_LARGEST = 0.5
# If more of the hops are interrupted than this part, the law is wrong rather than the recording.
_RARE = 0.2
# A part with fewer instants tells nothing.
_FEWEST = 8
_ROUNDS = 6


def without_interruptions(
    learner: Learner,
    observations: Sequence[Trajectory],
    signals: tuple[Signal, ...],
    inertia: Inertia,
    steps: int | None,
) -> tuple[list[Trajectory], list[CanonicalTrajectory], list[str]]:
    """Splits trajectories where a hit, a stop or a push acts on the system, and leaves out the instants around it.

    The law is fitted to all rates first. Then every observed state is followed for a short time. Where the orbit ends
    far from what was observed, and elsewhere hardly ever does, something else acted in between. Without these instants
    the law is fitted again, and may show more of them.

    **Returns:** the trajectories, as observed and smoothed, and what was found, in words.
    """
    found: list[str] = []
    parts = list(observations)
    paths = [canonical(part, inertia) for part in parts]
    for _ in range(_ROUNDS):
        if min(len(part.t) for part in parts) < _FEWEST:
            break
        own = tuple(signals[_index(observations, part)] for part in parts) if signals else ()
        task = of_trajectories(paths, own, None, learner.device)
        adapted = learner.adapt_forced(task.points, Terms(FIRST, task.width, task.u), None, steps).adapted
        hits = _hits(adapted, task.paths, task.signals, inertia)
        if not any(hits):
            break
        split: list[Trajectory] = []
        for part, path, here in zip(parts, paths, hits, strict=True):
            split += _split(part, here)
            found += [f"t = {path.t[first].item():.4g}" for first, _ in here]
        if not split:
            return list(observations), [canonical(one, inertia) for one in observations], []
        parts, paths = split, [canonical(part, inertia) for part in split]
    if not found:
        return parts, paths, []
    times = f"{', '.join(found[:5])}{f' and {len(found) - 5} more times' if len(found) > 5 else ''}"
    return (
        parts,
        paths,
        [f"Something outside the law, such as a hit or a push, acts near {times}: the trajectory is split there."],
    )


def _index(observations: Sequence[Trajectory], part: Trajectory) -> int:
    """Which of the trajectories a part comes from: the one with its inputs."""
    return next(i for i, one in enumerate(observations) if one.inputs is part.inputs)


def _hits(
    adapted: AdaptedSystems,
    paths: Sequence[CanonicalTrajectory],
    signals: tuple[Signal, ...],
    inertia: Inertia,
) -> list[list[tuple[int, int]]]:
    """The first and last instants that are to be left out, of each trajectory."""
    x, rates = torch.cat([path.x for path in paths]), torch.cat([path.dxdt for path in paths])
    size = x.std(0)
    if not (size > 0).all():
        return [[] for _ in paths]
    period = 2 * torch.pi / (rates.square().mean(0).sqrt() / size).amax().item()
    missed, hops = [], []
    for i, path in enumerate(paths):
        spacing = (path.t[1:] - path.t[:-1]).median().item()
        hop = min(max(1, round(_HOP * period / spacing)), len(path.t) - 1)
        end = _followed(adapted, path.x[:-hop], path.t[:-hop], path.t[hop:], signals[i] if signals else None)
        gap = ((end - path.x[hop:]).abs() - _ERRORS * _unsure(path, hop, inertia)).clamp_min(0.0) / size
        gap = gap.amax(-1)
        # Nothing is known across a hole in the data, and curves are not known well at their ends.
        known = path.t[hop:] - path.t[:-hop] <= 3 * hop * spacing
        known[:hop] = known[-hop:] = False
        known &= path.well_known[:-hop] & path.well_known[hop:]
        missed.append(torch.where(known, gap.nan_to_num(nan=torch.inf), 0.0))
        hops.append(hop)
    together = torch.cat(missed)
    limit = max(_MISSED, _UNUSUAL * together.median().item())
    if (together > limit).double().mean() > _RARE:
        return [[] for _ in paths]
    # A hit spoils the curve around it: what is smaller may go with the largest.
    limit = max(limit, _LARGEST * together.max().item())
    return [_clusters(gap > limit, hop) for gap, hop in zip(missed, hops, strict=True)]


def _unsure(path: CanonicalTrajectory, hop: int, inertia: Inertia) -> Float[Tensor, "hops state"]:
    """The standard deviation of what hops miss by. Where p comes from the derivative of a curve, the error of that
    derivative counts at both ends of a hop, and moves q on the way; observed momenta are taken for exact."""
    n = path.x.shape[1] // 2
    if path.observed[:, n:].isfinite().any():
        return torch.zeros_like(path.x[hop:])
    error = path.rate_error[:, :n]
    moved = error[:-hop] * (path.t[hop:] - path.t[:-hop])[:, None]
    both = (error[:-hop].square() + error[hop:].square()).sqrt()
    return torch.cat([moved, inertia.errors(path.x[hop:, :n], both)], dim=1)


def _clusters(bad: Tensor, hop: int) -> list[tuple[int, int]]:
    """Hops over the same moment, from the last that begins before it to the first that ends after it."""
    found: list[tuple[int, int]] = []
    begin = end = None
    for i in [*bad.nonzero()[:, 0].tolist(), None]:
        if begin is not None and end is not None and (i is None or i > end + hop):
            found.append((min(end, begin + hop), max(end, begin + hop)))
            begin = None
        if i is not None:
            begin, end = (i if begin is None else begin), i
    return found


def _followed(
    adapted: AdaptedSystems,
    x: Float[Tensor, "rows state"],
    start: Float[Tensor, " rows"],
    end: Float[Tensor, " rows"],
    signal: Signal | None,
) -> Float[Tensor, "rows state"]:
    """The states at the end of each interval, by Runge and Kutta's method of order four."""
    systems = adapted.under(signal)

    def rate(x: Tensor, t: Tensor) -> Tensor:
        return systems.field(x[None], None if signal is None else t[None])[0]

    dt = (end - start) / _STEPS
    for i in range(_STEPS):
        t = start + i * dt
        h = dt[:, None]
        one = rate(x, t)
        two = rate(x + h / 2 * one, t + dt / 2)
        three = rate(x + h / 2 * two, t + dt / 2)
        four = rate(x + h * three, t + dt)
        x = x + h / 6 * (one + 2 * two + 2 * three + four)
    return x


def _split(part: Trajectory, hits: Sequence[tuple[int, int]]) -> list[Trajectory]:
    """The parts between the hits that have enough instants."""
    starts = [0, *(last + 1 for _, last in hits)]
    ends = [*(first for first, _ in hits), len(part.t)]
    kept = [slice(a, b) for a, b in zip(starts, ends, strict=True) if b - a >= _FEWEST]
    names = ("t", "q", "p", "v")
    return [
        dataclasses.replace(part, **{n: None if (v := getattr(part, n)) is None else v[here] for n in names})
        for here in kept
    ]
