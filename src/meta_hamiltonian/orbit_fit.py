"""An adapted system whose orbits meet observed trajectories."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.learners import Adapted, AdaptedSystems, Learner, Ridge
from meta_hamiltonian.learners.linear_head import head_columns, head_rows, head_weights, own_head
from meta_hamiltonian.observations import Trajectory
from meta_hamiltonian.smoothing import smooth

# A derivative counts as well known where its error is at most so many times the median's.
_WELL_KNOWN = 2.0
# Estimated momenta count as so many times less exact than they are: their errors go together.
_CAUTION = 3.0
# Directions of the head that an orbit is fitted with, where the learner does not say which a family needs.
_DIRECTIONS = 8
# By how much, in units of the observed derivatives, these may change.
_FREELY = 10.0
SAMPLES = 200
"""Systems that are drawn from a posterior."""


@dataclasses.dataclass(frozen=True)
class Path:
    """A trajectory in canonical coordinates. Where p was not observed, it comes from the smoothed q.

    `observed` is what an orbit is compared with: not a number where nothing is known.
    """

    t: Float[Tensor, " instants"]
    x: Float[Tensor, "instants state"]
    dxdt: Float[Tensor, "instants state"]
    error: Float[Tensor, " instants"]
    """Of the derivative, relative to other instants."""
    observed: Float[Tensor, "instants state"]
    noise: Float[Tensor, " state"]


def make_path(trajectory: Trajectory, inertia: float) -> Path:
    t, q, observed = torch.from_numpy(trajectory.t), trajectory.q, observed_states(trajectory, inertia)
    if trajectory.p is None and trajectory.v is None:
        smoothed = smooth(trajectory.t, q, order=2)
        x = np.hstack([smoothed.value, inertia * smoothed.derivative])
        dxdt = np.hstack([smoothed.derivative, inertia * smoothed.second])
        # The orbits alone would leave the unit of p free.
        error = smooth(trajectory.t, q).error
        slow = error <= _WELL_KNOWN * np.median(error, axis=0)
        observed[:, q.shape[1] :] = np.where(slow, inertia * smoothed.derivative, np.nan)
        noise = np.concatenate([smoothed.noise, _CAUTION * inertia * np.median(error, axis=0)])
    else:
        smoothed = smooth(trajectory.t, observed)
        x, dxdt, noise = smoothed.value, smoothed.derivative, smoothed.noise
    error = np.linalg.norm(smoothed.error / (smoothed.error.mean(0) + np.finfo(float).tiny), axis=-1)
    return Path(t, *(torch.from_numpy(v) for v in (x, dxdt, error, observed, noise)))


def well_known_points(paths: Sequence[Path]) -> Points:
    """The instants whose derivatives are known well: not those at the ends."""
    kept = [path.error <= _WELL_KNOWN * path.error.median() for path in paths]
    x, dxdt = (
        torch.cat([getattr(path, name)[these] for path, these in zip(paths, kept, strict=True)])
        for name in ("x", "dxdt")
    )
    return Points(x, dxdt)


def observed_states(trajectory: Trajectory, inertia: float) -> Float[np.ndarray, "instants state"]:
    """States; p is not a number where neither it nor a velocity was observed."""
    if trajectory.p is not None:
        return np.hstack([trajectory.q, trajectory.p])
    v = np.full_like(trajectory.q, np.nan) if trajectory.v is None else trajectory.v
    return np.hstack([trajectory.q, inertia * v])


class Fitted(NamedTuple):
    """What an orbit fit gives.

    - `adapted`: the system.
    - `starts`: the state of each trajectory at its first instant.
    - `samples`, `start_samples`: the same, drawn from the Gaussian around them that the observations allow.
    """

    adapted: Adapted
    starts: Float[Tensor, "trajectories state"]
    samples: AdaptedSystems
    start_samples: Float[Tensor, "samples trajectories state"]


def fit_orbits(learner: Learner, adapted: Adapted, starts: Tensor, paths: Sequence[Path]) -> Fitted:
    """Gauss-Newton (SciPy's trust region) on the head and the initial states, so that orbits meet the observations.

    The Jacobian is taken by differences: all perturbed systems are integrated in one batch.
    """
    net, scale = adapted.systems.net, adapted.systems.scale
    centre, basis, first = _head_prior(learner, adapted, well_known_points(paths))
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
    return Fitted(Adapted(systems(best)), states(best)[0], systems(drawn), states(drawn))


def _head_prior(
    learner: Learner, adapted: Adapted, points: Points
) -> tuple[
    Float[Tensor, "features outputs"], Float[Tensor, "features directions"], Float[Tensor, "directions outputs"]
]:
    """A centre, directions of one standard deviation from it, and where between them the adapted head lies.

    The closed-form learner knows how the heads of a family are distributed. Another one starts from its adapted
    head and moves in the directions that the observations determine.
    """
    if isinstance(learner, Ridge):
        learner = copy.deepcopy(learner).double().requires_grad_(False)
        support, _ = learner.in_units(Points(points.x[None], points.dxdt[None]))
        posterior = learner.posterior(support)
        deviation = posterior.width[0].sqrt()
        basis = learner.prior_factor @ learner.spread * deviation
        return learner.columns(learner.mean), basis, posterior.mean[0] / deviation
    net, parameters = adapted.systems.net, adapted.parameters
    columns = head_columns({name: parameters.get(name, own) for name, own in own_head(net).items()})
    columns = columns.reshape(columns.shape[-2:])
    rows = head_rows(net, points.x.double()).detach()
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    kept = int((values > 1e-6 * values[0])[:_DIRECTIONS].sum())
    basis = _FREELY * right[:kept].mT * (len(rows) ** 0.5 / values[:kept])
    return columns, basis, columns.new_zeros(kept, columns.shape[-1])
