"""Whether credible bands hold what they promise: how often the truth lies inside them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.inference.bands import energy_change_samples, field_samples, interval
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.systems import SimulatedSystem

LEVELS = (0.5, 0.8, 0.95)
SAMPLES = 200
_STATES = 20
_INSTANTS = 21
_SAMPLE_TOLERANCE = 1e-10


@dataclasses.dataclass(frozen=True)
class Coverage:
    """The part of values that lie in their bands, at one level.

    - `quantity`: `field`, both components at random states; `energy`, H(x) − H(x₀) between them; or `orbit`, both
        coordinates along the family's horizon from a known state.
    - `shots`, `noise`: number and noise of the observations; 0 and not a number for recordings, whose later part is
        compared.
    """

    shots: int
    noise: float
    quantity: str
    level: float
    observed: float
    n_systems: int


def coverage(
    learner: Learner,
    system: SimulatedSystem,
    shots: Sequence[int],
    noises: Sequence[float],
    n_systems: int,
    n_orbits: int,
    seed: int = 0,
    said: Callable[[str, float], None] = lambda what, done: None,
) -> Iterator[Coverage]:
    """Measures coverage on new systems, of which the first `n_orbits` are followed along an orbit too.

    **Arguments:**

    - `learner`: one that `has_posterior`.
    - `system`: the family that new members are drawn from.
    - `shots`, `noises`: numbers of observed points and relative noises of them.
    - `n_systems`, `n_orbits`, `seed`: how many members, and which.
    - `said`: is told what is being done, and which part of the work is done.
    """
    device = learner.device
    each = list(itertools.product(shots, noises))
    for turn, (k, noise) in enumerate(each):
        tasks = sample_episodes(system, n_systems, k, _STATES, seed, "coverage", torch.float64, noise)
        parameters = tasks.parameters
        assert parameters is not None
        starts = system.sample_initial_states(parameters, seed, "coverage")
        t = torch.linspace(0, system.horizon, _INSTANTS, dtype=torch.float64)
        orbits = system.orbit(starts, parameters, t).to(device)
        tasks, parameters, starts, t = tasks.to(device), parameters.to(device), starts.to(device), t.to(device)
        inside: dict[str, list[list[float]]] = {"field": [], "energy": [], "orbit": []}
        for i, samples in enumerate(learner.sample_tasks(tasks.support, SAMPLES, seed)):
            said(f"K={k}, noise={noise:g}", (turn + i / n_systems) / len(each))
            x = tasks.query.x[i]
            energy = system.hamiltonian(x, parameters[i])
            inside["field"].append(_inside(field_samples(samples, x), tasks.query.dxdt[i]))
            inside["energy"].append(_inside(energy_change_samples(samples, x)[:, 1:], (energy - energy[0])[1:]))
            if i < n_orbits:
                states = samples.rollout(starts[i].expand(SAMPLES, -1), t, _SAMPLE_TOLERANCE).states.transpose(0, 1)
                inside["orbit"].append(_inside(states[:, 1:], orbits[1:, i]))
        for quantity, shares in inside.items():
            for j, level in enumerate(LEVELS):
                mean = sum(share[j] for share in shares) / max(len(shares), 1)
                yield Coverage(k, noise, quantity, level, mean, len(shares))


def _inside(samples: Float[Tensor, "samples *values"], true: Float[Tensor, "*values"]) -> list[float]:
    """The part of the values that lie in their bands, for each level."""
    bands = [interval(samples, level) for level in LEVELS]
    return [((low <= true) & (true <= high)).double().mean().item() for low, high in bands]
