"""Recordings of damped springs that are pushed by a measured force, simulated by SciPy."""

from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp

DAMPING = 0.08


def driven_springs(folder: Path, members: int, t: np.ndarray, noise: float = 0.0, free: int = 0) -> np.ndarray:
    """Writes `0.csv` and so on with the columns t, q, p and u, which is linear between the instants. The first `free`
    have no u, and nothing pushes them.

    **Returns:** k and the gain of each: dp/dt = −k q − 0.08 p + gain · u, with dq/dt = p.
    """
    generator = np.random.default_rng(0)
    truth = np.column_stack([generator.uniform(0.8, 1.5, members), generator.uniform(0.4, 1.6, members)])
    truth[:free, 1] = 0.0
    for i, (k, gain) in enumerate(truth):
        frequencies, phases = generator.uniform(0.3, 2.5, 2), generator.uniform(0, 6, 2)

        u = np.sin(np.multiply.outer(t, frequencies) + phases).sum(-1)

        def rate(time, x, k=k, gain=gain, u=u):
            return [x[1], -k * x[0] - DAMPING * x[1] + gain * np.interp(time, t, u)]

        start, step = generator.uniform(-1, 1, 2), (t[1] - t[0]) / 4
        x = solve_ivp(rate, (t[0], t[-1]), start, "DOP853", t, rtol=1e-10, atol=1e-10, max_step=step).y.T
        x = x + noise * x.std(0) * generator.normal(size=x.shape)
        table, header = np.column_stack([t, x, u]), "t,q,p,u"
        if i < free:
            table, header = table[:, :3], header[:5]
        np.savetxt(folder / f"{i}.csv", table, delimiter=",", header=header, comments="", fmt="%.12g")
    return truth
