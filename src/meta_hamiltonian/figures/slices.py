"""An adapted system of several degrees of freedom, on slices through the state from which its prediction starts."""

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, LogNorm
from matplotlib.figure import Figure

from meta_hamiltonian.figures.adapted import around, limit_to_box
from meta_hamiltonian.figures.orbits import POSITIONS, domain_states, draw_orbit
from meta_hamiltonian.figures.planes import MOST_PLANES, Plane, phase_planes, plane, state_words
from meta_hamiltonian.figures.style import (
    OBSERVATIONS,
    PREDICTION,
    TRUTH,
    add_title,
    draw_excluded,
    draw_state,
    draw_streams,
    new_figure,
)
from meta_hamiltonian.inference.bands import uncertainty
from meta_hamiltonian.models import Adapted, AdaptedSystems

_GRID = 61
# Contours of the energy, and how many of them the scale beside them names.
_LEVELS, _NAMED = 24, 8


def field_slices(adapted: Adapted, x: np.ndarray, orbit: Float[np.ndarray, "instants state"]) -> Figure:
    """Streamlines on the plane (qᵢ, pᵢ) of each degree of freedom, of the first three, through the orbit's start."""
    domain = around(adapted.domain, x, orbit)
    planes = phase_planes(domain, _GRID, orbit[0])
    n = domain.degrees_of_freedom
    figure = new_figure(3.2 * len(planes), 3.7)
    for axes, shown in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes, strict=True):
        field = adapted.field(shown.states).numpy()[..., list(shown.axes)]
        draw_streams(axes, shown, field, PREDICTION)
        draw_state(axes, shown.point)
        limit_to_box(axes, domain, shown.axes)
    some = f" of {len(planes)} of {n} degrees of freedom" if n > len(planes) else ""
    add_title(
        figure, f"Learned vector field on the planes{some} through the start of the prediction,\n{_at(planes[0])}"
    )
    return figure


def energy_slice(adapted: Adapted, x: np.ndarray, orbit: Float[np.ndarray, "instants state"]) -> Figure:
    """The learned energy in the plane of positions, everything else as at the orbit's start.

    Between neighbouring contours lie equal parts of the plane, so that a singularity takes few of them.
    """
    domain = around(adapted.domain, x, orbit)
    shown = plane(domain, POSITIONS, _GRID, orbit[0])
    energy = np.ma.masked_where(shown.excluded, adapted.energy(shown.states).numpy())
    energy = np.ma.masked_invalid(energy)
    figure = new_figure(5.4, 4.4)
    axes = figure.subplots()
    levels = np.unique(np.quantile(energy.compressed(), np.linspace(0.02, 0.98, _LEVELS)))
    if len(levels) > 2:
        colours = {"cmap": "viridis", "norm": BoundaryNorm(levels, 256)}
        contours = axes.contour(shown.across, shown.along, energy.T, levels=levels, linewidths=0.9, **colours)
        bar = figure.colorbar(contours, ax=axes, label="learned energy (zero at its minimum)")
        named = levels[:: -(-len(levels) // _NAMED)]
        bar.set_ticks(named.tolist(), labels=[f"{level:.3g}" for level in named])
    draw_excluded(axes, shown)
    axes.plot(*domain_states(domain, x)[:, list(POSITIONS)].T, ".", color=OBSERVATIONS, markersize=4)
    draw_orbit(axes, domain, orbit, POSITIONS, color=PREDICTION, linewidth=0.9)
    draw_state(axes, shown.point)
    limit_to_box(axes, domain, POSITIONS)
    axes.locator_params(axis="x", nbins=6)
    add_title(figure, f"Learned energy through {_at(shown)}; observations and predicted orbit as projections")
    return figure


def uncertainty_slices(
    samples: AdaptedSystems, x: np.ndarray, orbit: Float[np.ndarray, "instants state"], following: np.ndarray
) -> Figure:
    """The standard deviation of dx/dt in the plane of positions and in the planes (qᵢ, pᵢ) of the first degrees of
    freedom, through the orbit's start; what was observed and where to measure next are seen as projections."""
    domain = around(samples.net.domain, x, orbit, following[None])
    planes = [plane(domain, POSITIONS, _GRID, orbit[0]), *phase_planes(domain, _GRID, orbit[0])[: MOST_PLANES - 1]]
    states = torch.stack([shown.states for shown in planes])
    known = torch.from_numpy(~np.stack([shown.excluded for shown in planes]))
    deviation = np.full(known.shape, np.nan)
    deviation[known] = uncertainty(samples, states[known]).numpy()
    figure = new_figure(3.2 * len(planes) + 0.8, 3.7)
    all_axes = figure.subplots(1, len(planes))
    colours = {"cmap": "cividis", "norm": LogNorm(np.nanmin(deviation), np.nanmax(deviation))}
    for axes, shown, values in zip(all_axes, planes, deviation, strict=True):
        axes.pcolormesh(shown.across, shown.along, values.T, shading="nearest", rasterized=True, **colours)
        draw_excluded(axes, shown)
        axes.plot(*domain_states(domain, x)[:, list(shown.axes)].T, ".", color=OBSERVATIONS, markersize=4)
        axes.plot(
            *following[list(shown.axes)],
            "*",
            color="white",
            markeredgecolor=TRUTH,
            markersize=12,
            clip_on=False,
            zorder=5,
        )
        draw_state(axes, shown.point)
        limit_to_box(axes, domain, shown.axes)
    figure.colorbar(ScalarMappable(**colours), ax=list(all_axes), label="standard deviation of dx/dt, of its RMS")
    add_title(figure, f"How well the field is known on the planes through\n{_at(planes[0])}; star: measure next")
    return figure


def _at(shown: Plane) -> str:
    return f"{state_words(shown.through)} (circle)"
