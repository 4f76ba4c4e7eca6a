"""Draws a recording, its forecast by `adapt` and what came later.

    python -m meta_hamiltonian adapt outputs/ridge first.csv --horizon 78 --out forecast
    python docs/figures/recording.py first.csv rest.csv forecast docs/figures/recording.png

The two files are the pendulum of Schmidt and Lipson (Science 324, 2009), which ships with the code of Greydanus et al.
(arXiv:1906.01563), divided at t = 22 s.
"""

import sys
from pathlib import Path

import numpy as np

from meta_hamiltonian.figures import new_figure
from meta_hamiltonian.figures.style import OBSERVATIONS, PREDICTION, TRUTH


def table(path: Path) -> np.ndarray:
    """A CSV with names, as an array of records."""
    return np.genfromtxt(path, delimiter=",", names=True)


def main(observed: str, later: str, forecast: str, target: str) -> None:
    """Writes the figure."""
    seen, rest = table(Path(observed)), table(Path(later))
    prediction, bands = (table(Path(forecast) / name) for name in ("prediction.csv", "bands.csv"))
    error = np.interp(rest["t"], prediction["t"], prediction["q"]) - rest["q"]
    low, high = (np.interp(rest["t"], bands["t"], bands[f"q_{end}"]) for end in ("low", "high"))
    inside = np.mean((low <= rest["q"]) & (rest["q"] <= high))
    print(f"RMS error of the forecast {np.sqrt(np.mean(error**2)):.4f} rad; {inside:.1%} of the points in the bands")

    figure = new_figure(9, 2.9)
    axes = figure.subplots()
    axes.fill_between(bands["t"], bands["q_low"], bands["q_high"], color=PREDICTION, alpha=0.25, lw=0)
    axes.plot([], [], color=PREDICTION, alpha=0.25, lw=6, label="95 % band")
    axes.plot(prediction["t"], prediction["q"], color=PREDICTION, lw=1.1, label="forecast")
    axes.plot(rest["t"], rest["q"], ".", color=TRUTH, ms=3, label="what came later")
    axes.plot(seen["t"], seen["q"], ".", color=OBSERVATIONS, ms=4.5, label="observed")
    axes.axvline(seen["t"][-1], color="0.6", lw=0.8, ls=":")
    axes.set(xlabel="t (s)", ylabel="q (rad)", xlim=(seen["t"][0], rest["t"][-1]))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(target, dpi=160)


if __name__ == "__main__":
    main(*sys.argv[1:])
