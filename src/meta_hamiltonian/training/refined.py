"""Rates of recorded members, smoothed around the law of the family."""

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torchdiffeq import odeint

from meta_hamiltonian.dynamics import Inertia, Terms
from meta_hamiltonian.dynamics.friction import friction_width
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import AdaptedSystems
from meta_hamiltonian.observations import CanonicalTrajectory, Derivatives, Trajectory, Trend, canonical, in_between

Law = Callable[[Float[Tensor, "instants state"], Float[Tensor, " instants"]], Float[Tensor, "instants state"]]

# Runge-Kutta steps from an instant to the middle of the interval beside it.
_STEPS = 16
# The law has to explain the rates up to less than this part of them.
_LEFT = 0.5


def refine(learner: Ridge, data: RecordedDataModule) -> bool:
    """Smooths coarse recordings again, around what the law found so far says of them.

    Splines miss what happens between two instants where a period has few of them, by percents, and most at the ends. In
    dense recordings they miss nothing, and their errors, which are those of the noise, tell how well a law is known:
    these stay as they are. But the law that is learned from all members knows what happens between two instants.
    Therefore only its residual is smoothed. The better the law, the smaller are the errors of smoothing, and the law
    that is learned from the new rates is better again (defect correction). The residual of an interval is the distance
    in its middle between the orbits from both its ends. There the new points lie, so that the first and the last
    interval tell as much as any other.

    **Returns:** whether there were any.

    ??? cite "Reference"

        Stetter: The defect correction principle and discretization methods. Numerische Mathematik 29, 1978.
    """
    n = learner.net.state_dim // 2
    again = {}
    for member in (*data.recordings.train, *data.recordings.val):
        if isinstance(member.observations, Derivatives) or not all(path.coarse for path in member.paths):
            continue
        points = Points(member.points.x, member.points.dxdt)
        terms = Terms(data.friction, friction_width(points.dxdt[:, :n]), member.inputs)
        systems = learner.adapt_forced(points, terms).adapted.to("cpu")
        signals = member.signals or [None] * len(member.paths)
        inertia = data.recordings.inertias.of(member.observations)
        found = [
            _again(trajectory, path, _law(systems.under(signal)), inertia)
            for trajectory, path, signal in zip(member.observations, member.paths, signals, strict=True)
        ]
        if all(one is not None for one in found):
            paths, t, x, dxdt, errors = zip(*(one for one in found if one is not None), strict=True)
            which = torch.cat([torch.full((len(one),), i) for i, one in enumerate(t)])
            points = Points(torch.cat(x), torch.cat(dxdt))
            again[member.name] = member.refined(paths, points, torch.cat(errors), torch.cat(t), which)
    if again:
        data.replace(again)
    return bool(again)


def _law(systems: AdaptedSystems) -> Law:
    """The field of a batch of one system at states and times."""
    return lambda x, t: systems.field(x[None], t[None])[0]


def _again(
    trajectory: Trajectory, path: CanonicalTrajectory, field: Law, inertia: Inertia
) -> tuple[CanonicalTrajectory, Tensor, Tensor, Tensor, Tensor] | None:
    """The trajectory smoothed around the law; and times, states, rates and their errors in the middles of its
    intervals.

    None where the law does not explain it.
    """
    spans, times = (path.t[1:] - path.t[:-1])[:, None], (path.t[1:] + path.t[:-1]) / 2
    forth = _after(field, path.x[:-1], path.t[:-1], spans / 2)
    back = _after(field, path.x[1:], path.t[1:], -spans / 2)
    size = path.dxdt.square().mean(0).sqrt()
    if not (((back - forth) / spans).square().mean(0).sqrt() < _LEFT * size).all():
        return None  # also where the law is not finite
    left = _summed(back - forth)
    if trajectory.p is None and trajectory.v is None:
        dq, dp = left.chunk(2, dim=-1)
        dv = inertia.velocities(path.x[:, : dq.shape[1]], dp)
        left = torch.cat([dq + _summed(spans * (dv[1:] + dv[:-1]) / 2), dp], dim=-1)
    trend, middle = Trend(path.x - left, field(path.x, path.t)), (forth + back) / 2
    there = Trend(middle - (left[1:] + left[:-1]) / 2, field(middle, times))
    found = in_between(trajectory, inertia, trend, times, there)
    return dataclasses.replace(canonical(trajectory, inertia, trend), coarse=True), times, *found


def _summed(steps: Float[Tensor, "intervals columns"]) -> Float[Tensor, "instants columns"]:
    return torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)])


def _after(
    field: Law,
    x: Float[Tensor, "intervals state"],
    start: Float[Tensor, " intervals"],
    spans: Float[Tensor, "intervals 1"],
) -> Float[Tensor, "intervals state"]:
    """The states of orbits that begin at these times, after these spans."""

    def rates(part: Tensor, x: Tensor) -> Tensor:
        return spans * field(x, start + part * spans[:, 0])

    unit = torch.tensor([0.0, 1.0], dtype=x.dtype)
    states = odeint(rates, x, unit, method="rk4", options={"step_size": 1 / _STEPS})
    assert isinstance(states, Tensor)
    return states[-1]
