"""Recordings of mechanisms whose momenta depend on the positions: own equations of motion, solved by SciPy."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp

from meta_hamiltonian.observations import Trajectory


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """L = ½ v·M(q) v − V(q) − friction d v²: one member of a family.

    - `mass`: M(q); `mass_slopes`: ∂M/∂qᵢ, a matrix for each i; `force`: −∂V/∂q.
    """

    mass: Callable[[np.ndarray], np.ndarray]
    mass_slopes: Callable[[np.ndarray], list[np.ndarray]]
    force: Callable[[np.ndarray], np.ndarray]
    start: np.ndarray
    damping: float = 0.0

    def motion(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities at these times."""
        n = len(self.start) // 2

        def rates(_: float, y: np.ndarray) -> np.ndarray:
            q, v = y[:n], y[n:]
            slopes = self.mass_slopes(q)
            turned = sum(one * rate for one, rate in zip(slopes, v, strict=True)) @ v
            bent = np.array([v @ one @ v / 2 for one in slopes])
            return np.concatenate([v, np.linalg.solve(self.mass(q), self.force(q) + bent - turned - self.damping * v)])

        found = solve_ivp(rates, (t[0], t[-1]), self.start, t_eval=t, rtol=1e-9, atol=1e-9, method="DOP853")
        return found.y.T[:, :n], found.y.T[:, n:]

    def momenta(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        """p = M(q) v at each instant."""
        return np.stack([self.mass(one) @ rate for one, rate in zip(q, v, strict=True)])


def double_pendulum(random: np.random.Generator) -> Mechanism:
    """Two angles from the vertical."""
    m1, m2 = random.uniform(0.5, 1.5, 2)
    l1, l2 = random.uniform(0.8, 1.2, 2)
    a, b, c = (m1 + m2) * l1**2, m2 * l1 * l2, m2 * l2**2

    def off(value: float) -> np.ndarray:
        return np.array([[0.0, value], [value, 0.0]])

    return Mechanism(
        lambda q: np.diag([a, c]) + off(b * np.cos(q[0] - q[1])),
        lambda q: [off(-b * np.sin(q[0] - q[1])), off(b * np.sin(q[0] - q[1]))],
        lambda q: -9.81 * np.array([(m1 + m2) * l1 * np.sin(q[0]), m2 * l2 * np.sin(q[1])]),
        np.array([*random.uniform(0.5, 1.3, 2) * random.choice([-1, 1], 2), 0.0, 0.0]),
    )


def spring_pendulum(random: np.random.Generator) -> Mechanism:
    """A mass on a spring that swings, in polar coordinates, with friction."""
    m, k, rest = random.uniform(0.5, 2.0), random.uniform(20, 60), random.uniform(0.8, 1.2)
    zero = np.zeros((2, 2))
    return Mechanism(
        lambda q: np.diag([m, m * q[0] ** 2]),
        lambda q: [np.diag([0.0, 2 * m * q[0]]), zero],
        lambda q: np.array(
            [m * 9.81 * np.cos(q[1]) - k * (q[0] - rest), -m * 9.81 * q[0] * np.sin(q[1])],
        ),
        np.array([rest + 9.81 * m / k + random.uniform(-0.2, 0.2), random.uniform(0.6, 1.2), 0.0, 0.0]),
        damping=random.uniform(0.02, 0.1),
    )


def unequal_springs(random: np.random.Generator) -> Mechanism:
    """Two masses in a row on springs."""
    m1, m2, k1, k2 = random.uniform((0.5, 0.5, 2, 2), (2, 2, 8, 8))
    zero = np.zeros((2, 2))
    return Mechanism(
        lambda q: np.diag([m1, m2]),
        lambda q: [zero, zero],
        lambda q: np.array([-k1 * q[0] + k2 * (q[1] - q[0]), -k2 * (q[1] - q[0])]),
        np.array([*random.uniform(-1, 1, 2), 0.0, 0.0]),
    )


def henon_heiles(random: np.random.Generator) -> Mechanism:
    """One mass in the plane, whose momenta are its velocities times a number."""
    m, k, c = random.uniform(0.5, 2, 3)
    zero = np.zeros((2, 2))
    return Mechanism(
        lambda q: m * np.eye(2),
        lambda q: [zero, zero],
        lambda q: -np.array([k * q[0] + 2 * c * q[0] * q[1], k * q[1] + c * (q[0] ** 2 - q[1] ** 2)]),
        np.array([*random.uniform(-0.3, 0.3, 2) * k / c, 0.0, 0.0]),
    )


def recorded(
    mechanism: Mechanism, t: np.ndarray, noise: float, random: np.random.Generator, momenta: bool = False
) -> Trajectory:
    """Positions and velocities or momenta with noise, a part of the standard deviation of each."""
    q, v = mechanism.motion(t)
    both = np.hstack([q, mechanism.momenta(q, v) if momenta else v])
    both = both + noise * both.std(0) * random.standard_normal(both.shape)
    q, other = np.split(both, 2, axis=1)
    return Trajectory(t, q, other, None, "") if momenta else Trajectory(t, q, None, other, "")
