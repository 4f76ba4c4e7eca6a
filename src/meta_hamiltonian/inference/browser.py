"""An adapted system for a browser: the operations of its field and energy, its numbers, and values to check them by."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import FRICTION
from meta_hamiltonian.inference.program import numbers, program
from meta_hamiltonian.models import Adapted, AdaptedSystems
from meta_hamiltonian.models.adapted import REACH

# States at which what the browser computes is compared.
_CHECKED = 16


def for_browser(adapted: Adapted, others: Mapping[str, AdaptedSystems]) -> dict[str, Any]:
    """The program of an adapted system, its numbers and those of other systems, as plain values.

    The program has functions `field`, `outside` and, where the network has one, `energy`, of a state and, after it, the
    measured inputs.

    **Arguments:**

    - `adapted`: the system.
    - `others`: by name, systems of the same network.

    **Raises:** [`TapeError`][] for a network whose operations cannot be listed.
    """
    systems, domain = adapted.systems, adapted.systems.net.domain
    forces = [some.forces for some in (systems, *others.values()) if some.forces is not None]
    kinds = tuple(dict.fromkeys(kind for one in forces for kind in one.kinds))
    form = _Form(systems, kinds, max((one.gains.shape[-1] for one in forces), default=0))
    own = form.numbers(systems)
    x = domain.sobol(_CHECKED)
    functions = {"field": form.field, "outside": lambda y, _: form.outside(y)}
    check = {"x": x.tolist(), "field": adapted.field(x).tolist()}
    if adapted.has_energy:
        functions["energy"] = form.energy
        check["energy"] = adapted.energy(x).tolist()
    state = torch.cat([x[0], x.new_zeros(form.inputs)])
    return {
        "program": {**program(functions, state, own[0]), "functions": list(functions)},
        "system": numbers(own),
        "others": {name: [numbers(row) for row in form.numbers(some)] for name, some in others.items()},
        "lowest": adapted.lowest_energy.item() if adapted.has_energy else 0.0,
        "check": check,
    }


class _Form:
    """How the numbers that tell a system from others stand in a row: its scale, friction, gains and weights."""

    def __init__(self, like: AdaptedSystems, kinds: Sequence[str], inputs: int):
        """**Arguments:** `like`: a system; `kinds`: the kinds of friction of all systems; `inputs`: their number."""
        self.like, self.kinds, self.inputs = like, kinds, inputs
        self.n = like.net.domain.degrees_of_freedom

    def numbers(self, systems: AdaptedSystems) -> Float[Tensor, "systems own"]:
        """The numbers of each of the systems."""
        count, forces = len(systems.scale), systems.forces
        friction = systems.scale.new_zeros(count, len(self.kinds))
        gains = systems.scale.new_zeros(count, self.n, self.inputs)
        if forces is not None:
            for kind, coefficient in zip(forces.kinds, forces.coefficients.mT, strict=True):
                friction[:, self.kinds.index(kind)] = coefficient
            if forces.gains.shape[-1]:
                gains = forces.gains
        weights = [systems.parameters[name].flatten(1).expand(count, -1) for name in self.like.parameters]
        return torch.cat([systems.scale[:, None], friction, gains.flatten(1), *weights], dim=1).double()

    def field(self, y: Float[Tensor, " state_and_inputs"], own: Float[Tensor, " own"]) -> Float[Tensor, " state"]:
        """dx/dt, as [`AdaptedSystems`][] has it."""
        x, u = y.split([2 * self.n, self.inputs])
        _, friction, gains, _ = self._parts(own)
        v, dp = self._conservative(own).field(x[None, None])[0, 0].chunk(2)
        for kind, coefficient in zip(self.kinds, friction, strict=True):
            width = 1.0 if self.like.forces is None else self.like.forces.width
            dp = dp - coefficient * FRICTION[kind].force(v, width)
        if self.inputs:
            dp = dp + gains.reshape(self.n, self.inputs) @ u
        return torch.cat([v, dp])

    def energy(self, y: Float[Tensor, " state_and_inputs"], own: Float[Tensor, " own"]) -> Float[Tensor, " one"]:
        """The learned energy, up to a constant."""
        return self._conservative(own).energy(y[None, None, : 2 * self.n])[0]

    def outside(self, y: Float[Tensor, " state_and_inputs"]) -> Float[Tensor, " one"]:
        """1 where orbits end, else 0."""
        return self.like.net.domain.outside(y[None, : 2 * self.n], REACH).double()

    def _parts(self, own: Float[Tensor, " own"]) -> Sequence[Tensor]:
        sizes = [1, len(self.kinds), self.n * self.inputs]
        return own.split([*sizes, len(own) - sum(sizes)])

    def _conservative(self, own: Float[Tensor, " own"]) -> AdaptedSystems:
        """The system with these numbers, without friction and inputs."""
        scale, _, _, weights = self._parts(own)
        values = self.like.parameters
        rows = weights.split([value[0].numel() for value in values.values()])
        parameters = {
            name: row.reshape(1, *value.shape[1:]) for row, (name, value) in zip(rows, values.items(), strict=True)
        }
        return AdaptedSystems(self.like.net, parameters, scale)
