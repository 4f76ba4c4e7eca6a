"""The errors of a prediction, whose definitions stay fixed so that numbers can be compared for years."""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.dynamics import Orbits
from meta_hamiltonian.evaluation.testset import TestSet
from meta_hamiltonian.models import AdaptedSystems


@dataclasses.dataclass(frozen=True)
class Errors:
    """One value a test system, always finite, and the predicted orbits that they were measured on."""

    field_mse: Float[Tensor, " systems"]
    field_rel: Float[Tensor, " systems"]
    state_mse: Float[Tensor, " systems"]
    state_rel: Float[Tensor, " systems"]
    energy_mse: Float[Tensor, " systems"]
    diverged: Bool[Tensor, " systems"]
    orbits: Float[Tensor, "instants systems state"]

    def to(self, device: torch.device | str) -> "Errors":
        """The same on another device."""
        return Errors(*(getattr(self, field.name).to(device) for field in dataclasses.fields(self)))

    def of(self, systems: Bool[Tensor, " systems"]) -> "Errors":
        """The errors of some of the systems."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return Errors(**{n: value[:, systems] if n == "orbits" else value[systems] for n, value in values})

    @staticmethod
    def joined(parts: "Sequence[Errors]") -> "Errors":
        """The errors of all systems, from those of parts of them."""
        names = [field.name for field in dataclasses.fields(Errors)]
        return Errors(*(torch.cat([getattr(part, n) for part in parts], int(n == "orbits")) for n in names))


def measure(adapted: Sequence[AdaptedSystems], test: TestSet) -> list[Errors]:
    """Compares the test systems with each of several adapted versions of them.

    - `field_mse`: mean over the grid, as far as the member admits its states, of ‖f̂ − f‖².
    - `field_rel`: `field_mse` over the mean of ‖f‖².
    - `state_mse`: mean over the instants of ‖x̂(t) − x(t)‖², q not wrapped.
    - `state_rel`: the root of `state_mse` over the mean of ‖x(t)‖², the relative error of the trajectory.
    - `energy_mse`: mean over the instants of (H_true(x̂(t)) − H_true(x(t)))²: the true energy along the predicted
        orbit, since a learned H is known up to a constant only. Where energy is conserved H_true(x(t)) is H_true(x(0)).
    - `diverged`: the predicted orbit left twice the state box and was frozen there, or the field is not finite.
        The squared state error is then the box's squared diameter. Angles are like lengths here: true orbits stay
        inside the box, and an orbit that is predicted to go over the top is wrong. Only in a family whose true orbits
        go round are angles free.

    A field that is not finite somewhere on the grid counts as the zero field.

    **Arguments:** `adapted`: the systems of the test after different numbers of steps or observations, of one network.
    """
    orbits = _orbits(adapted, test)
    return [_errors(systems, own, test) for systems, own in zip(adapted, orbits, strict=True)]


def _orbits(adapted: Sequence[AdaptedSystems], test: TestSet) -> list[Orbits]:
    """The predicted orbits.

    Where each orbit has steps of its own, all are followed together: a step of many takes hardly longer than one of
    few.
    """
    bounded_angles = any(c.kind == "angle" for c in test.system.domain.coordinates) and not test.system.turns
    if bounded_angles:
        return [systems.rollout_in_box(test.orbit[0], test.t) for systems in adapted]
    times = len(adapted)
    together = AdaptedSystems.joined(adapted).rollout(test.orbit[0].repeat(times, 1), test.t)
    each = len(together.diverged) // times
    return [together.of(slice(i * each, (i + 1) * each)) for i in range(times)]


def _errors(adapted: AdaptedSystems, orbits: Orbits, test: TestSet) -> Errors:
    power = test.grid_mean(test.grid_field.square().sum(-1))
    field_mse = test.grid_mean((adapted.field(test.grid) - test.grid_field).square().sum(-1))
    finite = field_mse.isfinite()  # of a field whose square overflows no error can be given either
    field_mse = torch.where(finite, field_mse, power)

    diverged = orbits.diverged | ~finite
    state_mse = (orbits.states - test.orbit).square().sum(-1).mean(0)
    squared_diameter = sum((2 * half) ** 2 for half in test.system.state_box)
    state_mse = torch.where(diverged, squared_diameter, state_mse)
    energy = test.system.hamiltonian(orbits.states, test.parameters)
    return Errors(
        field_mse=field_mse,
        field_rel=field_mse / power,
        state_mse=state_mse,
        state_rel=(state_mse / test.orbit.square().sum(-1).mean(0)).sqrt(),
        energy_mse=(energy - test.energy).square().mean(0),
        diverged=diverged,
        orbits=orbits.states,
    )
