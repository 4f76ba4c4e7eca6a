"""How well a new pendulum is predicted, against how many others were recorded, and how densely.

`uv run python tests/benchmarks/members.py FIGURE` simulates recordings of 10 time units with 1 % noise, trains on each
folder without a formula, and adapts to the same 10 new members, of which the first half is observed. It prints the
median errors of the second half, in standard deviations of the motion, against the exact orbits, and draws them. Beside
them stands a learner that was trained with the formula.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from meta_hamiltonian import load
from meta_hamiltonian.figures.style import MARKERS, SERIES, new_figure, save
from meta_hamiltonian.inference.fit import fit
from meta_hamiltonian.observations import ObservationError, Trajectory
from meta_hamiltonian.observations.instrument import Instrument, record
from meta_hamiltonian.systems import Pendulum

MEMBERS, INSTANTS = (3, 8, 30), (75, 300)
DURATION, NOISE, NEW, NEW_SEED = 10.0, 0.01, 10, 1000


def instrument(instants, noise=NOISE):
    return Instrument(DURATION, instants / DURATION, noise)


def trained(folder, *arguments):
    command = [sys.executable, "train.py", "algo=ridge", "logger=none", "trainer.enable_progress_bar=false"]
    subprocess.run([*command, *arguments, f"hydra.run.dir={folder}"], check=True, capture_output=True)
    return load(folder)


def error(learner, exact, noisy):
    """In standard deviations of the motion; infinite where the member cannot be fitted."""
    half = len(noisy) // 2
    t = exact[:, 0]
    beginning = Trajectory(t[:half], noisy[:half, 1:2], noisy[:half, 2:], None, "new")
    try:
        found = fit(learner, [beginning])
    except ObservationError:
        return np.inf
    orbit = found.adapted.orbits(found.start[None], torch.from_numpy(t[half - 1 :]), 1e-8)
    away = (orbit.states[1:, 0].numpy() - exact[half:, 1:]) / exact[:, 1:].std(0)
    return float(np.sqrt((away**2).mean()))


def recorded(home, instants):
    """The new members, exact and as they are observed: the same but for the noise."""
    found = []
    for noise in (0.0, NOISE):
        folder = home / f"new-{instants}-{noise}"
        folder.mkdir()
        files = record(Pendulum(), NEW, folder, instrument(instants, noise), NEW_SEED)
        found.append([np.loadtxt(file, delimiter=",", skiprows=1) for file in files])
    return list(zip(*found, strict=True))


def measured(home):
    reference = trained(home / "formula", "system=pendulum", "test.n_systems=2")
    rows = {}
    for instants in INSTANTS:
        new = recorded(home, instants)
        rows["formula", instants] = statistics.median(error(reference, *one) for one in new)
        for members in MEMBERS:
            name = f"{members}-{instants}"
            (home / f"seen-{name}").mkdir()
            record(Pendulum(), members, home / f"seen-{name}", instrument(instants), seed=members)
            arguments = ("system=recorded", f"data.path={home / f'seen-{name}'}", "trainer.max_steps=100")
            learner = trained(home / name, *arguments)
            rows[members, instants] = statistics.median(error(learner, *one) for one in new)
            print(f"{members:3d} members, {instants} instants: {rows[members, instants]:.3g}", flush=True)
        print(f"    formula, {instants} instants: {rows['formula', instants]:.3g}", flush=True)
    return rows


def draw(rows, path):
    figure = new_figure(5, 3.4)
    axes = figure.subplots()
    for instants, colour, marker in zip(INSTANTS, SERIES, MARKERS, strict=False):
        axes.loglog(
            MEMBERS,
            [rows[m, instants] for m in MEMBERS],
            color=colour,
            marker=marker,
            label=f"{instants} instants each",
        )
        axes.axhline(rows["formula", instants], color=colour, linestyle=":", label=f"formula known, {instants}")
    axes.set_xticks(MEMBERS, [str(m) for m in MEMBERS], minor=False)
    axes.minorticks_off()
    errors = [error for error in rows.values() if np.isfinite(error)]
    axes.set_ylim(10 ** np.floor(np.log10(min(errors))), 10 ** np.ceil(np.log10(max(errors))))
    axes.set_xlabel("recorded pendulums")
    axes.set_ylabel("median error of the forecast\n(standard deviations of the motion)")
    axes.legend(fontsize=8, frameon=False)
    save(figure, path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(measured(Path(folder)), Path(sys.argv[1]))
