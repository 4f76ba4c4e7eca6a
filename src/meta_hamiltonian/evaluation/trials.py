"""Adapts a learner to the test systems: one result for each K and number of gradient steps."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meta_hamiltonian.basics.devices import gather
from meta_hamiltonian.evaluation.errors import Errors, measure
from meta_hamiltonian.evaluation.testset import TestSet
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.models import AdaptedSystems

# How many systems are compared with the true ones at once.
_TOGETHER = 1000


@dataclasses.dataclass(frozen=True)
class Result:
    """One row's origin and figures: the learner after `steps` gradient steps on K = `shots` points.

    `adapt_seconds` is the time of adapting all systems, from 0 to `steps`; `unknowns` is how many numbers were found
    for each of them.
    """

    shots: int
    steps: int
    errors: Errors
    adapted: AdaptedSystems
    adapt_seconds: float
    unknowns: int

    def of_all(self) -> "Result":
        """The result for all systems, where each process has measured its share; `adapted` stays this process's."""
        parts = gather((self.errors, self.adapt_seconds))
        errors, seconds = [part[0] for part in parts], [part[1] for part in parts]
        return dataclasses.replace(self, errors=Errors.joined(errors), adapt_seconds=max(seconds))

    def figures(self, systems: Bool[Tensor, " systems"] | None = None) -> dict[str, float | int]:
        """The measured columns, for all systems or for some."""
        e = self.errors if systems is None else self.errors.of(systems)
        return {
            "shots": self.shots,
            "steps": self.steps,
            "n_systems": len(e.diverged),
            "n_diverged": int(e.diverged.sum()),
            "field_mse_mean": e.field_mse.mean().item(),
            "field_mse_median": _median(e.field_mse),
            "field_rel_median": _median(e.field_rel),
            "state_mse_mean": e.state_mse.mean().item(),
            "state_mse_median": _median(e.state_mse),
            "energy_mse_mean": e.energy_mse.mean().item(),
            "energy_mse_median": _median(e.energy_mse),
            "adapt_seconds": round(self.adapt_seconds, 4),
            "state_rel_median": _median(e.state_rel),
            "unknowns": self.unknowns,
        }


def _median(values: Float[Tensor, " systems"]) -> float:
    return values.quantile(0.5).item()  # Tensor.median takes the lower of the two in the middle


def evaluate(learner: Learner, test: TestSet, shots: Sequence[int], steps: Sequence[int]) -> Iterator[Result]:
    """Adapts the learner to all test systems at once, for every K and number of steps, and measures the errors.

    Everything is computed on the learner's device; the results are on the CPU.

    **Arguments:**

    - `learner`: a trained learner.
    - `test`: systems with at least `max(shots)` support points.
    - `shots`, `steps`: the values of K and the numbers of gradient steps, each in increasing order.
    """
    steps = learner.tested_steps(steps)
    device = learner.device
    test = test.to(device)
    at_once = max(1, _TOGETHER // max(1, len(test.parameters)))
    adapted = _adapted(learner, test, shots, steps)
    while some := list(itertools.islice(adapted, at_once)):
        errors = measure([systems for _, _, systems, _ in some], test)
        for (k, count, systems, seconds), own in zip(some, errors, strict=True):
            yield Result(k, count, own.to("cpu"), systems.to("cpu"), seconds, learner.unknowns_of_a_member)


def _adapted(
    learner: Learner, test: TestSet, shots: Sequence[int], steps: Sequence[int]
) -> Iterator[tuple[int, int, AdaptedSystems, float]]:
    """K, the number of steps, the systems, and the seconds that they took."""
    device = learner.device
    for k in shots:
        adapted = learner.adapt_tasks(test.support.first(k), steps)
        seconds = 0.0
        for count in steps:
            start = time.perf_counter()
            systems = next(adapted)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds += time.perf_counter() - start
            yield k, count, systems, seconds
