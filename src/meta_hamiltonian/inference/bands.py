"""How sure a prediction is: credible bands from systems drawn from a posterior."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.models import AdaptedSystems

# The state that is known least is looked for among so many.
_CANDIDATES = 1024
# Samples that tell a standard deviation to a tenth.
_ENOUGH = 64


def interval(
    samples: Float[Tensor, "samples *values"], level: float = 0.95
) -> tuple[Float[Tensor, "*values"], Float[Tensor, "*values"]]:
    """The central credible interval of each value at this level: its lower and its upper end."""
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=samples.dtype, device=samples.device)
    low, high = samples.quantile(ends, dim=0)
    return low, high


def field_samples(samples: AdaptedSystems, x: Float[Tensor, "points state"]) -> Float[Tensor, "samples points state"]:
    """dx/dt at the states x, in every sample."""
    return samples.field(x.double().expand(len(samples.scale), *x.shape))


def energy_change_samples(samples: AdaptedSystems, x: Float[Tensor, "points state"]) -> Float[Tensor, "samples points"]:
    """H(x) − H(x₀) in every sample, where x₀ is the first of the states: an energy is known up to a constant."""
    energy = samples.energy(x.double().expand(len(samples.scale), *x.shape))
    return energy - energy[:, :1]


def uncertainty(samples: AdaptedSystems, x: Float[Tensor, "points state"]) -> Float[Tensor, " points"]:
    """Standard deviation of dx/dt over the samples, each rate in units of its RMS over the states."""
    samples = samples.first(_ENOUGH)
    fields = field_samples(samples, x)
    size = fields.mean(0).square().mean(0).clamp_min(torch.finfo(fields.dtype).tiny)
    return (fields.var(0) / size).sum(-1).sqrt()


def where_next(samples: AdaptedSystems, domain: Domain | None = None) -> Float[Tensor, " state"]:
    """The state of the domain where dx/dt is known least, and where the next measurement tells most.

    **Arguments:** `domain`: the member's own; None is the family's.
    """
    x = (domain or samples.net.domain).sobol(_CANDIDATES).to(samples.scale.device)
    return x[uncertainty(samples, x).argmax()]
