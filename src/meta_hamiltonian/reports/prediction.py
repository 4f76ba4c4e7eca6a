"""The prediction from where the observations end, as numbers and as files."""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Orbits
from meta_hamiltonian.dynamics.domain import canonical_names
from meta_hamiltonian.inference import Fit
from meta_hamiltonian.inference.bands import energy_change_samples, interval
from meta_hamiltonian.inference.outlook import Outlook, of_pace, of_samples, of_tail
from meta_hamiltonian.inference.remarks import of_little_worth
from meta_hamiltonian.models import AdaptedSystems
from meta_hamiltonian.observations import Derivatives, Trajectory

INSTANTS = 201
"""The fewest instants of a prediction."""
# How long a prediction is, unless so many times as much was recorded, or so many times as little.
_HORIZON, _FAR = 20.0, 100.0
# The shortest period that is predicted has so many instants, if that is no more than so many in all.
_PER_PERIOD, _MOST = 60, 5001
# Errors of a step of orbits, where the observations are exact and where they have noise.
_EXACT, _NOISY = 1e-10, 1e-7
# Orbits of samples that take more steps than so many for each instant are stopped: no plausible system needs them.
_STEPS = 20.0


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The orbit from where the observations end, as far as it can be followed.

    - `t`, `x`: instants and states `[S, 2n]`.
    - `energy`: the learned energy along it `[S]`, None if the network has none.
    - `work`: the work that each force has done on the system since the beginning `[S]`, by name: each kind of friction,
        and `input`. Without forces it is empty.
    - `power`: the power of each force `[S]`.
    - `bands`: by name, the ends of 95 % credible intervals, `(lower, upper)`: `x` of the states, as they would be
        observed; `energy` of what the energy along the orbit differs from that at its start. Empty without a posterior.
    - `outlook`: the expected error of the prediction; None where nothing tells.
    - `warnings`: where and why the prediction ends early, or it or its bands are not to be trusted.
    - `v`: velocities `[S, n]`, where momenta were not observed but found from velocities by a mass matrix; else None.
    """

    t: np.ndarray
    x: np.ndarray
    energy: np.ndarray | None
    work: Mapping[str, np.ndarray]
    power: Mapping[str, np.ndarray]
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]]
    outlook: Outlook | None
    warnings: Sequence[str]
    v: np.ndarray | None = None

    @property
    def dissipated(self) -> np.ndarray:
        """The energy that friction has taken since the beginning `[S]`."""
        return -sum((work for name, work in self.work.items() if name != INPUT), np.zeros(len(self.t)))


INPUT = "input"
"""The force of the measured inputs, among those of friction."""


def usual_horizon(observations: Derivatives | Sequence[Trajectory]) -> float:
    """How long to predict where nobody says: 20, or twice as long as was recorded where that is far from 20."""
    if isinstance(observations, Derivatives):
        return _HORIZON
    recorded = max(float(one.t[-1] - one.t[0]) for one in observations)
    return _HORIZON if 1 / _FAR <= recorded / _HORIZON <= _FAR else 2 * recorded


def predict(fit: Fit, horizon: float) -> Prediction:
    """The orbit from `fit.start` for the time `horizon`."""
    t = fit.start_time + torch.linspace(0, horizon, _instants(fit, horizon), dtype=torch.float64).to(fit.start.device)
    orbit, sampled = _orbits(fit, t)
    known = t <= orbit.until[0]
    x = orbit.states[known, 0]
    warnings = []
    if orbit.diverged[0]:
        warnings.append(
            f"The prediction ends at t = {orbit.until[0].item():.4g} instead of {t[-1].item():.4g}: {orbit.reasons[0]}."
        )
    forces = fit.adapted.systems.forces
    signal = None if forces is None else forces.signal
    if signal is not None and signal.t[-1] < t[-1] - 1e-9 * horizon:
        warnings.append(
            f"The inputs were measured until t = {signal.t[-1].item():.4g}; from there on they are taken to be 0. Add "
            "rows with later times and inputs, their q left empty, or give --to-time to observe less of the file."
        )
    bands, outlook = {}, _without_samples(fit, x, t[known])
    if fit.samples is not None and sampled is not None:
        early = sampled.diverged & (sampled.until < t[known][-1])
        if early.any():
            warnings.append(
                f"The bands can be trusted until t = {sampled.until[early].min().item():.4g}: from "
                f"there on {int(early.sum())} of {len(early)} sampled orbits end."
            )
        states = sampled.states[known].transpose(0, 1)
        outlook = of_samples(states, x, t[known], fit.adapted.domain)
        # What will be observed has the errors of what was.
        unit = torch.randn(states.shape, dtype=states.dtype, generator=torch.Generator().manual_seed(2))
        states = states + fit.noise * unit.to(states.device)
        bands["x"] = tuple(end.cpu().numpy() for end in interval(states))
        if fit.adapted.has_energy:
            bands["energy"] = tuple(end.cpu().numpy() for end in interval(energy_change_samples(fit.samples, x)))
    if outlook is not None:
        warnings += of_little_worth(outlook, fit.missed, fit.usual)
    energy = fit.adapted.energy(x).cpu().numpy() if fit.adapted.has_energy else None
    power, work = _work(fit, t[known], x, energy)
    v = None
    if fit.inertia is not None and fit.adapted.domain.kinetic is not None:
        v = fit.adapted.field(x)[:, : x.shape[1] // 2].cpu().numpy()
    return Prediction(t[known].cpu().numpy(), x.cpu().numpy(), energy, work, power, bands, outlook, warnings, v)


def _without_samples(fit: Fit, x: Float[Tensor, "instants state"], t: Float[Tensor, " instants"]) -> Outlook | None:
    """The expected error where no samples tell."""
    if fit.tail is not None:
        return of_tail(*fit.tail, t)
    return None if fit.left_out is None else of_pace(fit.left_out, fit.adapted, x, t)


def _orbits(fit: Fit, t: Float[Tensor, " instants"]) -> tuple[Orbits, Orbits | None]:
    """The orbit of the system, and those of the samples.

    Where the observations have noise, the first needs no more digits than the others, and they are followed together.
    """
    start = fit.start.double()[None]
    if fit.samples is None or fit.start_samples is None:
        return fit.adapted.orbits(start, t, _NOISY if fit.noise.any() else _EXACT), None
    if not fit.noise.any():
        return fit.adapted.orbits(start, t, _EXACT), fit.samples.rollout(fit.start_samples, t, _NOISY, _STEPS * len(t))
    together = AdaptedSystems.joined([fit.adapted.systems, fit.samples])
    found = together.rollout(torch.cat([start, fit.start_samples]), t, _NOISY, _STEPS * len(t))
    return _part(found, slice(0, 1)), _part(found, slice(1, None))


def _part(orbits: Orbits, which: slice) -> Orbits:
    """Some of the orbits."""
    return Orbits(orbits.states[:, which], orbits.diverged[which], orbits.until[which], orbits.reasons[which])


def _instants(fit: Fit, horizon: float) -> int:
    """How many instants a prediction has: enough for a period of the fastest coordinate, by its rates and its size."""
    size = (fit.x - fit.x.mean(0)).square().mean(0).sqrt()
    frequency = (fit.dxdt.square().mean(0).sqrt() / size)[size > 0] / (2 * math.pi)
    fastest = frequency.amax().item() if len(frequency) else 0.0
    return int(min(max(INSTANTS, math.ceil(_PER_PERIOD * fastest * horizon) + 1), _MOST))


def _work(
    fit: Fit, t: Float[Tensor, " instants"], x: Float[Tensor, "instants state"], energy: np.ndarray | None
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """The power of each force along the predicted orbit, and its integral.

    The work of a single force is the change of the energy; for several forces, Simpson's rule tells their shares.
    """
    forces = fit.adapted.systems.forces
    if forces is None or len(t) < 2 or not (forces.kinds or forces.signal):
        return {}, {}
    v = fit.adapted.field(x)[:, : x.shape[1] // 2]
    powers = {kind: (v * force[0]).sum(-1) for kind, force in zip(forces.kinds, forces.each(v[None]), strict=True)}
    if forces.signal is not None:
        powers[INPUT] = (v * (forces(v[None], t[None]) - forces(v[None]))[0]).sum(-1)
    power = {name: value.cpu().numpy() for name, value in powers.items()}
    if len(power) == 1 and energy is not None:
        return power, {name: np.asarray(energy - energy[0]) for name in power}
    from scipy.integrate import cumulative_simpson  # here: it takes a third of a second

    return power, {name: cumulative_simpson(p, x=t.cpu().numpy(), initial=0.0) for name, p in power.items()}


def write_prediction(path: Path, predicted: Prediction) -> None:
    """Writes the columns `t`, the coordinates, `energy` and `dissipated` where there is an energy, and velocities where
    the prediction has them."""
    names = ["t", *canonical_names(predicted.x.shape[-1])]
    columns = [predicted.t, *predicted.x.T]
    if predicted.energy is not None:
        names += ["energy", "dissipated"]
        columns += [predicted.energy, predicted.dissipated]
    if predicted.v is not None:
        n = predicted.v.shape[1]
        names += ["v"] if n == 1 else [f"v{i + 1}" for i in range(n)]
        columns += list(predicted.v.T)
    _write(path, names, columns)


def write_bands(path: Path, predicted: Prediction) -> None:
    """Writes the columns `t`, and `_low` and `_high` of each coordinate and of `energy_change`."""
    low, high = (end.T for end in predicted.bands["x"])
    ends = dict(zip(canonical_names(predicted.x.shape[-1]), zip(low, high, strict=True), strict=True))
    if "energy" in predicted.bands:
        ends["energy_change"] = predicted.bands["energy"]
    names = [f"{name}_{end}" for name in ends for end in ("low", "high")]
    _write(path, ["t", *names], [predicted.t, *(end for both in ends.values() for end in both)])


def _write(path: Path, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(np.stack(columns, axis=-1).tolist())
