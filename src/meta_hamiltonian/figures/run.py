"""The poster's two figures, for one learner."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from meta_hamiltonian.figures.shown import Shown
from meta_hamiltonian.figures.style import (
    PREDICTION,
    TRUTH,
    H,
    P,
    Q,
    T,
    draw_observations,
    draw_streams,
    new_figure,
    number,
    steps_words,
)


def streamlines(shown: Shown, shots: int) -> Figure:
    """Figure (a): the true field, and the predicted one after each number of gradient steps on K = `shots` points."""
    panels = [("true", TRUTH, shown.field)]
    for prediction in shown.of_shots(shots):
        title = f"{steps_words(prediction.steps)}, MSE {number(prediction.field_mse)}"
        panels.append((title, PREDICTION, prediction.field))

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(2.4 * columns, 2.3 * rows + 0.4)
    all_axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes, (title, colour, field) in zip(all_axes, panels, strict=False):
        draw_streams(axes, shown, field, colour)
        draw_observations(axes, shown, shots)
        axes.set_title(title, fontsize=9)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(f"position {Q}", fontsize=9)
    figure.supylabel(f"momentum {P}", fontsize=9)
    figure.suptitle(f"Vector field from K = {shots} observations (arrows)", fontsize=10)
    return figure


def trajectories(shown: Shown, shots: int) -> Figure:
    """Figure (b): the predicted orbit and the true energy along it, against the truth.

    The unadapted network is left out: it would set the scale of the axes.
    """
    predictions = shown.of_shots(shots)
    predictions = [prediction for prediction in predictions if prediction.steps > 0] or predictions
    figure = new_figure(max(2.3 * len(predictions), 4.0), 6.0)
    columns = figure.subplots(3, len(predictions), squeeze=False, sharex=True, sharey="row").T
    for axes, prediction in zip(columns, predictions, strict=True):
        for row in (0, 1):
            axes[row].plot(shown.t, shown.orbit[:, row], color=TRUTH, label="true")
            axes[row].plot(shown.t, prediction.orbit[:, row], color=PREDICTION, linestyle="--", label="predicted")
        axes[2].plot(shown.t, shown.energy, color=TRUTH)
        axes[2].plot(shown.t, prediction.energy, color=PREDICTION, linestyle="--")
        axes[0].set_title(f"{steps_words(prediction.steps)}\nstate MSE {number(prediction.state_mse)}", fontsize=9)
        axes[2].set_title(f"energy MSE {number(prediction.energy_mse)}", fontsize=9)
        axes[2].set_xlabel(T)
    for axes, label in zip(columns[0], (Q, P, H), strict=True):
        axes.set_ylabel(label, fontsize=9)
        axes.ticklabel_format(axis="y", useOffset=False)  # an energy that is conserved to ten digits looks constant
    handles = columns[0][0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=8, frameon=False, loc="outside lower right", ncols=2)
    figure.suptitle(f"Orbit for 20 time units from K = {shots} observations", fontsize=10)
    return figure


def training(history: Sequence[Mapping[str, int | float]]) -> Figure:
    """The validation loss of a meta-training against time.

    **Arguments:**

    - `history`: `step`, `seconds` and `loss` of every validation.
    """
    figure = new_figure(5.0, 3.2)
    axes = figure.subplots()
    axes.plot([row["seconds"] for row in history], [row["loss"] for row in history], color=PREDICTION, marker=".")
    axes.set_yscale("log")
    axes.set_xlabel("time of training (s)")
    axes.set_ylabel("query loss of held-out tasks")
    axes.set_title(f"{history[-1]['step']:.0f} outer steps", fontsize=9)
    return figure
