"""Bands as wide as forecasts of the family's own recordings have missed by."""

import dataclasses

import torch
from torch import Tensor

from meta_hamiltonian.dynamics import Forces
from meta_hamiltonian.inference.solution import Solution

MOST = 10.0
"""The largest factor. Bands that are narrower still are wrong in another way, such as where an orbit is lost."""


def widened(solution: Solution, factor: float) -> Solution:
    """The same solution, its samples `factor` times as far from their mean.

    A fit knows what the noise leaves open. A real system also changes from one minute to the next, or has forces that
    the law lacks. By how much forecasts miss for that is known from the recordings that the family was learned from.
    """
    samples, ends, forces = solution.samples, solution.end_samples, solution.sampled_forces
    if factor == 1 or samples is None or ends is None:
        return solution

    def away(values: Tensor) -> Tensor:
        return torch.lerp(values.mean(0, keepdim=True).expand_as(values), values, factor)

    def stronger(forces: Forces | None) -> Forces | None:
        if forces is None:
            return None
        d = away(forces.coefficients).clamp_min(0.0)  # friction takes energy out
        return dataclasses.replace(forces, coefficients=d, gains=away(forces.gains))

    own = {name: away(value) for name, value in samples.parameters.items()}
    samples = dataclasses.replace(samples, parameters=own, forces=stronger(samples.forces))
    return solution._replace(samples=samples, end_samples=away(ends), sampled_forces=stronger(forces))
