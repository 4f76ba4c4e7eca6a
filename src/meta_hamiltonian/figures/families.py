"""Many families at a glance: a true and a predicted orbit of each."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from meta_hamiltonian.figures.orbits import POSITIONS, draw_orbit, draw_surroundings, limit_to
from meta_hamiltonian.figures.shown import Shown
from meta_hamiltonian.figures.spacetime import around, draw_sites, has_sites
from meta_hamiltonian.figures.style import PREDICTION, TRUTH, add_title, broken, new_figure, number

_COLUMNS, _WIDTH, _HEIGHT = 4, 2.6, 2.9


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of an overview.

    - `name`: the name by which users choose it.
    - `shown`: one system of it, as the best algorithm predicts it.
    - `errors`: the relative error of the field, of each algorithm.
    """

    name: str
    shown: Shown
    errors: Mapping[str, float]

    @property
    def best_first(self) -> Sequence[tuple[str, float]]:
        """The algorithms with their errors, the smallest first."""
        return sorted(self.errors.items(), key=lambda one: one[1])


def families(found: Sequence[Family]) -> Figure:
    """A panel for each family: the phase plane, or with several degrees of freedom the plane of positions; for a ring,
    two pictures of its sites against time, the truth above the prediction."""
    columns = min(len(found), _COLUMNS)
    rows = -(-len(found) // columns)
    figure = new_figure(_WIDTH * columns, _HEIGHT * rows + 0.7)
    cells = figure.add_gridspec(rows, columns)
    for i, family in enumerate(found):
        draw = _draw_ring if has_sites(family.shown.domain) else _draw_orbits
        draw(figure, cells[divmod(i, columns)], family)
    lines = [axes for axes in figure.axes if axes.get_legend_handles_labels()[0]]
    if lines:
        figure.legend(
            *lines[0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside lower right", ncols=2
        )
    add_title(figure, "A new system of each family, and its orbit as the best algorithm predicts it")
    return figure


def _draw_orbits(figure: Figure, cell: Any, family: Family) -> None:
    shown, axes = family.shown, figure.add_subplot(cell)
    pair = (0, 1) if shown.domain.degrees_of_freedom == 1 else POSITIONS
    predicted = shown.usual.orbit
    draw_orbit(axes, shown.domain, shown.orbit, pair, color=TRUTH, linewidth=1.0, label="true")
    draw_orbit(axes, shown.domain, predicted, pair, color=PREDICTION, linewidth=1.0, linestyle="--", label="predicted")
    draw_surroundings(axes, shown.domain, shown.planes[0].through, pair, 8, _WIDTH - 0.6)
    limit_to(axes, shown.domain, pair, shown.orbit, predicted)
    axes.tick_params(labelsize=7)
    axes.set_title(_title(family), fontsize=8)


def _draw_ring(figure: Figure, cell: Any, family: Family) -> None:
    shown, n = family.shown, family.shown.domain.degrees_of_freedom
    above, below = (figure.add_subplot(half) for half in cell.subgridspec(2, 1))
    colours = around(shown.domain, shown.orbit[:, :n])
    for axes, name, orbit in ((above, "true", shown.orbit), (below, "predicted", shown.usual.orbit)):
        draw_sites(axes, shown.t, orbit[:, :n], **colours)
        axes.set_ylabel(f"site, {name}", fontsize=8)
        axes.tick_params(labelsize=7, labelbottom=axes is below)
    below.set_xlabel(shown.domain.time_label, fontsize=8)
    above.set_title(_title(family), fontsize=8)


def _title(family: Family) -> str:
    errors = ", ".join(f"{name} {number(error)}" for name, error in family.best_first)
    return broken(f"{family.name}\n{errors}", _WIDTH - 0.7, 8)
