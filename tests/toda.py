"""A family outside the package, as a user writes it: two degrees of freedom, no closed form of its field."""

import torch

from meta_hamiltonian.systems import Domain, SimulatedSystem, register


@register
class Toda(SimulatedSystem):
    """H = |p|²/2m + a (exp(−q₁) + exp(q₁ − q₂) + exp(q₂)): a chain of two particles between walls.

    Toda: Vibration of a chain with nonlinear interaction. Journal of the Physical Society of Japan 22, 1967.
    """

    parameter_names = ("m", "a")
    parameter_ranges = ((0.5, 2.0), (0.5, 2.0))
    domain = Domain.box({"q1": (-1, 1), "q2": (-1, 1), "p1": (-1, 1), "p2": (-1, 1)})
    horizon = 10.0

    def hamiltonian(self, x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        q1, q2, p1, p2 = x.unbind(-1)
        m, a = parameters.unbind(-1)
        return (p1**2 + p2**2) / (2 * m) + a * ((-q1).exp() + (q1 - q2).exp() + q2.exp())

    def linear_parameters(self, parameters: torch.Tensor) -> dict[str, torch.Tensor]:
        m, a = parameters.unbind(-1)
        return {"1/m": 1 / m, "a": a}
