"""The floor of every table: the true law, its parameters fitted to the same points."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.models import AdaptedSystems, ParametricHamiltonian

# Parameters drawn from the prior for each task; from the best few of them SciPy starts.
_DRAWS, _STARTS = 1000, 4


@register
class Oracle(Learner):
    """Knows the family's Hamiltonian; adaptation finds the physical parameters by nonlinear least squares (SciPy)."""

    net: ParametricHamiltonian
    meta_trained = False

    def __init__(self, net: ParametricHamiltonian):
        """**Arguments:** `net`: the family's law."""
        super().__init__(net)

    def tested_steps(self, steps: Sequence[int]) -> Sequence[int]:
        """One fit, which is one step."""
        return [1]

    @property
    def unknowns_of_a_member(self) -> int:
        """The physical parameters."""
        return self.net.physical.numel()

    def own_numbers(self, adapted: AdaptedSystems) -> Float[Tensor, "systems numbers"]:
        """The physical parameters."""
        return adapted.parameters["physical"]

    def task_losses(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        """Each task's query loss at the parameters fitted to its support set; a fit by SciPy has no gradient."""
        *_, fitted = self.adaptations(episodes.support, 1)
        return self.query_losses(fitted, episodes.query)

    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """Yields the prior's mean, then the fitted parameters, which no further step changes."""
        tasks = len(support.x)
        yield {"physical": self.net.physical.detach().expand(tasks, -1)}
        if steps:
            fitted = torch.stack([self._fit(support[task]) for task in range(tasks)])
            for _ in range(steps):
                yield {"physical": fitted}

    def _fit(self, points: Points) -> Float[Tensor, " parameters"]:
        """The parameters of one task, the best of several starts."""
        if points.mask is not None:
            points = Points(points.x[points.mask], points.dxdt[points.mask])
        system, x, target = self.net.system, points.x, points.dxdt.flatten()

        def prediction(parameters: Tensor) -> Tensor:
            return system.field(x, parameters.expand(len(x), -1)).flatten()

        def residual(parameters: np.ndarray) -> np.ndarray:
            return (prediction(torch.from_numpy(parameters).to(x)) - target).cpu().numpy()

        def jacobian(parameters: np.ndarray) -> np.ndarray:
            return torch.func.jacrev(prediction)(torch.from_numpy(parameters).to(x)).cpu().numpy()

        drawn = system.sample_parameters(_DRAWS, seed=0, split="oracle").to(x)
        error = (system.field(x, drawn[:, None]).flatten(1) - target).square().sum(-1)
        starts = drawn[error.argsort()[:_STARTS]].cpu().numpy()
        tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        bounds = (system.lowest_parameters, np.inf)
        fits = [
            scipy.optimize.least_squares(residual, start, jac=jacobian, x_scale="jac", bounds=bounds, **tight)  # pyright: ignore
            for start in starts
        ]
        return torch.from_numpy(min(fits, key=lambda fit: fit.cost).x).to(x)
