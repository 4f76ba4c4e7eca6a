"""Jobs of a sweep against each other."""

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meta_hamiltonian.figures.orbits import draw_positions
from meta_hamiltonian.figures.planes import state_words
from meta_hamiltonian.figures.shown import Shown
from meta_hamiltonian.figures.style import (
    DASHES,
    MARKERS,
    PREDICTION,
    SERIES,
    TRUTH,
    add_title,
    broken,
    draw_observations,
    draw_state,
    draw_streams,
    new_figure,
    number,
    steps_words,
)

_MOST_JOBS = 20  # in one comparison
_LONGEST_NAME = 60  # of a job, in characters; a longer one leaves no room for the axes
_TYPICAL_SHOTS = (25, 50)


def comparison(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The error of the vector field against gradient steps, and against K where a sweep has more than two of them.

    Where it has several noises: against K and against the noise, after the last step.

    **Arguments:**

    - `rows`: those of finished jobs in `summary.csv`. Where there are many, those with the smallest errors are shown.
    """
    best: dict[str, float] = {}
    for row in rows:
        best[row["overrides"]] = min(best.get(row["overrides"], math.inf), float(row["field_mse_mean"]))
    shown = sorted(best, key=lambda job: best[job])[:_MOST_JOBS]
    rows = [row for row in rows if row["overrides"] in shown]
    latest = [
        row for row in rows if int(row["steps"]) == max(_values(_same(rows, row, ("overrides", "shots")), "steps"))
    ]

    panels = []
    noisy = len(_values(rows, "noise")) > 1
    if not noisy:
        panels.append((_against_steps, "steps", "gradient steps on the new system", rows))
    if noisy or len(_values(rows, "shots")) > 2:
        panels.append((_against_shots, "shots", "K, observed points", latest))
    if noisy:
        panels.append((_against_noise, "noise", "noise of the observations", _of_typical_shots(latest)))

    most = max(len(_curves(points, name)) for name, _, _, points in panels)
    columns = 1 if most <= 8 else 2 if most <= 20 else 4
    figure = new_figure(max(4.6 * len(panels), 6.4), 3.8 + 0.16 * -(-most // columns))
    for axes, (name, column, label, points) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        _draw_curves(axes, _curves(points, name), column)
        axes.set_xlabel(label)
        axes.legend(
            fontsize=7, frameon=False, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.14), borderaxespad=0
        )
    figure.axes[0].set_ylabel("field MSE, mean over systems")
    if len(best) > len(shown):
        figure.suptitle(f"the best {len(shown)} of {len(best)} jobs", fontsize=9)
    return figure


def fields_side_by_side(jobs: Mapping[str, Shown]) -> Figure:
    """Figure (a) for all jobs of a sweep: the true field, and each job's prediction from its largest K.

    The jobs are of one system; with several degrees of freedom the plane of the first one is shown, through the initial
    state of the orbit.
    """
    columns = min(len(jobs) + 1, 4)
    rows = -(-(len(jobs) + 1) // columns)
    first = next(iter(jobs.values()))
    n, plane = first.domain.degrees_of_freedom, first.planes[0]
    figure = new_figure(2.4 * columns, 2.5 * rows + (0.4 if n == 1 else 0.8))
    all_axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    draw_streams(all_axes[0], plane, first.field[0], TRUTH, first.hidden[0])
    all_axes[0].set_title("true", fontsize=8)
    for axes, (job, shown) in zip(all_axes[1:], jobs.items(), strict=False):
        prediction = shown.usual
        draw_streams(axes, plane, prediction.field[0], PREDICTION, first.hidden[0])
        draw_observations(axes, shown, prediction.shots)
        words = f"K = {prediction.shots}, {steps_words(prediction.steps)}, MSE {number(prediction.field_mse)}"
        axes.set_title(f"{broken(short(job), 2.3, 7)}\n{words}", fontsize=7)
    for axes in all_axes[len(jobs) + 1 :]:
        axes.set_visible(False)
    width, height = figure.get_size_inches()
    figure.supxlabel(broken(f"position {first.domain.labels[0]}", 0.9 * width, 9), fontsize=9)
    figure.supylabel(broken(f"momentum {first.domain.labels[n]}", 0.9 * height, 9), fontsize=9)
    if n > 1:
        for axes in all_axes[: len(jobs) + 1]:
            draw_state(axes, plane.point)
        add_title(figure, f"Vector field on the plane through the circle, {state_words(plane.through)}")
    return figure


def orbits_side_by_side(jobs: Mapping[str, Shown]) -> Figure:
    """Figure (b) for all jobs of a sweep, each with axes of its own below the truth's.

    The jobs are of one system; with several degrees of freedom the plane of the first two positions comes first.
    """
    first = next(iter(jobs.values()))
    domain, n = first.domain, first.domain.degrees_of_freedom
    planes = int(n > 1)
    height = 1.5 + 0.6 * planes
    figure = new_figure(8.0 + 2.4 * planes, height * len(jobs) + 0.8)
    grid = figure.subplots(len(jobs), 3 + planes, squeeze=False)
    for i, (axes, (job, shown)) in enumerate(zip(grid, jobs.items(), strict=True), 1):
        prediction = shown.usual
        if planes:
            draw_positions(axes[0], shown, [prediction], prediction, 7)
            axes[0].tick_params(labelsize=7)
        curves = [(shown.orbit[:, j], prediction.orbit[:, j]) for j in (0, n)]
        for column, (truth, predicted) in zip(axes[planes:], [*curves, (shown.energy, prediction.energy)], strict=True):
            column.plot(shown.t, truth, color=TRUTH, label="true")
            column.plot(shown.t, predicted, color=PREDICTION, linestyle="--", label="predicted")
            column.tick_params(labelsize=7, labelbottom=i == len(jobs))
            if column is not grid[-1, -1]:
                column.sharex(grid[-1, -1])
            column.ticklabel_format(axis="y", useOffset=False)
        title = f"{short(job)}, K = {prediction.shots}, {steps_words(prediction.steps)}"
        axes[0].set_title(broken(title, 2.1, 7) if planes else title, fontsize=7)
        axes[planes + 1].set_title(f"state MSE {number(prediction.state_mse)}", fontsize=7)
        axes[planes + 2].set_title(f"energy MSE {number(prediction.energy_mse)}", fontsize=7)
        labels = (domain.labels[0], domain.labels[n], f"true {domain.energy_label}")
        for column, label in zip(axes[planes:], labels, strict=True):
            column.set_ylabel(broken(label.replace(" (", "\n("), height - 0.4, 7), fontsize=7)
    for column in grid[-1, planes:]:
        column.set_xlabel(domain.time_label, fontsize=8)
    handles = grid[0, -1].get_legend_handles_labels()
    figure.legend(*handles, fontsize=8, frameon=False, loc="outside upper right", ncols=2)
    return figure


# What a curve is in each panel: the learner, and what it was given.
def _against_steps(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["overrides"], f"K = {row['shots']}"


def _against_shots(row: Mapping[str, Any]) -> tuple[str, str]:
    return _without_noise(row), f"noise {100 * float(row['noise']):g} %"


def _against_noise(row: Mapping[str, Any]) -> tuple[str, str]:
    return _without_noise(row), f"K = {row['shots']}"


def _without_noise(row: Mapping[str, Any]) -> str:
    return re.sub(r"data\.noise=\S+", "", row["overrides"]).strip()


def _of_typical_shots(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of the protocol's two K, or of the two largest."""
    shots = [k for k in _values(rows, "shots") if k in _TYPICAL_SHOTS] or _values(rows, "shots")[-2:]
    return [row for row in rows if float(row["shots"]) in shots]


Curves = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]


