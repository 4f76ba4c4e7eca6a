"""Methods against each other, on many families."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from meta_hamiltonian.figures.style import MARKERS, SERIES, TRUTH, add_title, new_figure

PUBLISHED = {
    "pendulum": (0.046, 0.053),
    "spring": (0.015, 0.011),
    "duffing": (0.10, 0.023),
}
"""Relative errors of field and trajectory that Jing et al. (arXiv:2508.11205) publish for modulated singular values, on
ranges of parameters that are not public."""
_NAMES = {"field_error": "relative error of the field", "trajectory_error": "relative error of the trajectory"}


def methods(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Errors of field and trajectory of each method on each family, from the family's largest K; the best first.

    **Arguments:** `rows`: those of `methods.csv`.
    """
    systems = list(dict.fromkeys(row["system"] for row in rows))
    largest = {name: max(int(row["shots"]) for row in rows if row["system"] == name) for name in systems}
    rows = [row for row in rows if int(row["shots"]) == largest[row["system"]]]
    names = list(dict.fromkeys(row["method"] for row in rows))
    figure = new_figure(max(6.4, 1.0 * len(systems) + 2.4), 6.4)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, (place, (column, label)) in zip(panels, enumerate(_NAMES.items()), strict=True):
        for i, name in enumerate(names):
            own = [row for row in rows if row["method"] == name]
            across = [systems.index(row["system"]) + 0.6 * (i / max(1, len(names) - 1) - 0.5) for row in own]
            axes.plot(
                across,
                [float(row[column]) for row in own],
                linestyle="none",
                marker=MARKERS[i % len(MARKERS)],
                color=SERIES[i % len(SERIES)],
                markerfacecolor="white" if i // len(SERIES) % 2 else None,
                label=name,
            )
        known = [(systems.index(name), PUBLISHED[name][place]) for name in systems if name in PUBLISHED]
        for at, (x, y) in enumerate(known):
            label_once = "published by Jing et al., other ranges" if at == 0 else None
            axes.plot([x - 0.4, x + 0.4], [y, y], color=TRUTH, linewidth=0.8, linestyle=":", label=label_once)
        for x in range(1, len(systems)):
            axes.axvline(x - 0.5, color="0.9", linewidth=0.8, zorder=0)
        axes.set_yscale("log")
        axes.set_ylabel(label)
    labels = [f"{textwrap.fill(name.replace('_', ' '), 14)}\nK = {largest[name]}" for name in systems]
    panels[-1].set_xticks(range(len(systems)), labels, fontsize=7)
    panels[-1].set_xlim(-0.5, len(systems) - 0.5)
    figure.legend(
        *panels[0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside right center", ncols=1
    )
    add_title(figure, "Medians over new members of each family, after the same time of training")
    return figure
