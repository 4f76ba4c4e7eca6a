"""A family outside the package, as a user writes it: two degrees of freedom, no closed form of its field."""

import torch

from meta_hamiltonian.systems import Domain, SimulatedSystem, register


@register
class HenonHeiles(SimulatedSystem):
    """H = |p|²/2m + k|q|²/2 + λ(q₁² q₂ − q₂³/3), at energies below the escape energy k³/(6 λ²).

    Hénon, Heiles: The applicability of the third integral of motion. The Astronomical Journal 69, 1964.
    """

    parameter_names = ("m", "k", "lam")
    parameter_ranges = ((0.5, 2.0), (0.5, 2.0), (0.2, 1.0))
    domain = Domain.box({"q1": (-1, 1), "q2": (-1, 1), "p1": (-1, 1), "p2": (-1, 1)})

    def hamiltonian(self, x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        q1, q2, p1, p2 = x.unbind(-1)
        m, k, lam = parameters.unbind(-1)
        quadratic = (p1**2 + p2**2) / (2 * m) + k * (q1**2 + q2**2) / 2
        return quadratic + lam * (q1**2 * q2 - q2**3 / 3)

    def linear_parameters(self, parameters: torch.Tensor) -> dict[str, torch.Tensor]:
        m, k, lam = parameters.unbind(-1)
        return {"1/m": 1 / m, "k": k, "λ": lam}
