"""How an orbit changes with its initial state and with the unknowns of its system."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics.dormand_prince import ERROR, STAGES, TIMES
from meta_hamiltonian.dynamics.forces import Signal, inputs_at
from meta_hamiltonian.dynamics.friction import FRICTION
from meta_hamiltonian.learners.learner import Unknowns
from meta_hamiltonian.models import FieldNetwork


class Law(NamedTuple):
    """The form of dx/dt, whose unknowns θ = (v, d, g) are to be found: head, friction, gains of inputs.

    - `net`, `scale`, `head`: the head is w = centre + basis v, and the network's field is multiplied by the scale.
    - `kinds`, `width`: those of friction.
    - `signals`: the inputs of each trajectory; empty without inputs.
    """

    net: FieldNetwork
    scale: float
    head: Unknowns
    kinds: tuple[str, ...]
    width: float
    signals: tuple[Signal, ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many unknowns head and latents, friction and the gains have."""
        inputs = self.signals[0].u.shape[1] if self.signals else 0
        return len(self.head.flat), len(self.kinds), inputs * self.net.state_dim // 2

    def split(self, theta: Float[Tensor, "*batch unknowns"]) -> tuple[Tensor, Tensor, Tensor]:
        """v `[..., directions, outputs]`, d `[..., kinds]` and g `[..., n, inputs]`."""
        v, d, g = theta.split(self.sizes, dim=-1)
        v = v[..., : self.head.value.numel()]
        n = self.net.state_dim // 2
        return v.unflatten(-1, self.head.value.shape), d, g.unflatten(-1, (n, g.shape[-1] // n))

    def latents(self, theta: Float[Tensor, "*batch unknowns"]) -> Float[Tensor, "*batch latents"] | None:
        """z; None where the law has none."""
        first = self.head.value.numel()
        own = self.head.latents
        return None if own is None else own.at(theta[..., first : first + len(own.value)])


class Rates(NamedTuple):
    """dx/dt, and its derivatives by the state and by θ."""

    value: Float[Tensor, "rows state"]
    by_state: Float[Tensor, "rows state state"]
    by_unknowns: Float[Tensor, "rows state unknowns"]


def rates(
    law: Law,
    theta: Float[Tensor, " unknowns"],
    x: Float[Tensor, "rows state"],
    t: Float[Tensor, " rows"],
    trajectory: Tensor,
) -> Rates:
    """dx/dt at the states x and times t, each on its own trajectory, with derivatives."""
    v, d, g = law.split(theta)
    columns, basis = law.scale * (law.head.centre + law.head.basis @ v), law.scale * law.head.basis
    dim = law.net.state_dim
    wrapped = law.net.domain.wrap(x)
    z = law.latents(theta)
    features, by_state = law.net.features_and_jacobian(wrapped, columns, z)
    rows = features.flatten(0, -2)
    if law.net.head.bias is not None:
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=-1)
    value = (rows @ columns).reshape(len(x), dim)
    outputs = columns.shape[-1]
    # Every output of the head has unknowns of its own.
    part = (rows @ basis).reshape(len(x), dim // outputs, -1)
    eye = torch.eye(outputs).to(part)
    by_head = torch.einsum("rcv,ab->rcavb", part, eye).reshape(len(x), dim, -1)
    if z is not None and law.head.latents is not None:
        slopes = law.net.latent_slopes({"head.weight": columns.mT[None], "latents": z[None]}, wrapped[None])[0]
        by_head = torch.cat([by_head, slopes @ law.head.latents.spread], dim=-1)
    return _with_forces(law, d, g, value, by_state, by_head, t, trajectory)


def _with_forces(
    law: Law, d: Tensor, g: Tensor, value: Tensor, by_state: Tensor, by_head: Tensor, t: Tensor, trajectory: Tensor
) -> Rates:
    n = value.shape[1] // 2
    speed = value[:, :n]
    columns = [by_head]
    if law.kinds:
        forces = torch.stack([FRICTION[kind].force(speed, law.width) for kind in law.kinds], dim=-1)
        slope = -sum(
            d[j] * FRICTION[kind].slope(speed, law.width) for j, kind in enumerate(law.kinds)
        )  # through the velocities, which depend on everything
        value = torch.cat([speed, value[:, n:] - forces @ d], dim=1)
        through = torch.as_tensor(slope).unsqueeze(-1)
        by_state = torch.cat([by_state[:, :n], by_state[:, n:] + through * by_state[:, :n]], dim=1)
        columns[0] = torch.cat([by_head[:, :n], by_head[:, n:] + through * by_head[:, :n]], dim=1)
        columns.append(torch.cat([torch.zeros_like(forces), -forces], dim=1))
    if law.signals:
        u = inputs_at(law.signals, t, trajectory)
        value = torch.cat([value[:, :n], value[:, n:] + u @ g.mT], dim=1)
        by_gain = torch.einsum("rk,nm->rnmk", u, torch.eye(n).to(u)).reshape(len(u), n, -1)
        columns.append(torch.cat([torch.zeros_like(by_gain), by_gain], dim=1))
    return Rates(value, by_state, torch.cat(columns, dim=-1))


@dataclasses.dataclass(frozen=True)
class Passage:
    """Orbits through the instants of windows, row by row.

    - `x`: the states.
    - `by_start`, `by_unknowns`: their derivatives by the first state and by θ.
    - `error`: an estimate of the error of each interval between instants, in every row.
    """

    x: Float[Tensor, "instants rows state"]
    by_start: Float[Tensor, "instants rows state state"]
    by_unknowns: Float[Tensor, "instants rows state unknowns"]
    error: Float[Tensor, "intervals rows state"]


def follow(
    law: Law,
    theta: Float[Tensor, " unknowns"],
    start: Float[Tensor, "rows state"],
    t: Float[Tensor, "rows instants"],
    trajectory: Tensor,
    steps: Sequence[int],
) -> Passage:
    """Integrates the orbits of all windows together with their variational equations.

    Steps do not depend on the unknowns, so that the derivatives are those of what is computed.

    **Arguments:**

    - `start`: the state at the first instant of each window.
    - `t`: the instants.
    - `trajectory`: to which trajectory each window belongs.
    - `steps`: how many steps each interval between two instants takes.
    """
    dim, unknowns = start.shape[1], len(theta)
    by_x = torch.eye(dim).to(start).expand(len(start), dim, dim)
    y = torch.cat([start[..., None], by_x, start.new_zeros(len(start), dim, unknowns)], dim=-1)
    states, errors = [y], []

    def rate(y: Tensor, time: Tensor) -> Tensor:
        found = rates(law, theta, y[..., 0], time, trajectory)
        change = found.by_state @ y[..., 1:]
        change[..., dim:] += found.by_unknowns
        return torch.cat([found.value[..., None], change], dim=-1)

    weights = [start.new_tensor(row) for row in STAGES]
    of_error = start.new_tensor(ERROR)
    first = rate(y, t[:, 0])
    for j, count in enumerate(steps):
        dt = (t[:, j + 1] - t[:, j]) / count
        error = torch.zeros_like(start)
        for step in range(count):
            time, stages = t[:, j] + step * dt, [first]
            moved = y
            for row, part in zip(weights, TIMES, strict=True):
                moved = y + dt[:, None, None] * torch.einsum("i,irsu->rsu", row, torch.stack(stages))
                stages.append(rate(moved, time + part * dt))
            error = error + (dt[:, None] * torch.einsum("i,irs->rs", of_error, torch.stack(stages)[..., 0])).abs()
            y, first = moved, stages[-1]
        states.append(y)
        errors.append(error)
    passed = torch.stack(states)
    return Passage(passed[..., 0], passed[..., 1 : 1 + dim], passed[..., 1 + dim :], torch.stack(errors))
