"""A telephone that swings on two strings: length and friction from its gyroscope, as phyphox exports it.

Train once: python train.py algo=ridge hydra.run.dir=outputs/ridge
Then:       python examples/phone_pendulum.py outputs/ridge [export.csv]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from meta_hamiltonian import load
from meta_hamiltonian.inference import fit
from meta_hamiltonian.inference.symbolic import read_symbolically
from meta_hamiltonian.observations import read
from meta_hamiltonian.reports.prediction import predict


def swing(path: Path, length: float = 0.85, damping: float = 0.05) -> Path:
    """Writes what a phone would: q″ = −(g/l) sin q − damping q′, sampled at 50 Hz for 12 s, with noise."""
    rng, step, q, v, rows = np.random.default_rng(0), 0.001, 0.6, 0.0, []
    for i in range(12001):
        if i % 20 == 0:
            x, y, z = np.array([0.0, v, 0.0]) + 0.01 * rng.standard_normal(3)
            rows.append([i * step, x, y, z, np.sqrt(x * x + y * y + z * z)])
        v -= step * (9.81 / length * np.sin(q) + damping * v)
        q += step * v
    header = ",".join(
        f'"{name}"' for name in ("Time (s)", *(f"Gyroscope {a} (rad/s)" for a in "xyz"), "Absolute (rad/s)")
    )
    np.savetxt(path, rows, delimiter=",", header=header, comments="", fmt="%.6f")
    return path


run, *exports = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    export = Path(exports[0]) if exports else swing(Path(folder) / "phone.csv")
    learner = load(run)
    reading = read([export], learner.net.domain, to_time=None if exports else 8.0)
found = fit(learner, reading.observations, how="derivatives", friction="viscous")
print(*reading.notes, *found.warnings, sep="\n")

((damping, error),) = found.friction.values()
print(f"friction: {damping:.4f} ± {error:.4f} per unit of angular velocity")
said = read_symbolically(found.adapted, found.samples, found.x)
print(
    "H =",
    *(f"{value:+.4g} {term}" for term, value in zip(said.terms, said.coefficients, strict=True)),
    said.refusal or "",
)
waves = [value for term, value in zip(said.terms, said.coefficients, strict=True) if "cos" in term or "sin" in term]
if waves:  # H = p²/2 − (g/l) cos(q − q0), since p = dq/dt here
    print(f"length: {9.81 / np.linalg.norm(waves):.3f} m")
ahead = predict(found, 4.0)
print(
    f"in 4 s it will be at {ahead.x[-1, 0]:.3f} rad, and have lost {ahead.dissipated[-1]:.3f} of {ahead.energy[0]:.3f}"
)
