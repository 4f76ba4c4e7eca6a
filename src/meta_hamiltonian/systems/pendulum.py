"""The pendulum, the family of the protocol."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.basics.random import uniform
from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.systems.base import SimulatedSystem

# Released from farther than this from its rest angle, a pendulum spends its time near the upright one (radians).
_LARGEST_SWING = 2.5


@register
class Pendulum(SimulatedSystem):
    """Pendulums of mass m ∈ [0.5, 5], length l ∈ [0.5, 5] and rest angle q0 ∈ [−π, π], all uniform:

    H(q, p) = p² / (2 m l²) + m g l (1 − cos(q − q0))

    Angles are in radians; with `gravity=1` everything else is dimensionless.

    ??? cite "Reference"

        Lee, Seong: Meta-Learned Hamiltonian. NeurIPS workshop on Machine Learning and the Physical Sciences, 2020.
    """

    parameter_names = ("m", "l", "q0")
    parameter_ranges = ((0.5, 5.0), (0.5, 5.0), (-math.pi, math.pi))
    domain = Domain.box((2 * math.pi, 20.0), angles=("q",))
    inputs = "raw"  # the poster's networks are given q itself
    horizon = 20.0  # the protocol's, about two periods of a typical pendulum

    def __init__(self, gravity: float = 1.0):
        """**Arguments:**

        - `gravity`: g, above 0. The poster does not give it; 1 matches its range of p.
        """
        check_arguments(type(self), gravity=gravity)
        self.gravity = gravity

    def hamiltonian(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch"]:
        """H(q, p) = p² / (2 m l²) + m g l (1 − cos(q − q0)), the kinetic and the potential energy."""
        q, p = x.unbind(-1)
        m, l, q0 = parameters.unbind(-1)
        return p**2 / (2 * m * l**2) + m * self.gravity * l * (1 - torch.cos(q - q0))

    def field(
        self, x: Float[Tensor, "*#batch state"], parameters: Float[Tensor, "*#batch parameters"]
    ) -> Float[Tensor, "*batch state"]:
        """Equation (1) in closed form: dq/dt = p / (m l²) and dp/dt = −m g l sin(q − q0)."""
        q, p = x.unbind(-1)
        m, l, q0 = parameters.unbind(-1)
        dh_dq = m * self.gravity * l * torch.sin(q - q0)
        dh_dp = p / (m * l**2)
        return hamiltonian_field(torch.stack(torch.broadcast_tensors(dh_dq, dh_dp), dim=-1))

    def linear_parameters(
        self, parameters: Float[Tensor, "systems parameters"]
    ) -> dict[str, Float[Tensor, " systems"]]:
        """H = p² / (2 m l²) − m l g cos q0 cos q − m l g sin q0 sin q + const."""
        m, l, q0 = parameters.unbind(-1)
        return {"1/(m l²)": 1 / (m * l**2), "m l cos q0": m * l * q0.cos(), "m l sin q0": m * l * q0.sin()}

    def sample_initial_states(
        self, parameters: Float[Tensor, "systems parameters"], seed: int, split: str = "test"
    ) -> Float[Tensor, "systems state"]:
        """One state at rest for each system, x(0) = (q0 + A, 0), so that the true orbit swings inside the state box.

        A is uniform in [A_max / 8, A_max], where A_max is 2.5 rad, or less where the swing would
        pass the bottom with p at the edge of the box: p² = 2 m² l³ g (1 − cos A).
        """
        m, l, q0 = parameters.double().unbind(-1)
        one_minus_cos = self.state_box[1] ** 2 / (2 * m**2 * l**3 * self.gravity)
        largest = torch.arccos((1 - one_minus_cos).clamp(min=-1.0)).clamp(max=_LARGEST_SWING)
        unit = uniform(seed, (split, "initial"), range(len(parameters)), (1, 1), m.device)[:, 0, 0]
        swing = largest * (1 / 8 + 7 / 8 * unit)
        return torch.stack([q0 + swing, torch.zeros_like(q0)], dim=-1)
