"""Every plot. One colour, one meaning (Okabe and Ito's palette, told apart by the colour-blind):
black is the truth, blue the prediction, vermillion what was observed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from meta_hamiltonian.evaluation import Result, TestSet, state_grid

TRUTH, PREDICTION, OBSERVATIONS = "#000000", "#0072B2", "#D55E00"
# For curves that are neither: jobs of a sweep, learners of a comparison.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "osD^v<>X"
_STREAM_GRID = 41
_LONGEST_ARROW = 0.16  # of the box's width
_MOST_JOBS = 20  # in one comparison


def save(figure: Figure, path: Path) -> None:
    """Writes `path` with `.png` and with `.pdf`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=200)
    figure.set_layout_engine("none")  # the layout is found already
    figure.savefig(path.with_suffix(".pdf"))


def streamlines(results: Sequence[Result], test: TestSet, system: int) -> Figure:
    """Figure (a): the true field of one test system, and the predicted one after each number of gradient steps.

    **Arguments:**

    - `results`: of one K, one for each number of steps. The family has one degree of freedom.
    - `test`: the test systems.
    - `system`: which of them is shown.
    """
    x = state_grid(test.system, _STREAM_GRID)
    support = test.support[system].first(results[0].shots)
    panels = [("true", TRUTH, test.system.field(x, test.parameters[system]))]
    for result in results:
        title = f"{_steps(result)}, MSE {_number(result.errors.field_mse[system])}"
        panels.append((title, PREDICTION, result.adapted[system].field(x)))

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.3 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes, (title, colour, field) in zip(all_axes, panels, strict=False):
        _streams(axes, x, field, colour)
        _arrows(axes, support.x, support.dxdt, test.system.state_box)
        axes.set_title(title, fontsize=9)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("position q (rad)", fontsize=9)
    figure.supylabel("momentum p (dimensionless)", fontsize=9)
    figure.suptitle(f"Vector field from K = {results[0].shots} observations (arrows)", fontsize=10)
    return figure


def trajectories(results: Sequence[Result], test: TestSet, system: int) -> Figure:
    """Figure (b): the predicted orbit of one test system and the true energy along it, against the truth.

    Arguments as for [`streamlines`][]. The unadapted network is left out: it would set the scale of the axes.
    """
    results = [result for result in results if result.steps > 0] or results
    t, truth, parameters = test.t, test.orbit[:, system], test.parameters[system]
    figure = Figure(figsize=(2.3 * len(results), 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    columns = figure.subplots(3, len(results), squeeze=False, sharex=True, sharey="row").T
    for axes, result in zip(columns, results, strict=True):
        predicted = result.errors.orbits[:, system]
        for row in (0, 1):
            axes[row].plot(t, truth[:, row], color=TRUTH, label="true")
            axes[row].plot(t, predicted[:, row], color=PREDICTION, linestyle="--", label="predicted")
        axes[2].plot(t, test.system.hamiltonian(truth, parameters), color=TRUTH)
        axes[2].plot(t, test.system.hamiltonian(predicted, parameters), color=PREDICTION, linestyle="--")
        axes[0].set_title(f"{_steps(result)}\nstate MSE {_number(result.errors.state_mse[system])}", fontsize=9)
        axes[2].set_title(f"energy MSE {_number(result.errors.energy_mse[system])}", fontsize=9)
        axes[2].set_xlabel("t (dimensionless)")
    for axes, label in zip(columns[0], ("q (rad)", "p (dimensionless)", "true H (dimensionless)"), strict=True):
        axes.set_ylabel(label, fontsize=9)
    figure.legend(
        *columns[0][0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside upper right", ncols=2
    )
    figure.suptitle(f"Orbit for 20 time units from K = {results[0].shots} observations", fontsize=10)
    return figure


def comparison(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The error of the vector field against gradient steps, a curve for each job of a sweep and each K.

    **Arguments:**

    - `rows`: of `summary.csv`, of jobs that have finished. Of many jobs, those with the smallest errors are shown.
    """
    best: dict[str, float] = {}
    for row in rows:
        job = row["overrides"]
        best[job] = min(best.get(job, math.inf), float(row["field_mse_mean"]))
    shown = sorted(best, key=lambda job: best[job])[:_MOST_JOBS]
    jobs = [job for job in best if job in shown]
    all_shots = sorted({int(row["shots"]) for row in rows})
    curves = [(i, job, j, shots) for i, job in enumerate(jobs) for j, shots in enumerate(all_shots)]
    figure = Figure(figsize=(6.4, 3.6 + 0.16 * len(curves)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, job, j, shots in curves:
        points = [row for row in rows if row["overrides"] == job and int(row["shots"]) == shots]
        if points:
            axes.plot(
                [int(row["steps"]) for row in points],
                [float(row["field_mse_mean"]) for row in points],
                color=SERIES[i % len(SERIES)],
                marker=MARKERS[j % len(MARKERS)],
                linestyle=("-", "--", ":", "-.")[(i // len(SERIES)) % 4],
                label=f"{job or 'defaults'}, K = {shots}",
            )
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks(ticks := sorted({int(row["steps"]) for row in rows}), labels=[str(tick) for tick in ticks])
    axes.set_yscale("log")
    axes.set_xlabel("gradient steps on the new system")
    axes.set_ylabel("field MSE, mean over systems")
    if len(best) > len(jobs):
        axes.set_title(f"the best {len(jobs)} of {len(best)} jobs", fontsize=9)
    figure.legend(fontsize=7, frameon=False, loc="outside lower left")
    return figure


def _steps(result: Result) -> str:
    return "1 step" if result.steps == 1 else f"{result.steps} steps"


def _number(value: Tensor) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _streams(axes: Axes, x: Tensor, field: Tensor, colour: str) -> None:
    grid = x.reshape(_STREAM_GRID, _STREAM_GRID, 2)
    u, v = field.reshape(_STREAM_GRID, _STREAM_GRID, 2).unbind(-1)
    q, p = grid[:, 0, 0].numpy(), grid[0, :, 1].numpy()
    axes.streamplot(q, p, u.T.numpy(), v.T.numpy(), color=colour, linewidth=0.6, arrowsize=0.6, density=0.9)
    axes.set_xlim(q[0], q[-1])
    axes.set_ylim(p[0], p[-1])


def _arrows(axes: Axes, x: Tensor, dxdt: Tensor, box: Sequence[float]) -> None:
    """The observed derivatives, in units of the box so that both coordinates are seen; the longest has one length."""
    along = dxdt / torch.tensor(box, dtype=dxdt.dtype)
    longest = along.norm(dim=-1).max().clamp_min(1e-12)
    ends = along / longest * 2 * _LONGEST_ARROW * torch.tensor(box, dtype=dxdt.dtype)
    axes.quiver(
        *x.T.numpy(),
        *ends.T.numpy(),
        color=OBSERVATIONS,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.007,
        zorder=3,
    )
