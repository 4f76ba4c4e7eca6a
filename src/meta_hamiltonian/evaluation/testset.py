"""The new systems on which every learner is tested, with their true fields and orbits."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.systems import HamiltonianSystem

GRID_PER_AXIS = 50
HORIZON = 20.0
INSTANTS = 201


@dataclasses.dataclass(frozen=True)
class TestSet:
    """Everything that the errors need, in float64.

    - `support`: the observations; K shots are the first K.
    - `grid`, `grid_field`: the states where fields are compared, a 50 × 50 grid whose edges are the state box's.
    - `orbit`: the true states at the 201 instants `t` of 20 time units, from one initial state a system.
    """

    system: HamiltonianSystem
    parameters: Float[Tensor, "systems parameters"]
    support: Points
    grid: Float[Tensor, "systems points state"]
    grid_field: Float[Tensor, "systems points state"]
    t: Float[Tensor, " instants"]
    orbit: Float[Tensor, "instants systems state"]

    def __getitem__(self, systems: slice) -> "TestSet":
        """The same with some of the systems."""
        return dataclasses.replace(
            self,
            parameters=self.parameters[systems],
            support=self.support[systems],
            grid=self.grid[systems],
            grid_field=self.grid_field[systems],
            orbit=self.orbit[:, systems],
        )

    @property
    def initial_energy(self) -> Float[Tensor, " systems"]:
        """H_true(x(0))."""
        return self.system.hamiltonian(self.orbit[0], self.parameters)


def state_grid(system: HamiltonianSystem, per_axis: int = GRID_PER_AXIS) -> Float[Tensor, "points state"]:
    """A grid over the state box, its edges included."""
    axes = [torch.linspace(-half, half, per_axis, dtype=torch.float64) for half in system.state_box]
    return torch.cartesian_prod(*axes)


def make_test_set(system: HamiltonianSystem, n_systems: int, shots: int, seed: int, noise: float = 0.0) -> TestSet:
    """Draws the test systems: the same for every learner, and the support of fewer shots a prefix of that of more.

    **Arguments:**

    - `system`: the family.
    - `n_systems`: how many.
    - `shots`: support points to draw, the largest K that will be tested.
    - `seed`: of the test split; no seed of the training split gives the same systems.
    - `noise`: of the support sets, see [`sample_episodes`][].
    """
    episodes = sample_episodes(system, n_systems, shots, 0, seed, "test", torch.float64, noise)
    x = state_grid(system)
    t = torch.linspace(0.0, HORIZON, INSTANTS, dtype=torch.float64)
    x0 = system.sample_initial_states(episodes.parameters, seed, "test")
    return TestSet(
        system=system,
        parameters=episodes.parameters,
        support=episodes.support,
        grid=x.expand(n_systems, *x.shape),
        grid_field=system.field(x, episodes.parameters[:, None]),
        t=t,
        orbit=system.orbit(x0, episodes.parameters, t),
    )
