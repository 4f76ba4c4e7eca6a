"""Episodes of simulated systems."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.episodes.points import Episodes, Points
from meta_hamiltonian.systems import SimulatedSystem

# The size of a noise does not depend on how many points are observed.
_TYPICAL = 64


def sample_episodes(
    system: SimulatedSystem,
    tasks: int | range,
    support: int,
    query: int,
    seed: int,
    split: str = "train",
    dtype: torch.dtype = torch.float32,
    noise: float = 0.0,
    device: torch.device | str = "cpu",
) -> Episodes:
    """Draws systems and, for each, random states of the domain with their derivatives.

    All tasks are drawn together. Task i, its points included, is a function of `(seed, split, i)`
    alone, and a smaller `support` or `query` gives a prefix of a larger one.

    **Arguments:**

    - `system`: the family.
    - `tasks`: how many, or the range of task indices wanted.
    - `support`, `query`: points in each support and each query set.
    - `seed`: at least 0.
    - `split`: any name (the framework uses train, val and test); splits are independent.
    - `dtype`: of the result. Everything is computed in float64.
    - `noise`: standard deviation of Gaussian noise that is added to the support's states and derivatives, relative to
        the RMS of each coordinate of the task over its first 64 support points. The query set is exact.

    - `device`: where they are drawn: random numbers are the same on all devices, bit for bit, and results to rounding.

    **Returns:**

    [`Episodes`][] of `len(tasks)` tasks; those of the split `train` know their index.
    """
    tasks = tasks if isinstance(tasks, range) else range(tasks)
    parameters = system.sample_parameters(tasks, seed, split).to(device)

    def points(name: str, count: int) -> Points:
        x = system.sample_states(parameters, seed, (split, name), tasks, count)
        return Points(x, system.field(x, parameters[:, None]))

    observed = points("support", support)
    if noise > 0:
        typical = points("support", _TYPICAL)
        unit = uniform(seed, (split, "noise"), tasks, (support, 2 * system.state_dim), device)
        errors = noise * torch.special.ndtri(unit.clamp_min(torch.finfo(unit.dtype).tiny))
        x_error, dxdt_error = errors.chunk(2, dim=-1)
        observed = Points(
            observed.x + x_error * _rms(typical.x),
            observed.dxdt + dxdt_error * _rms(typical.dxdt),
        )
    index = torch.arange(tasks.start, tasks.stop, device=device) if split == "train" else None
    return Episodes(observed, points("query", query), parameters, index=index).to(dtype)


def _rms(values: Float[Tensor, "tasks points state"]) -> Float[Tensor, "tasks 1 state"]:
    return values.square().mean(-2, keepdim=True).sqrt()
