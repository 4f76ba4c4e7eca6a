"""One colour, one meaning (Okabe and Ito's palette, told apart by the colour-blind):
black is the truth, blue the prediction, vermillion what was observed."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from meta_hamiltonian.basics.files import whole_file
from meta_hamiltonian.figures.shown import Shown

TRUTH, PREDICTION, OBSERVATIONS = "#000000", "#0072B2", "#D55E00"
# For curves that are neither: jobs of a sweep, learners of a comparison.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "osD^v<>X"
DASHES = ("-", "--", ":", "-.")
_LONGEST_ARROW = 0.16  # of the box's width


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches, without any global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes `path` with `.png` and with `.pdf`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path.with_suffix(".png")) as unfinished:
        figure.savefig(unfinished, format="png", dpi=200, pil_kwargs={"compress_level": 3})
    figure.set_layout_engine("none")  # the layout is found already
    with whole_file(path.with_suffix(".pdf")) as unfinished:
        figure.savefig(unfinished, format="pdf")


def draw_streams(axes: Axes, shown: Shown, field: np.ndarray, colour: str, dof: int = 0) -> None:
    """Streamlines of a field `[planes, q, p, 2]` on the plane of a degree of freedom."""
    u, v = field[dof, ..., 0].T, field[dof, ..., 1].T
    q, p = (shown.domain.coordinates[i] for i in (dof, shown.domain.degrees_of_freedom + dof))
    across, along = np.linspace(q.low, q.high, u.shape[1]), np.linspace(p.low, p.high, u.shape[0])
    axes.streamplot(across, along, u, v, color=colour, linewidth=0.6, arrowsize=0.6, density=0.9)
    axes.set_xlim(q.low, q.high)
    axes.set_ylim(p.low, p.high)


def draw_observations(axes: Axes, shown: Shown, shots: int) -> None:
    """The observed derivatives of the first `shots` points, of a system of one degree of freedom.

    Beyond, observed states lie on none of the planes that are shown.
    """
    if shown.domain.degrees_of_freedom == 1:
        draw_arrows(axes, shown.x[:shots], shown.dxdt[:shots], np.array(shown.domain.half_widths), 0.007)


def draw_arrows(axes: Axes, x: np.ndarray, dxdt: np.ndarray, box: np.ndarray, width: float) -> None:
    """Derivatives in units of the box, so that both coordinates are seen; the longest has one length.

    **Arguments:** `x`, `dxdt`: `[points, 2]`; `box`: half-widths.
    """
    along = dxdt / box
    longest = max(np.linalg.norm(along, axis=-1).max(), 1e-12)
    axes.quiver(
        *x.T,
        *(along / longest * 2 * _LONGEST_ARROW * box).T,
        color=OBSERVATIONS,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=width,
        zorder=3,
    )


def steps_words(steps: int) -> str:
    """Such as `1 step`."""
    return "1 step" if steps == 1 else f"{steps} steps"


def number(value: float) -> str:
    """In few digits."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}" if value < 1e5 else f"{value:.1e}"
