"""What a learner knows: how well its bands are calibrated, and how many terms its family has."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from meta_hamiltonian.evaluation.coverage import Coverage
from meta_hamiltonian.evaluation.identify import Identified
from meta_hamiltonian.figures.style import MARKERS, OBSERVATIONS, PREDICTION, SERIES, new_figure

_MANY = 24  # singular values that are drawn small


def reliability(found: Sequence[Coverage]) -> Figure:
    """Nominal against observed coverage, a panel for each quantity; on the diagonal, bands hold what they promise."""
    quantities = list(dict.fromkeys(row.quantity for row in found))
    cases = list({(row.shots, str(row.noise)): (row.shots, row.noise) for row in found}.values())
    figure = new_figure(3.3 * len(quantities), 3.4)
    panels = np.atleast_1d(figure.subplots(1, len(quantities), sharey=True))
    for panel, quantity in zip(panels, quantities, strict=True):
        panel.plot([0, 100], [0, 100], color="0.7", zorder=0)
        for i, (shots, noise) in enumerate(cases):
            same = [r for r in found if (r.shots, r.noise) == (shots, noise) or r.shots == shots == 0]
            rows = [r for r in same if r.quantity == quantity]
            panel.plot(
                [100 * r.level for r in rows],
                [100 * r.observed for r in rows],
                color=SERIES[i % len(SERIES)],
                marker=MARKERS[i % len(MARKERS)],
                label=f"K = {shots}, noise {noise:.0%}" if shots else "recordings",
            )
        panel.set_title(quantity, fontsize=10)
        panel.set_xlabel("nominal coverage (%)")
        panel.set_xticks(sorted({100 * row.level for row in found}))
        panel.set_xlim(40, 100)
        panel.set_ylim(0, 102)
    panels[0].set_ylabel("observed coverage (%)")
    panels[0].legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def terms(found: Identified, most: int = 12) -> Figure:
    """The singular values of the predicted fields, and the error that hides the small ones.

    **Arguments:**

    - `found`: what was identified, with any number of singular values.
    - `most`: how many values are shown at least; more are shown where more lie above the error.
    """
    figure = new_figure(5.0, 3.4)
    axes = figure.subplots()
    values = found.singular_values[: max(most, round(1.5 * found.terms))].numpy()
    values = np.where(values > 0, values, np.nan)  # one that is zero has no place on this scale
    size = 3 if len(values) > _MANY else None
    axes.set_yscale("log")
    drawn = {*values[values > 0].tolist(), *([found.error] if found.error > 0 else [])}
    if len(drawn) < 2:  # one height, or none, gives no scale
        axes.set_ylim(0.1 * max(drawn, default=1.0), 10 * max(drawn, default=1.0))
    axes.plot(np.arange(1, len(values) + 1), values, "o", color=PREDICTION, label="singular values", markersize=size)
    if found.error > 0:
        axes.axhline(found.error, color=OBSERVATIONS, linestyle="--", label="error of the predicted fields")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("direction")
    axes.set_ylabel("contribution to the fields, of their RMS")
    axes.set_title(f"Independent terms of the family: {found.terms}", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return figure