def _curves(rows: Sequence[Mapping[str, Any]], name: Callable[[Mapping[str, Any]], tuple[str, str]]) -> Curves:
    curves: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        curves.setdefault(name(row), []).append(row)
    return curves


def _draw_curves(axes: Axes, curves: Curves, column: str) -> None:
    """A colour for each learner, a marker for what it was given."""
    learners = list(dict.fromkeys(learner for learner, _ in curves))
    given = list(dict.fromkeys(given for _, given in curves))
    for (learner, its), points in curves.items():
        i, j = learners.index(learner), given.index(its)
        points = sorted(points, key=lambda row: float(row[column]))
        axes.plot(
            [float(row[column]) for row in points],
            [float(row["field_mse_mean"]) for row in points],
            color=SERIES[i % len(SERIES)],
            marker=MARKERS[j % len(MARKERS)],
            linestyle=DASHES[(i // len(SERIES)) % len(DASHES)],
            markerfacecolor="white" if i // len(SERIES) % 2 else None,  # a single point has no dashes
            label=f"{short(learner)}, {its}",
        )
    ticks = sorted({float(row[column]) for points in curves.values() for row in points})
    smallest = min((tick for tick in ticks if tick > 0), default=1.0)
    axes.set_xscale("symlog", linthresh=smallest)
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_yscale("log")


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    return sorted({float(row[column]) for row in rows})


def _same(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any], columns: Sequence[str]) -> list[Mapping[str, Any]]:
    return [other for other in rows if all(other[column] == row[column] for column in columns)]


def short(job: str) -> str:
    """The name of a job, cut to a length that leaves room for the axes."""
    words = (job or "defaults").replace("method=", "").replace("algo=", "")
    return textwrap.shorten(words, _LONGEST_NAME, placeholder=" …")
