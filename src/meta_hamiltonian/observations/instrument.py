"""Simulated recordings: what an instrument would write of members of a family, for whoever has no recordings yet."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from meta_hamiltonian.basics.random import generator
from meta_hamiltonian.dynamics.domain import canonical_names
from meta_hamiltonian.observations.forms import ObservationError
from meta_hamiltonian.observations.known import KNOWN
from meta_hamiltonian.systems import SimulatedSystem

OBSERVED = ("q,p", "q,v", "q")
"""What may be observed beside the time."""

# How long a recording is where nothing is said, as a part of the family's horizon, and its instants.
_PART, _INSTANTS = 0.5, 300
_SPLIT = "recordings"


@dataclasses.dataclass(frozen=True)
class Instrument:
    """How motions are recorded.

    - `duration`: how long each recording is; None is half the family's horizon.
    - `rate`: instants per unit of time; None is 300 in all.
    - `noise`: standard deviation of the errors, relative to that of each quantity along the recording.
    - `missing`: the part of the cells that are left empty, those of the time never.
    - `jitter`: standard deviation of the intervals between instants, relative to their mean; below 0.3.
    - `observed`: the quantities beside the time, one of [`OBSERVED`][].
    """

    duration: float | None = None
    rate: float | None = None
    noise: float = 0.01
    missing: float = 0.0
    jitter: float = 0.0
    observed: str = "q,p"

    def __post_init__(self) -> None:
        if self.observed not in OBSERVED:
            raise ObservationError(f"observed={self.observed!r} is not known; choose one of {', '.join(OBSERVED)}")
        for name, most in (("noise", np.inf), ("missing", 0.9), ("jitter", 0.3)):
            if not 0 <= getattr(self, name) <= most:
                raise ObservationError(f"{name} must be between 0 and {most:g}, got {getattr(self, name):g}")
        for name in ("duration", "rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ObservationError(f"{name} must be a finite number above 0, got {value:g}")

    def instants(self, system: SimulatedSystem, member: int, seed: int) -> Float[np.ndarray, " instants"]:
        """The times at which one member is observed."""
        duration = _PART * system.horizon if self.duration is None else self.duration
        rate = _INSTANTS / duration if self.rate is None else self.rate
        count = round(duration * rate) + 1
        if count < 4:
            raise ObservationError(
                f"a recording of {count} instants is too short; give a longer duration or a higher rate"
            )
        t = np.arange(count) / rate
        if self.jitter:
            shifts = generator(seed, _SPLIT, "jitter", member).normal(size=count) * self.jitter / np.sqrt(2) / rate
            t = np.sort(t + shifts.clip(-0.45 / rate, 0.45 / rate))
        return np.round(t - t[0], 9)


def record(system: SimulatedSystem, members: int, folder: Path, instrument: Instrument, seed: int = 0) -> list[Path]:
    """Writes a file for each member, `member-01.csv` and so on, and `members.csv` with their parameters.

    Member i, its noise included, is a function of the seed and of i alone; its orbit begins in one of
    [`SimulatedSystem.sample_initial_states`][]. Positions are angles in rad where they are angles in the family.

    **Arguments:**

    - `system`: the family.
    - `members`: how many.
    - `folder`: where the files go; it exists already.
    - `instrument`: how they are observed.
    - `seed`: the seed of the members and of the noise.
    """
    parameters = system.sample_parameters(members, seed, _SPLIT)
    starts = system.sample_initial_states(parameters, seed, _SPLIT)
    times = [instrument.instants(system, i, seed) for i in range(members)]
    # All orbits are followed together, each at the instants of all of them.
    everything = np.unique(np.concatenate(times))
    orbits = system.orbit(starts, parameters, torch.from_numpy(everything))
    digits = len(str(members))
    files = []
    for i, t in enumerate(times):
        x = orbits[np.searchsorted(everything, t), i]
        v = system.field(x, parameters[i : i + 1])[:, : system.domain.degrees_of_freedom]
        values = _chosen(x.numpy(), v.numpy(), instrument.observed)
        random = generator(seed, _SPLIT, "noise", i)
        values = values + instrument.noise * values.std(0) * random.normal(size=values.shape)
        empty = generator(seed, _SPLIT, "missing", i).random(values.shape) < instrument.missing
        files.append(folder / f"member-{i + 1:0{digits}d}.csv")
        _write(files[-1], _header(system, instrument.observed), t, values, empty)
    with (folder / KNOWN).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["member", *system.parameter_names])
        writer.writerows([path.stem, *row] for path, row in zip(files, parameters.tolist(), strict=True))
    return files


def _chosen(
    x: Float[np.ndarray, "instants state"], v: Float[np.ndarray, "instants n"], observed: str
) -> Float[np.ndarray, "instants columns"]:
    n = v.shape[1]
    return {"q,p": x, "q,v": np.hstack([x[:, :n], v]), "q": x[:, :n]}[observed]


def _header(system: SimulatedSystem, observed: str) -> list[str]:
    """Canonical names with the units that the family has."""
    domain, n = system.domain, system.domain.degrees_of_freedom
    time = domain.time_unit
    names = canonical_names(domain.state_dim)
    units = [coordinate.unit for coordinate in domain.coordinates]
    if observed == "q,v":
        names[n:] = [name.replace("q", "v") for name in names[:n]]
        units[n:] = [f"{unit}/{time}" if unit and time else "" for unit in units[:n]]
    count = n if observed == "q" else 2 * n
    named = zip(["t", *names[:count]], [time, *units[:count]], strict=True)
    return [f"{name} ({unit})" if unit else name for name, unit in named]


def _write(
    path: Path,
    header: Sequence[str],
    t: Float[np.ndarray, " instants"],
    values: Float[np.ndarray, "instants columns"],
    empty: Bool[np.ndarray, "instants columns"],
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for time, row, gaps in zip(t.tolist(), values.tolist(), empty.tolist(), strict=True):
            writer.writerow([repr(time), *("" if gap else f"{v:.9g}" for v, gap in zip(row, gaps, strict=True))])
