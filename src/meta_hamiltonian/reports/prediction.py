"""How a system goes on from where the observations end, as numbers and as files."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from meta_hamiltonian.dynamics.domain import canonical_names
from meta_hamiltonian.inference import Fit
from meta_hamiltonian.inference.bands import energy_change_samples, interval

INSTANTS = 201


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The orbit from where the observations end, as far as it can be followed.

    - `t`, `x`: instants and states `[S, 2n]`.
    - `energy`: the learned energy along it `[S]`, None if the network has none.
    - `bands`: by name, the ends of 95 % credible intervals, `(lower, upper)`: `x` of the states, `energy` of what the
        energy along the orbit differs from that at its start. Empty without a posterior.
    - `warnings`: where and why it ends early, or its bands are not to be trusted.
    """

    t: np.ndarray
    x: np.ndarray
    energy: np.ndarray | None
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]]
    warnings: Sequence[str]


def predict(fit: Fit, horizon: float) -> Prediction:
    """The orbit from `fit.start`, for so long."""
    t = torch.linspace(0, horizon, INSTANTS, dtype=torch.float64)
    orbit = fit.adapted.orbits(fit.start.double()[None], t)
    known = t <= orbit.until[0]
    x = orbit.states[known, 0]
    warnings = []
    if orbit.diverged[0]:
        end = fit.start_time + orbit.until[0].item()
        warnings.append(
            f"The prediction ends at t = {end:.4g} instead of {fit.start_time + horizon:.4g}: {orbit.reasons[0]}."
        )
    bands = {}
    if fit.samples is not None:
        assert fit.start_samples is not None
        sampled = fit.samples.rollout(fit.start_samples, t)
        early = sampled.diverged & (sampled.until < t[known][-1])
        if early.any():
            warnings.append(
                f"The bands can be trusted until t = {fit.start_time + sampled.until[early].min().item():.4g}: from "
                f"there on {int(early.sum())} of {len(early)} sampled orbits end."
            )
        bands["x"] = tuple(end.numpy() for end in interval(sampled.states[known].transpose(0, 1)))
        if fit.adapted.has_energy:
            bands["energy"] = tuple(end.numpy() for end in interval(energy_change_samples(fit.samples, x)))
    energy = fit.adapted.energy(x).numpy() if fit.adapted.has_energy else None
    return Prediction(t[known].numpy() + fit.start_time, x.numpy(), energy, bands, warnings)


def write_prediction(path: Path, predicted: Prediction) -> None:
    """Columns `t`, the coordinates and, where there is one, `energy`."""
    names = ["t", *canonical_names(predicted.x.shape[-1]), *([] if predicted.energy is None else ["energy"])]
    _write(path, names, [predicted.t, *predicted.x.T, *([] if predicted.energy is None else [predicted.energy])])


def write_bands(path: Path, predicted: Prediction) -> None:
    """Columns `t`, and `_low` and `_high` of each coordinate and of `energy_change`."""
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
