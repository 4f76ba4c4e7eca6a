"""A ring of particles with nonlinear springs between them and to the ground."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem

# Half-widths of the box of each particle.
_HALF_Q, _HALF_P = 1.5, 1.5
# Orbits have between these parts of the energy with which a particle can reach an edge.
_LEAST, _MOST = 0.25, 0.998


@register
class Chain(SimulatedSystem):
    """Rings of n like particles, with a nonlinear spring to each neighbour and one to the ground:

    H(q, p) = Σᵢ pᵢ² / (2m) + a Δᵢ² / 2 + b Δᵢ⁴ / 4 + c qᵢ² / 2 + d qᵢ⁴ / 4, with Δᵢ = qᵢ₊₁ − qᵢ and qₙ₊₁ = q₁

    The masses are m ∈ [0.5, 2]; a, b, c and d ∈ [0.1, 1], all uniform. With c = d = 0 it would be the chain of Fermi,
    Pasta, Ulam and Tsingou, with b = 0 the Klein-Gordon chain. Everything is dimensionless.

    ??? cite "Reference"

        Fermi, Pasta, Ulam: Studies of nonlinear problems. Los Alamos report LA-1940, 1955. With springs to the ground:
        Flach, Gorbach: Discrete breathers. Advances in theory and applications. Physics Reports 467, 2008.
    """

    parameter_names = ("m", "a", "b", "c", "d")
    parameter_ranges = ((0.5, 2.0), (0.1, 1.0), (0.1, 1.0), (0.1, 1.0), (0.1, 1.0))
    horizon = 50.0  # about eleven periods; the Lyapunov times of such orbits are some hundred time units

    def __init__(self, n: int = 8):
        """**Arguments:**

        - `n`: how many particles, at least 2; tried up to 32.
        """
        check_arguments(type(self), n=n)
        self.n = n
        self.domain = Domain.box((*n * (_HALF_Q,), *n * (_HALF_P,)), lattice="ring")

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = Σᵢ pᵢ² / (2m) + a Δᵢ² / 2 + b Δᵢ⁴ / 4 + c qᵢ² / 2 + d qᵢ⁴ / 4."""
        quadratic, quartic = self._parts(x, parameters)
        return quadratic + quartic

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dqᵢ/dt = pᵢ / m and dpᵢ/dt = Fᵢ − Fᵢ₋₁ − c qᵢ − d qᵢ³, Fᵢ = a Δᵢ + b Δᵢ³."""
        q, p = x.chunk(2, dim=-1)
        m, a, b, c, d = parameters.unsqueeze(-1).unbind(-2)
        stretch = q.roll(-1, -1) - q
        tension = a * stretch + b * stretch**3
        dh_dq = tension.roll(1, -1) - tension + c * q + d * q**3
        return hamiltonian_field(torch.cat([dh_dq, p / m], dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H is linear in 1/m, a, b, c and d."""
        m, a, b, c, d = parameters.unbind(-1)
        return {"1/m": 1 / m, "a": a, "b": b, "c": c, "d": d}

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One initial state a system, with too little energy for any particle to reach an edge of the box.

        A particle at qᵢ = Q has at least the energy Q² / (2 G) + d Q⁴ / 4, where G = mean over the waves of
        1 / (c + 4 a sin²(π j / n)) is how far a force of 1 pulls it in a harmonic ring. The direction of the state is
        that of thermal motion in the springs to the ground; its length follows from the energy, since H is the sum of
        a quadratic and a quartic form.
        """
        parameters = parameters.double()
        m, a, _, c, d = parameters.unbind(-1)
        waves = (math.pi * torch.arange(self.n, device=m.device) / self.n).sin() ** 2
        compliance = (1 / (c[:, None] + 4 * a[:, None] * waves)).mean(-1)
        edge_q = _HALF_Q**2 / (2 * compliance) + d * _HALF_Q**4 / 4
        highest = torch.minimum(edge_q, _HALF_P**2 / (2 * m))
        unit = uniform(seed, (split, "initial"), range(len(parameters)), (1, 2 * self.n + 1), m.device)[:, 0]
        energy = highest * (_LEAST + (_MOST - _LEAST) * unit[:, 0])
        normal = torch.special.ndtri(unit[:, 1:].clamp_min(torch.finfo(unit.dtype).tiny))
        thermal = torch.stack([c**-0.5, m**0.5], dim=-1).repeat_interleave(self.n, dim=-1)
        quadratic, quartic = self._parts(thermal * normal, parameters)
        # s² of the state s · direction, from quadratic s² + quartic s⁴ = energy.
        squared = 2 * energy / (quadratic + (quadratic**2 + 4 * quartic * energy).sqrt())
        return squared.sqrt()[:, None] * thermal * normal

    def _parts(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The quadratic and the quartic terms of H."""
        q, p = x.chunk(2, dim=-1)
        m, a, b, c, d = parameters.unbind(-1)
        stretch = q.roll(-1, -1) - q
        squares = [v.square().sum(-1) for v in (p, stretch, q)]
        fourths = [(v**4).sum(-1) for v in (stretch, q)]
        quadratic = squares[0] / (2 * m) + a * squares[1] / 2 + c * squares[2] / 2
        return quadratic, b * fourths[0] / 4 + d * fourths[1] / 4
