"""The loss of the papers and the scale in which it is taken."""

from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Episodes, Points

# Keeps the scale of a task observed at rest away from zero; a pendulum's is between 1 and 90.
_SMALLEST_SCALE = 1e-3


def field_loss(
    predicted: Float[Tensor, "*tasks points state"], dxdt: Float[Tensor, "*tasks points state"]
) -> Float[Tensor, "*tasks"]:
    """Equation (2), L_HNN = ‖dx/dt − Ω ∇ₓH_θ(x)‖²: summed over the coordinates, mean over the points."""
    return (predicted - dxdt).square().sum(-1).mean(-1)


def task_scale(support: Points) -> Float[Tensor, "*tasks"]:
    """The RMS of a task's observed derivatives over its support points and coordinates.

    One number for all coordinates: a scale for each would change Ω. Learning H / s instead of H keeps the few
    systems with the largest derivatives from ruling the mean loss.
    """
    return support.dxdt.square().mean((-2, -1)).sqrt().clamp_min(_SMALLEST_SCALE)


def rescaled(episodes: Episodes) -> Episodes:
    """The same tasks with all derivatives in units of the support's [`task_scale`][]."""
    scale = task_scale(episodes.support)[..., None, None]
    support = Points(episodes.support.x, episodes.support.dxdt / scale)
    query = Points(episodes.query.x, episodes.query.dxdt / scale)
    return Episodes(support, query, episodes.parameters)
