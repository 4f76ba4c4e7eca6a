"""The figures of the report of one adapted system."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.figures.orbits import domain_states, draw_orbit
from meta_hamiltonian.figures.planes import MOST_PLANES, plane
from meta_hamiltonian.figures.spacetime import draw_sites, symmetric
from meta_hamiltonian.figures.style import (
    DASHES,
    OBSERVATIONS,
    PREDICTION,
    SERIES,
    TRUTH,
    add_title,
    broken,
    draw_arrows,
    new_figure,
)
from meta_hamiltonian.inference.bands import uncertainty
from meta_hamiltonian.models import Adapted, AdaptedSystems

_GRID = 81
_LEVELS = 24
_LONGEST_LABELS = 2.2, 2.7  # inches, of axes that are three or more long
_ORBIT = {"color": PREDICTION, "linewidth": 1.2}
# Streamlines stand back behind the orbit; so many arrows are told apart.
_STREAMS, _ARROWS = "#9a9a9a", 30
_RESIDUAL = "predicted less observed / RMS"
# Degrees of freedom whose residuals are told apart by their markers.
_MOST_SERIES = 4
# Where all states lie in this part of the domain, figures show that part and a margin of so much of it, but no less
# than the last part.
_SMALL_PART, _MARGIN, _LEAST_PART = 0.5, 0.35, 0.01


def learned_field(adapted: Adapted, x: np.ndarray, dxdt: np.ndarray, orbit: np.ndarray) -> Figure:
    """Streamlines, the predicted orbit, and the observations as arrows in units of the state box, whose longest has a
    fixed length; of many observations, some have one. Where friction takes energy out, the orbit is a spiral.

    For one degree of freedom.
    """
    domain = around(adapted.domain, x, orbit)
    grid = plane(domain, (0, 1), _GRID)
    field = adapted.field(grid.states).numpy()
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    u, v = field[..., 0].T, field[..., 1].T
    axes.streamplot(grid.across, grid.along, u, v, color=_STREAMS, linewidth=0.6, arrowsize=0.7)
    seen, some = domain_states(domain, x), slice(None, None, max(1, len(x) // _ARROWS))
    draw_arrows(axes, seen[some], dxdt[some], np.array(domain.half_widths), 0.004)
    axes.plot(*seen.T, ".", color=OBSERVATIONS, markersize=3, zorder=3)
    draw_orbit(axes, domain, orbit, (0, 1), **_ORBIT)
    return _labelled(figure, domain, "Learned vector field, observations, predicted orbit")


def energy_contours(adapted: Adapted, x: np.ndarray, orbit: np.ndarray) -> Figure:
    """The learned energy, zero at its minimum over the domain; spaced so that low energies are seen.

    For one degree of freedom.
    """
    domain = around(adapted.domain, x, orbit)
    grid = plane(domain, (0, 1), _GRID)
    energy = np.ma.masked_where(grid.excluded, adapted.energy(grid.states).numpy())
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    levels = energy.max() * np.linspace(0.1, 1, _LEVELS) ** 2
    contours = axes.contour(grid.across, grid.along, energy.T, levels=levels, cmap="viridis", linewidths=0.9)
    figure.colorbar(contours, ax=axes, label="learned energy (zero at its minimum)", format="%.2g")
    draw_orbit(axes, domain, orbit, (0, 1), **_ORBIT)
    axes.plot(*domain_states(domain, x).T, ".", color=OBSERVATIONS, markersize=4)
    return _labelled(figure, domain, "Learned energy, observations, predicted orbit")


def field_uncertainty(
    samples: AdaptedSystems, x: np.ndarray, orbit: Float[np.ndarray, "instants state"], following: np.ndarray
) -> Figure:
    """The standard deviation of dx/dt around the observations and the orbit, and where to measure next.

    For one degree of freedom.
    """
    domain = around(samples.net.domain, x, orbit)
    grid = plane(domain, (0, 1), _GRID)
    deviation = uncertainty(samples, grid.states.reshape(-1, 2)).reshape(_GRID, _GRID).numpy()
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    mesh = axes.pcolormesh(grid.across, grid.along, deviation.T, cmap="cividis", shading="gouraud", norm="log")
    figure.colorbar(mesh, ax=axes, label="standard deviation of dx/dt, of its RMS")
    axes.plot(*domain_states(domain, x).T, ".", color=OBSERVATIONS, markersize=4)
    axes.plot(*following, "*", color="white", markeredgecolor=TRUTH, markersize=13, clip_on=False)
    return _labelled(figure, domain, "How well the field is known")


def predicted_orbit(
    domain: Domain,
    t: np.ndarray,
    orbit: np.ndarray,
    energy: np.ndarray | None,
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """The coordinates against time, and how the learned energy changes.

    For several degrees of freedom positions are on the left and their momenta on the right, of the first three.
    """
    n, most = domain.degrees_of_freedom, min(domain.degrees_of_freedom, MOST_PLANES)
    rows = [[0], [1]] if n == 1 else [[i, n + i] for i in range(most)]
    height = 1.7 if n == 1 else 1.5
    room, size = (2.0, 9) if n == 1 else (1.2, 8)  # for a label
    figure = new_figure(6.0 if n == 1 else 8.0, height * (len(rows) + (energy is not None)) + 0.4)
    names: Any = [[f"x{i}" for i in row] for row in rows] + [["energy"] * len(rows[0])] * (energy is not None)
    panels = figure.subplot_mosaic(names, sharex=True)
    for i in (i for row in rows for i in row):
        axes = panels[f"x{i}"]
        _draw_band(axes, t, bands, "x", i)
        axes.plot(t, orbit[:, i], color=PREDICTION)
        label = f"{'position' if i == 0 else 'momentum'} {domain.labels[i]}" if n == 1 else domain.labels[i]
        axes.set_ylabel(broken(label, room, size), fontsize=size)
    if energy is not None:
        _draw_band(panels["energy"], t, bands, "energy", 0)
        panels["energy"].plot(t, energy - energy[0], color=PREDICTION)
        panels["energy"].set_ylabel("learned energy\nless its first value", fontsize=size)
    for name in names[-1]:
        panels[name].set_xlabel(domain.time_label)
    for i in rows[-1] if n > 1 else ():  # the energy below is wider
        panels[f"x{i}"].tick_params(labelbottom=True)
    some = f", {most} of {n} degrees of freedom" if n > most else ""
    add_title(figure, "Predicted orbit" + (" and 95 % credible bands" if bands else "") + some)
    return figure


def _draw_band(
    axes: Axes, t: np.ndarray, bands: Mapping[str, tuple[np.ndarray, np.ndarray]], name: str, column: int
) -> None:
    if name in bands:
        low, high = (end.reshape(len(t), -1)[:, column] for end in bands[name])
        axes.fill_between(t, low, high, color=PREDICTION, alpha=0.25, linewidth=0)


def energy_budget(
    domain: Domain,
    t: np.ndarray,
    energy: np.ndarray,
    work: Mapping[str, np.ndarray],
    power: Mapping[str, np.ndarray],
) -> Figure:
    """Where the energy goes: the learned H along the orbit, what each force has taken or given, and its power."""
    figure = new_figure(6.0, 4.6)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(t, energy, color=PREDICTION, linewidth=1.6, label="H")
    for i, (name, done) in enumerate(work.items(), 1):
        colour, dash = SERIES[i % len(SERIES)], DASHES[i % len(DASHES)]
        verb = "given by the input" if name == "input" else f"taken by {name} friction"
        above.plot(t, done if name == "input" else -done, color=colour, linestyle=dash, label=verb)
        below.plot(t, power[name], color=colour, linestyle=dash, label=name)
    below.axhline(0, color=TRUTH, linewidth=0.6)
    above.set_ylabel(f"energy {domain.energy_label.removeprefix('H ')}")
    below.set_ylabel("power of each force")
    below.set_xlabel(domain.time_label)
    for axes in (above, below):
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle("The energy along the predicted orbit", fontsize=10)
    return figure


def residuals(domain: Domain, dxdt: np.ndarray, predicted: np.ndarray) -> Figure:
    """The error of every component of dx/dt at the observed states, in parts of its RMS over these; beyond four degrees
    of freedom, a picture."""
    size = np.sqrt(np.square(dxdt).mean(0))
    errors = (predicted - dxdt) / np.where(size > 0, size, 1.0)
    if domain.degrees_of_freedom > _MOST_SERIES:
        return _residual_picture(domain, errors)
    figure = new_figure(6.0, 3.0)
    axes = figure.subplots()
    one = domain.degrees_of_freedom == 1
    for i, (name, error) in enumerate(zip(domain.names, errors.T, strict=True)):
        look = {} if one else {"color": SERIES[i], "markerfacecolor": "none" if i >= 4 else None}
        axes.plot(np.arange(1, len(dxdt) + 1), error, "os^v"[i % 4], markersize=3.5, label=f"d{name}/dt", **look)
    axes.axhline(0, color=TRUTH, linewidth=0.6)
    axes.set_xlabel("observation")
    axes.set_ylabel(_RESIDUAL)
    axes.set_title("Residuals of the fit", fontsize=10)
    beside = {} if one else {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    axes.legend(fontsize=8, frameon=False, **beside)
    return figure


def _residual_picture(domain: Domain, error: np.ndarray) -> Figure:
    """Observations across, components up."""
    n, points = domain.degrees_of_freedom, np.arange(1, len(error) + 1)
    figure = new_figure(6.0, 5.0)
    all_axes = figure.subplots(2, 1, sharex=True)
    for axes, part, kind in zip(all_axes, (error[:, :n], error[:, n:]), "qp", strict=True):
        mesh = draw_sites(axes, points, part, **symmetric(0.0, np.abs(part).max()))
        figure.colorbar(mesh, ax=axes, label=_RESIDUAL)
        axes.set_ylabel(f"d{kind}/dt, component")
    all_axes[-1].set_xlabel("observation")
    add_title(figure, "Residuals of the fit")
    return figure


def around(domain: Domain, *states: np.ndarray) -> Domain:
    """The domain with a smaller box, where all of the states lie in a part of it."""
    seen = np.concatenate([domain_states(domain, x) for x in states])
    low, high = seen.min(0), seen.max(0)
    half = np.array(domain.half_widths)
    if ((high - low) > _SMALL_PART * 2 * half).any():
        return domain
    reach = np.maximum(_MARGIN * (high - low), _LEAST_PART * half)
    coordinates = [
        dataclasses.replace(c, low=max(c.low, a), high=min(c.high, b))
        for c, a, b in zip(domain.coordinates, (low - reach).tolist(), (high + reach).tolist(), strict=True)
    ]
    return dataclasses.replace(domain, coordinates=tuple(coordinates))


def limit_to_box(axes: Axes, domain: Domain, pair: tuple[int, int]) -> None:
    """Makes the axes of two coordinates as wide as their box."""
    first, second = (domain.coordinates[i] for i in pair)
    axes.set_xlim(first.low, first.high)
    axes.set_ylim(second.low, second.high)
    across, along = _LONGEST_LABELS
    axes.set_xlabel(broken(first.label, across, 10))
    axes.set_ylabel(broken(second.label, along, 10))


def _labelled(figure: Figure, domain: Domain, title: str) -> Figure:
    (axes, *_) = figure.axes
    limit_to_box(axes, domain, (0, 1))
    axes.set_title(title, fontsize=10)
    return figure
