"""What a learner knows: how sure it is, and of how many terms."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from meta_hamiltonian.evaluation.coverage import Coverage
from meta_hamiltonian.evaluation.identify import Identified
from meta_hamiltonian.figures.style import MARKERS, OBSERVATIONS, PREDICTION, SERIES, new_figure


def reliability(found: Sequence[Coverage]) -> Figure:
    """Nominal against observed coverage, a panel for each quantity; on the diagonal, bands hold what they promise."""
    quantities = list(dict.fromkeys(row.quantity for row in found))
    cases = list(dict.fromkeys((row.shots, row.noise) for row in found))
    figure = new_figure(3.3 * len(quantities), 3.4)
    panels = np.atleast_1d(figure.subplots(1, len(quantities), sharey=True))
    for panel, quantity in zip(panels, quantities, strict=True):
        panel.plot([0, 100], [0, 100], color="0.7", zorder=0)
        for i, (shots, noise) in enumerate(cases):
            rows = [r for r in found if (r.quantity, r.shots, r.noise) == (quantity, shots, noise)]
            panel.plot(
                [100 * r.level for r in rows],
                [100 * r.observed for r in rows],
                color=SERIES[i % len(SERIES)],
                marker=MARKERS[i % len(MARKERS)],
                label=f"K = {shots}, noise {noise:.0%}",
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
    """The singular values of the predicted fields, and the error that hides the small ones."""
    figure = new_figure(5.0, 3.4)
    axes = figure.subplots()
    values = found.singular_values[:most].numpy()
    axes.semilogy(np.arange(1, len(values) + 1), values, "o", color=PREDICTION, label="singular values")
    axes.axhline(found.error, color=OBSERVATIONS, linestyle="--", label="error of the predicted fields")
    axes.set_xlabel("direction")
    axes.set_ylabel("contribution to the fields, of their RMS")
    axes.set_title(f"Independent terms of the family: {found.terms}", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return figure
