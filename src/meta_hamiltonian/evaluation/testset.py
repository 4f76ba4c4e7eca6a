"""The new systems on which every learner is tested, with their true fields and orbits."""

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.systems import SimulatedSystem

INSTANTS = 201
"""The number of instants at which orbits are compared."""


@dataclasses.dataclass(frozen=True)
class TestSet:
    """Everything that the errors need, in float64.

    - `system`, `parameters`: the family and its members.
    - `support`: the observations; K shots are the first K.
    - `grid`, `grid_field`: the states where fields are compared, those of [`Domain.grid`][].
    - `admitted`: which of these states each member may be observed in, over which means are taken; None is all of them.
    - `t`, `orbit`: 201 equally spaced instants of the family's horizon, and the true states at them, from one initial
        state a system.
    """

    __test__ = False  # pytest would collect it

    system: SimulatedSystem
    parameters: Float[Tensor, "systems parameters"]
    support: Points
    grid: Float[Tensor, "systems points state"]
    grid_field: Float[Tensor, "systems points state"]
    t: Float[Tensor, " instants"]
    orbit: Float[Tensor, "instants systems state"]
    admitted: Bool[Tensor, "systems points"] | None = None

    def __getitem__(self, systems: slice) -> "TestSet":
        """The same with some of the systems."""
        return dataclasses.replace(
            self,
            parameters=self.parameters[systems],
            support=self.support[systems],
            grid=self.grid[systems],
            grid_field=self.grid_field[systems],
            orbit=self.orbit[:, systems],
            admitted=None if self.admitted is None else self.admitted[systems],
        )

    def to(self, device: torch.device) -> "TestSet":
        """The same on another device."""
        return dataclasses.replace(
            self,
            parameters=self.parameters.to(device),
            support=self.support.to(device),
            grid=self.grid.to(device),
            grid_field=self.grid_field.to(device),
            t=self.t.to(device),
            orbit=self.orbit.to(device),
            admitted=None if self.admitted is None else self.admitted.to(device),
        )

    def grid_mean(self, values: Float[Tensor, "systems points"]) -> Float[Tensor, " systems"]:
        """The mean over the states of the grid that each member admits."""
        if self.admitted is None:
            return values.mean(-1)
        return torch.where(self.admitted, values, 0.0).sum(-1) / self.admitted.sum(-1)

    @property
    def initial_energy(self) -> Float[Tensor, " systems"]:
        """H_true(x(0))."""
        return self.system.hamiltonian(self.orbit[0], self.parameters)

    @property
    def energy(self) -> Float[Tensor, "#instants systems"]:
        """H_true(x(t)): the initial energy, for a family that conserves it."""
        if self.system.conserves_energy:
            return self.initial_energy[None]
        return self.system.hamiltonian(self.orbit, self.parameters)


def make_test_set(system: SimulatedSystem, n_systems: int, shots: int, seed: int, noise: float = 0.0) -> TestSet:
    """Draws the test systems: the same for every learner, and the support of fewer shots a prefix of that of more.

    **Arguments:**

    - `system`: the family.
    - `n_systems`: how many.
    - `shots`: support points to draw, the largest K that will be tested.
    - `seed`: that of the test split; no seed of the training split gives the same systems.
    - `noise`: that of the support sets, see [`sample_episodes`][].
    """
    episodes = sample_episodes(system, n_systems, shots, 0, seed, "test", torch.float64, noise)
    assert episodes.parameters is not None
    x = system.domain.grid()
    admitted = system.admits(x, episodes.parameters[:, None])
    t = torch.linspace(0.0, system.horizon, INSTANTS, dtype=torch.float64)
    x0 = system.sample_initial_states(episodes.parameters, seed, "test")
    return TestSet(
        system=system,
        parameters=episodes.parameters,
        support=episodes.support,
        grid=x.expand(n_systems, *x.shape),
        grid_field=system.field(x, episodes.parameters[:, None]),
        t=t,
        orbit=system.orbit(x0, episodes.parameters, t),
        admitted=None if admitted.all() else admitted,
    )
