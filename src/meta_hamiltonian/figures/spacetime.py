"""Rings of particles as pictures: time across, sites up, the position of each particle a colour."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.figures.shown import Shown
from meta_hamiltonian.figures.style import add_title, broken, new_figure, number, steps_words

FEWEST_SITES = 4
"""The fewest sites of a picture; a smaller ring is seen better in curves."""
# Both ends are dark, and the colour-blind tell them apart.
_POSITIONS, _WIDTHS = "PuOr", "cividis"


def has_sites(domain: Domain) -> bool:
    """Whether orbits are seen best as a picture of sites against time."""
    return domain.lattice == "ring" and domain.degrees_of_freedom >= FEWEST_SITES


def draw_sites(axes: Axes, t: np.ndarray, values: Float[np.ndarray, "instants sites"], **colours: Any) -> QuadMesh:
    """One number of each site against time."""
    sites = np.arange(1, values.shape[1] + 1)
    mesh = axes.pcolormesh(t, sites, values.T, shading="nearest", rasterized=True, **colours)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return mesh


def around(domain: Domain, *positions: np.ndarray) -> dict[str, Any]:
    """Colours of positions: white is the middle of their box, and the ends reach as far as these positions do."""
    middle = domain.centre[0]
    most = max(np.abs(q - middle).max() for q in positions)
    return symmetric(middle, most)


def spacetimes(shown: Shown, shots: int) -> Figure:
    """The true positions of a ring, those predicted after each number of gradient steps on K = `shots` points, and the
    difference, which has a scale of its own.

    The unadapted network is left out, as in [`trajectories`][].
    """
    predictions = shown.adapted_of_shots(shots)
    domain, n = shown.domain, shown.domain.degrees_of_freedom
    width = 2.3 * (len(predictions) + 1) + 0.6
    figure = new_figure(width, 5.4)
    above, below = figure.subplots(2, len(predictions) + 1, squeeze=False, sharex=True, sharey=True)
    colours = around(domain, shown.orbit[:, :n])
    mesh = draw_sites(above[0], shown.t, shown.orbit[:, :n], **colours)
    above[0].set_title("true", fontsize=9)
    below[0].set_visible(False)
    above[0].tick_params(labelbottom=True)
    above[0].set_xlabel(domain.time_label, fontsize=9)
    for up, down, prediction in zip(above[1:], below[1:], predictions, strict=True):
        draw_sites(up, shown.t, prediction.orbit[:, :n], **colours)
        up.set_title(f"{steps_words(prediction.steps)}\nstate MSE {number(prediction.state_mse)}", fontsize=9)
        error = prediction.orbit[:, :n] - shown.orbit[:, :n]
        own = draw_sites(down, shown.t, error, **symmetric(0.0, np.abs(error).max()))
        figure.colorbar(own, ax=down, location="bottom", aspect=12).ax.tick_params(labelsize=7, rotation=30)
        down.set_title("predicted less true", fontsize=9)
        down.set_xlabel(domain.time_label, fontsize=9)
    below[1].tick_params(labelleft=True)
    for axes in (above[0], below[1]):
        axes.set_ylabel("site", fontsize=9)
    figure.colorbar(mesh, ax=list(above), label=broken(_name(domain), 2.2, 9))
    add_title(figure, f"A ring of {n} for {domain.duration(shown.t[-1])} from K = {shots} observations")
    return figure


def predicted_spacetime(
    domain: Domain, t: np.ndarray, orbit: np.ndarray, band: tuple[np.ndarray, np.ndarray] | None
) -> Figure:
    """The predicted positions of a ring, and half the width of their credible bands, where there are such."""
    n = domain.degrees_of_freedom
    panels = 1 if band is None else 2
    figure = new_figure(6.0, 2.2 * panels + 0.6)
    all_axes = list(figure.subplots(panels, 1, squeeze=False, sharex=True).flat)
    mesh = draw_sites(all_axes[0], t, orbit[:, :n], **around(domain, orbit[:, :n]))
    figure.colorbar(mesh, ax=all_axes[0], label=broken(_name(domain), 2.0, 9))
    if band is not None:
        low, high = (end[:, :n] for end in band)
        mesh = draw_sites(all_axes[1], t, (high - low) / 2, cmap=_WIDTHS)
        figure.colorbar(mesh, ax=all_axes[1], label="half the width of\nthe 95 % bands")
    for axes in all_axes:
        axes.set_ylabel("site")
    all_axes[-1].set_xlabel(domain.time_label)
    add_title(figure, f"Predicted orbit of the ring of {n}")
    return figure


def symmetric(middle: float, most: float) -> dict[str, Any]:
    """Colours of numbers on both sides of a middle, which is white."""
    most = max(most, np.finfo(float).tiny)
    return {"cmap": _POSITIONS, "vmin": middle - most, "vmax": middle + most}


def _name(domain: Domain) -> str:
    """What the positions are called together, with their unit."""
    unit = domain.coordinates[0].unit
    return f"positions ({unit or 'dimensionless'})"
