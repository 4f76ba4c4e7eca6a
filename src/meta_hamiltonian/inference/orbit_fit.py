"""An adapted system whose orbits meet observed trajectories."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.learners.numerics.linear_head import head_weights
from meta_hamiltonian.models import Adapted, AdaptedSystems
from meta_hamiltonian.observations import CanonicalTrajectory

SAMPLES = 200
"""Systems that are drawn from a posterior."""


class OrbitFit(NamedTuple):
    """What an orbit fit gives.

    - `adapted`: the system.
    - `starts`: the state of each trajectory at its first instant.
    - `samples`, `start_samples`: the same, drawn from the Gaussian around them that the observations allow.
    """

    adapted: Adapted
    starts: Float[Tensor, "trajectories state"]
    samples: AdaptedSystems
    start_samples: Float[Tensor, "samples trajectories state"]


def fit_orbits(
    learner: Learner,
    adapted: Adapted,
    points: Points,
    starts: Float[Tensor, "trajectories state"],
    paths: Sequence[CanonicalTrajectory],
) -> OrbitFit:
    """Gauss-Newton (SciPy's trust region) on the head and the initial states, so that orbits meet the observations.

    The Jacobian is taken by differences: all perturbed systems are integrated in one batch.

    **Arguments:**

    - `learner`: tells in which directions a head may change.
    - `adapted`, `starts`: the system and the initial states to begin with.
    - `points`: that it was adapted to.
    - `paths`: what the orbits are to meet.

    **Raises:** `TypeError` if the network has no linear head.
    """
    net, scale = adapted.systems.net, adapted.systems.scale
    batch_of_one = Points(points.x[None], points.dxdt[None])
    centre, basis, first = learner.unknowns(adapted.systems, batch_of_one)
    box = net.state_box
    noise = [torch.maximum(path.noise, 1e-6 * box) for path in paths]
    heads = first.numel()

    def systems(unknowns: Tensor) -> AdaptedSystems:
        change = basis @ unknowns[:, :heads].reshape(-1, *first.shape)
        shared = {
            name: value.expand(len(unknowns), *value.shape[1:]) for name, value in adapted.systems.parameters.items()
        }
        return AdaptedSystems(net, shared | head_weights(net, centre + change), scale.expand(len(unknowns)))

    def states(unknowns: Tensor) -> Tensor:
        return starts + box * unknowns[:, heads:].reshape(-1, *starts.shape)

    def residuals(unknowns: Tensor) -> Tensor:
        batch, parts = systems(unknowns), []
        for i, path in enumerate(paths):
            orbits = batch.rollout(states(unknowns)[:, i], path.t - path.t[0]).states.transpose(0, 1)
            error = (orbits - path.observed) / noise[i]
            parts.append(error[:, path.observed.isfinite()])
        return torch.cat([*parts, unknowns[:, :heads]], dim=1)  # with the prior, where nothing else decides

    def one(unknowns: np.ndarray) -> np.ndarray:
        return residuals(torch.from_numpy(unknowns)[None])[0].numpy()

    def jacobian(unknowns: np.ndarray) -> Any:
        size = 1e-5
        moves = size * torch.eye(len(unknowns), dtype=torch.float64)
        either = residuals(torch.cat([torch.from_numpy(unknowns) + moves, torch.from_numpy(unknowns) - moves]))
        plus, minus = either.chunk(2)
        return ((plus - minus) / (2 * size)).T.numpy()

    guess = np.concatenate([first.flatten().numpy(), np.zeros(starts.numel())])
    found = scipy.optimize.least_squares(
        one,
        guess,
        jacobian,  # pyright: ignore[reportArgumentType]
        x_scale="jac",
        max_nfev=30,
        xtol=1e-10,
        ftol=1e-6,
    )
    best = torch.from_numpy(found.x)[None]
    # Laplace's approximation: the Gaussian of the linearised problem, its noise from what the orbits leave.
    variance = 2 * found.cost / max(len(found.fun) - len(found.x), 1)
    values, vectors = np.linalg.eigh(found.jac.T @ found.jac)
    factor = vectors * np.sqrt(variance / np.maximum(values, 1e-15 * values[-1]))
    unit = torch.randn(SAMPLES, len(found.x), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = best + unit @ torch.from_numpy(factor).T
    return OrbitFit(Adapted(systems(best)), states(best)[0], systems(drawn), states(drawn))
