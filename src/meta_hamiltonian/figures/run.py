"""The poster's two figures, for one learner."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from meta_hamiltonian.figures.orbits import draw_positions
from meta_hamiltonian.figures.planes import MOST_PLANES, state_words
from meta_hamiltonian.figures.shown import Shown
from meta_hamiltonian.figures.style import (
    PREDICTION,
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


def streamlines(shown: Shown, shots: int) -> Figure:
    """Figure (a): the true field, and the predicted one after each number of gradient steps on K = `shots` points.

    With several degrees of freedom there is a row for each, up to three: its plane through the initial state of the
    orbit, which the title states and a circle marks.
    """
    panels = [("true", TRUTH, shown.field)]
    for prediction in shown.of_shots(shots):
        title = f"{steps_words(prediction.steps)}, MSE {number(prediction.field_mse)}"
        panels.append((title, PREDICTION, prediction.field))
    if shown.domain.degrees_of_freedom > 1:
        return _planes(shown, panels, shots)

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(2.4 * columns, 2.3 * rows + 0.4)
    all_axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes, (title, colour, field) in zip(all_axes, panels, strict=False):
        draw_streams(axes, shown.planes[0], field[0], colour, shown.hidden[0])
        draw_observations(axes, shown, shots)
        axes.set_title(title, fontsize=9)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    q, p = shown.domain.labels
    figure.supxlabel(f"position {q}", fontsize=9)
    figure.supylabel(f"momentum {p}", fontsize=9)
    figure.suptitle(f"Vector field from K = {shots} observations (arrows)", fontsize=10)
    return figure


def _planes(shown: Shown, panels: Sequence[tuple[str, str, np.ndarray]], shots: int) -> Figure:
    n, labels = shown.domain.degrees_of_freedom, shown.domain.labels
    rows = len(shown.planes)
    figure = new_figure(2.4 * len(panels), 2.1 * rows + 0.9)
    all_axes = figure.subplots(rows, len(panels), squeeze=False, sharex="row", sharey="row")
    for dof, (row, plane) in enumerate(zip(all_axes, shown.planes, strict=True)):
        for axes, (title, colour, field) in zip(row, panels, strict=True):
            draw_streams(axes, plane, field[dof], colour, shown.hidden[dof])
            draw_state(axes, plane.point)
            axes.set_xlabel(broken(labels[dof], 2.0, 8), fontsize=8)
            if dof == 0:
                axes.set_title(title, fontsize=9)
        row[0].set_ylabel(broken(labels[n + dof], 1.9, 8), fontsize=8)
    some = f" of {rows} of {n} degrees of freedom" if n > rows else ""
    through = f"on the planes{some} through the circle,\n{state_words(shown.planes[0].through)}"
    add_title(figure, f"Vector field from K = {shots} observations\n{through}")
    return figure


def trajectories(shown: Shown, shots: int) -> Figure:
    """Figure (b): the predicted orbit and the true energy along it, against the truth.

    The unadapted network is left out. With several degrees of freedom there is the plane of the first two positions
    above, and the curves are those of the first three.
    """
    predictions = shown.adapted_of_shots(shots)
    domain = shown.domain
    n, most = domain.degrees_of_freedom, min(domain.degrees_of_freedom, MOST_PLANES)
    coordinates = [*range(most), *range(n, n + most)]
    curves = len(coordinates) + 1
    heights = [2.0] * curves if n == 1 else [2.5, *[1.6] * curves]
    figure = new_figure(max(2.3 * len(predictions), 4.0), sum(heights))
    columns = figure.subplots(
        len(heights), len(predictions), squeeze=False, sharey="row", gridspec_kw={"height_ratios": heights}
    ).T
    for i, (column, prediction) in enumerate(zip(columns, predictions, strict=True)):
        if n > 1:
            draw_positions(column[0], shown, predictions, prediction)
            if i:  # it stands beside the first column
                column[0].set_ylabel("")
        axes = column[-curves:]
        for panel in axes[:-1]:
            panel.sharex(axes[-1])
            panel.tick_params(labelbottom=False)
        for row, i in enumerate(coordinates):
            axes[row].plot(shown.t, shown.orbit[:, i], color=TRUTH, label="true")
            axes[row].plot(shown.t, prediction.orbit[:, i], color=PREDICTION, linestyle="--", label="predicted")
        axes[-1].plot(shown.t, shown.energy, color=TRUTH)
        axes[-1].plot(shown.t, prediction.energy, color=PREDICTION, linestyle="--")
        column[0].set_title(f"{steps_words(prediction.steps)}\nstate MSE {number(prediction.state_mse)}", fontsize=9)
        axes[-1].set_title(f"energy MSE {number(prediction.energy_mse)}", fontsize=9)
        axes[-1].set_xlabel(domain.time_label)
    labels = [*(domain.labels[i] for i in coordinates), f"true {domain.energy_label}"]
    room, size = (2.0, 9) if n == 1 else (1.3, 8)  # for a label
    for axes, label in zip(columns[0][-curves:], labels, strict=True):
        axes.set_ylabel(broken(label, room, size), fontsize=size)
        axes.ticklabel_format(axis="y", useOffset=False)  # an energy that is conserved to ten digits looks constant
    handles = columns[0][-curves].get_legend_handles_labels()
    figure.legend(*handles, fontsize=8, frameon=False, loc="outside lower right", ncols=2)
    some = f"\n({most} of {n} degrees of freedom)" if n > most else ""
    add_title(figure, f"Orbit for {domain.duration(shown.t[-1])} from K = {shots} observations{some}")
    return figure


def training(history: Sequence[Mapping[str, int | float]]) -> Figure:
    """The validation loss of a meta-training against time.

    **Arguments:**

    - `history`: `step`, `seconds` and `loss` of every validation.
    """
    figure = new_figure(5.0, 3.2)
    axes = figure.subplots()
    losses = [row["loss"] for row in history]
    axes.plot([row["seconds"] for row in history], losses, color=PREDICTION, marker=".")
    axes.set_yscale("log")
    low, high = min(losses), max(losses)
    if 0 < low <= high < 2 * low:  # such as that of a law without hidden units, which is not trained on
        axes.set_ylim(low / 2, 2 * high)
    axes.set_xlabel("time of training (s)")
    axes.set_ylabel("query loss of held-out tasks")
    axes.set_title(f"{history[-1]['step']:.0f} outer steps", fontsize=9)
    return figure
