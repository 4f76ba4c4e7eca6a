"""Predators and prey, in the coordinates in which their equations are Hamiltonian."""

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem

# The part of the box in which orbits begin, so that rounding never carries one over an edge.
_INSIDE = 0.999


@register
class LotkaVolterra(SimulatedSystem):
    """Populations of prey x and predators y, in q = ln x and p = ln y, with rates α, γ ∈ [0.3, 1] and β, δ ∈ [0.5, 1]:

    H(q, p) = α p − β eᵖ + γ q − δ e^q

    The prey grow at the rate α and are eaten at β y, the predators die at γ and thrive at δ x: dx/dt = x (α − β y) and
    dy/dt = y (δ x − γ). All parameters are uniform. Orbits are closed around the point of coexistence
    (ln γ/δ, ln α/β), where H is highest. Everything is dimensionless.

    ??? cite "Reference"

        Lotka: Analytical note on certain rhythmic relations in organic systems. Proceedings of the National Academy
        of Sciences 6, 1920. The Hamiltonian: Kerner: Note on Hamiltonian format of Lotka-Volterra dynamics. Physics
        Letters A 151, 1990.
    """

    parameter_names = ("alpha", "beta", "gamma", "delta")
    parameter_ranges = ((0.3, 1.0), (0.5, 1.0), (0.3, 1.0), (0.5, 1.0))
    domain = Domain.box({"q": (-3.0, 2.0), "p": (-3.0, 2.0)}, logarithms=("q", "p"))
    horizon = 100.0  # about nine periods, a little longer than the 2π / √(α γ) near coexistence

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = α p − β eᵖ + γ q − δ e^q."""
        q, p = x.unbind(-1)
        alpha, beta, gamma, delta = parameters.unbind(-1)
        return alpha * p - beta * p.exp() + gamma * q - delta * q.exp()

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dq/dt = α − β eᵖ and dp/dt = −γ + δ e^q."""
        q, p = x.unbind(-1)
        alpha, beta, gamma, delta = parameters.unbind(-1)
        dh_dq, dh_dp = gamma - delta * q.exp(), alpha - beta * p.exp()
        return hamiltonian_field(torch.stack(torch.broadcast_tensors(dh_dq, dh_dp), dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H is linear in all of them."""
        return dict(zip(self.parameter_names, parameters.unbind(-1), strict=True))

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One initial state a system, uniform among those whose closed orbit lies in the box.

        H is a sum of a concave function of q and one of p, so that an orbit reaches an edge only if its H is as low
        as that on the edge, the other coordinate being that of coexistence.
        """
        parameters = parameters.double()
        alpha, beta, gamma, delta = parameters.unbind(-1)
        coexistence = torch.stack([(gamma / delta).log(), (alpha / beta).log()], dim=-1)
        on_the_edges = []
        for i, coordinate in enumerate(self.domain.coordinates):
            for end in (coordinate.low, coordinate.high):
                x = coexistence.clone()
                x[:, i] = self.domain.centre[i] + _INSIDE * (end - self.domain.centre[i])
                on_the_edges.append(self.hamiltonian(x, parameters))
        lowest = torch.stack(on_the_edges).amax(0)
        high = lambda x: self.hamiltonian(x, parameters[:, None]) > lowest[:, None]  # noqa: E731
        return self.domain.draw(seed, (split, "initial"), range(len(parameters)), 1, high)[:, 0]
