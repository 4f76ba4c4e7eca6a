"""One colour, one meaning (Okabe and Ito's palette, told apart by the colour-blind):
black is the truth, blue the prediction, vermillion what was observed."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from meta_hamiltonian.basics.files import whole_file
from meta_hamiltonian.figures.planes import Plane
from meta_hamiltonian.figures.shown import Shown

TRUTH, PREDICTION, OBSERVATIONS = "#000000", "#0072B2", "#D55E00"
# For curves that are neither: jobs of a sweep, learners of a comparison.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "osD^v<>X"
DASHES = ("-", "--", ":", "-.")
_LONGEST_ARROW = 0.16  # of the box's width
_EXCLUDED, _HATCH = "0.93", "0.6"


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


def draw_streams(
    axes: Axes,
    plane: Plane,
    field: Float[np.ndarray, "across along 2"],
    colour: str,
    hidden: Bool[np.ndarray, "across along"] | None = None,
) -> None:
    """Streamlines of a field's two components in the plane, but for what is excluded, or else hidden."""
    hidden = plane.excluded if hidden is None else hidden
    u, v = (np.ma.masked_where(hidden, field[..., i]).T for i in (0, 1))
    axes.streamplot(plane.across, plane.along, u, v, color=colour, linewidth=0.6, arrowsize=0.6, density=0.9)
    draw_excluded(axes, plane, hidden)
    axes.set_xlim(plane.across[0], plane.across[-1])
    axes.set_ylim(plane.along[0], plane.along[-1])


def draw_excluded(axes: Axes, plane: Plane, hidden: Bool[np.ndarray, "across along"] | None = None) -> None:
    """Hatches what the domain excludes of the plane, or what else is hidden of it."""
    hidden = plane.excluded if hidden is None else hidden
    if hidden.any():
        # The edge of an exclusion is where its radius is; of what else is hidden, half-way between states of the grid.
        depth = np.where(hidden & ~plane.excluded, 0.0, plane.radii.clip(max=2.0))
        inside = axes.contourf(plane.across, plane.along, depth.T, [0, 1], colors=[_EXCLUDED], hatches=["////"])
        inside.set(edgecolor=_HATCH, linewidth=0)


def draw_state(axes: Axes, point: tuple[float, float]) -> None:
    """Marks the state through which a plane goes, or where an orbit starts."""
    axes.plot(*point, "o", color="white", markeredgecolor=TRUTH, markersize=4.5, zorder=4, clip_on=False)


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


def broken(text: str, inches: float, size: int) -> str:
    """The text in lines of at most this length, in letters of so many points.

    It is broken after blanks and underscores, but not in brackets: those hold a unit, or a state.
    """
    letters = FontProperties(size=size)
    finished, line = [], ""
    for piece in re.findall(r"\n|\([^)]*\)[^ _\n]*|[^ _\n(]*[ _]|[^ _\n(]+|.", text):
        width, _, _ = text_to_path.get_text_width_height_descent((line + piece).strip(), letters, ismath=False)
        if line and (piece == "\n" or width > 72 * inches):
            finished.append(line.strip())
            line = ""
        line += piece.removeprefix("\n")
    return "\n".join([*finished, line.strip()])


def add_title(figure: Figure, text: str, size: int = 10) -> None:
    """A title of the whole figure, in as many lines as it needs."""
    figure.suptitle(broken(text, figure.get_figwidth() - 0.2, size), fontsize=size)


def steps_words(steps: int) -> str:
    """Such as `1 step`."""
    return "1 step" if steps == 1 else f"{steps} steps"


def number(value: float) -> str:
    """In few digits."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}" if value < 1e5 else f"{value:.1e}"
