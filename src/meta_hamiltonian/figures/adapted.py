"""What an adapted system looks like: the figures of the report of one system."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.figures.planes import MOST_PLANES, plane
from meta_hamiltonian.figures.style import DASHES, OBSERVATIONS, PREDICTION, SERIES, TRUTH, draw_arrows, new_figure
from meta_hamiltonian.inference.bands import uncertainty
from meta_hamiltonian.models import Adapted, AdaptedSystems

_GRID = 81
_LEVELS = 24
# Where all states lie in this part of the domain, figures show that part and a margin of so much of it, but no less
# than the last part.
_SMALL_PART, _MARGIN, _LEAST_PART = 0.5, 0.35, 0.01


def learned_field(adapted: Adapted, x: np.ndarray, dxdt: np.ndarray, orbit: np.ndarray) -> Figure:
    """Streamlines, the predicted orbit, and the observations: arrows in units of the state box, the longest of one
    length. Where friction takes energy out, the orbit is a spiral.

    For one degree of freedom.
    """
    domain = _around(adapted.systems.net.domain, x, orbit)
    grid = plane(domain, (0, 1), _GRID)
    field = adapted.field(grid.states).numpy()
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    u, v = field[..., 0].T, field[..., 1].T
    axes.streamplot(grid.across, grid.along, u, v, color=PREDICTION, linewidth=0.6, arrowsize=0.7)
    seen = domain_states(domain, x)
    draw_arrows(axes, seen, dxdt, np.array(domain.half_widths), 0.004)
    axes.plot(*seen.T, ".", color=OBSERVATIONS, markersize=3, zorder=3)
    _draw_orbit(axes, domain, orbit, (0, 1))
    return _labelled(figure, domain, (0, 1), "Learned vector field, observations, predicted orbit")


def phase_portraits(adapted: Adapted, x: np.ndarray, dxdt: np.ndarray, orbit: np.ndarray) -> Figure:
    """The plane (qᵢ, pᵢ) of each degree of freedom, of the first three: the observations and the predicted orbit.

    For several degrees of freedom, where both are seen as projections.
    """
    domain = adapted.systems.net.domain
    n = domain.degrees_of_freedom
    most = min(n, MOST_PLANES)
    figure = new_figure(3.2 * most, 3.2)
    for i, axes in enumerate(figure.subplots(1, most, squeeze=False)[0]):
        pair = [i, n + i]
        half = np.array(domain.half_widths)[pair]
        draw_arrows(axes, domain_states(domain, x)[:, pair], dxdt[:, pair], half, 0.006)
        _draw_orbit(axes, domain, orbit, (i, n + i))
        _limit(axes, domain, (i, n + i))
    figure.suptitle("Observations (arrows) and predicted orbit, as projections", fontsize=10)
    return figure


def energy_contours(adapted: Adapted, x: np.ndarray, orbit: np.ndarray) -> Figure:
    """The learned energy, zero at its minimum over the domain; spaced so that low energies are seen.

    For one degree of freedom over (q, p); for more over (q₁, q₂) with everything else at the centre of the domain:
    where that is at rest, it is the potential.
    """
    domain = _around(adapted.systems.net.domain, x, orbit)
    grid = plane(domain, (0, 1), _GRID)
    energy = adapted.energy(grid.states).numpy()
    energy = np.ma.masked_where(domain.excluded(grid.states).numpy(), energy)
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    low = 0.0 if domain.degrees_of_freedom == 1 else energy.min()
    levels = low + (energy.max() - low) * np.linspace(0.1, 1, _LEVELS) ** 2
    contours = axes.contour(grid.across, grid.along, energy.T, levels=levels, cmap="viridis", linewidths=0.9)
    figure.colorbar(contours, ax=axes, label="learned energy (zero at its minimum)")
    _draw_orbit(axes, domain, orbit, (0, 1))
    axes.plot(*domain_states(domain, x)[:, :2].T, ".", color=OBSERVATIONS, markersize=4)
    what = "Learned energy" if domain.degrees_of_freedom == 1 else "Learned potential"
    return _labelled(figure, domain, (0, 1), f"{what}, observations, predicted orbit")


def field_uncertainty(samples: AdaptedSystems, x: np.ndarray, following: np.ndarray) -> Figure:
    """The standard deviation of dx/dt over the domain, what was observed, and where to measure next.

    For one degree of freedom.
    """
    domain = samples.net.domain
    grid = plane(domain, (0, 1), _GRID)
    deviation = uncertainty(samples, grid.states.reshape(-1, 2)).reshape(_GRID, _GRID).numpy()
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    mesh = axes.pcolormesh(grid.across, grid.along, deviation.T, cmap="cividis", shading="gouraud", norm="log")
    figure.colorbar(mesh, ax=axes, label="standard deviation of dx/dt, of its RMS")
    axes.plot(*domain_states(domain, x).T, ".", color=OBSERVATIONS, markersize=4)
    axes.plot(*following, "*", color="white", markeredgecolor=TRUTH, markersize=13, clip_on=False)
    return _labelled(figure, domain, (0, 1), "How well the field is known")


def predicted_orbit(
    domain: Domain,
    t: np.ndarray,
    orbit: np.ndarray,
    energy: np.ndarray | None,
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """The coordinates against time, of any number of degrees of freedom, and how the learned energy changes."""
    n = domain.degrees_of_freedom
    one = n == 1
    panels = [
        (f"position {domain.labels[0]}" if one else "positions", orbit[:, :n], "x", slice(0, n)),
        (f"momentum {domain.labels[1]}" if one else "momenta", orbit[:, n:], "x", slice(n, None)),
    ]
    if energy is not None:
        panels.append(("learned energy\nless its first value", (energy - energy[0])[:, None], "energy", slice(None)))
    figure = new_figure(6.0, 1.7 * len(panels) + 0.4)
    all_axes = figure.subplots(len(panels), 1, sharex=True)
    for axes, (label, values, band, part) in zip(all_axes, panels, strict=True):
        if band in bands:
            low, high = (end.reshape(len(t), -1)[:, part] for end in bands[band])
            for i in range(values.shape[1]):
                axes.fill_between(t, low[:, i], high[:, i], color=PREDICTION, alpha=0.25, linewidth=0)
        names = domain.names[part] if band == "x" and not one else [None] * values.shape[1]
        for i, (column, name) in enumerate(zip(values.T, names, strict=True)):
            axes.plot(t, column, color=PREDICTION, linestyle=DASHES[i % 4], label=name)
        if names[0] is not None:
            axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_ylabel(label, fontsize=9)
    all_axes[-1].set_xlabel(domain.time_label)
    figure.suptitle("Predicted orbit" + (" and 95 % credible bands" if bands else ""), fontsize=10)
    return figure


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
    """The error of every component of dx/dt at the observed states."""
    figure = new_figure(6.0, 3.0)
    axes = figure.subplots()
    for i, (name, error) in enumerate(zip(domain.names, (predicted - dxdt).T, strict=True)):
        axes.plot(np.arange(1, len(dxdt) + 1), error, "os^v"[i % 4], markersize=3.5, label=f"d{name}/dt")
    axes.axhline(0, color=TRUTH, linewidth=0.6)
    axes.set_xlabel("observation")
    axes.set_ylabel("predicted less observed")
    axes.set_title("Residuals of the fit", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return figure


def domain_states(domain: Domain, x: np.ndarray) -> np.ndarray:
    """The states with their angles where figures show them."""
    return domain.wrap(torch.from_numpy(x)).numpy()


def _around(domain: Domain, *states: np.ndarray) -> Domain:
    """The domain with a smaller box, where all of the states lie in a part of it; for one degree of freedom."""
    seen = np.concatenate([domain_states(domain, x) for x in states])
    low, high = seen.min(0), seen.max(0)
    half = np.array(domain.half_widths)
    if domain.degrees_of_freedom > 1 or ((high - low) > _SMALL_PART * 2 * half).any():
        return domain
    reach = np.maximum(_MARGIN * (high - low), _LEAST_PART * half)
    coordinates = [
        dataclasses.replace(c, low=max(c.low, a), high=min(c.high, b))
        for c, a, b in zip(domain.coordinates, (low - reach).tolist(), (high + reach).tolist(), strict=True)
    ]
    return dataclasses.replace(domain, coordinates=tuple(coordinates))


def _draw_orbit(axes: Axes, domain: Domain, orbit: np.ndarray, pair: tuple[int, int]) -> None:
    """An orbit whose angles are wrapped, without lines across the figure where they are."""
    wrapped = domain_states(domain, orbit)[:, list(pair)]
    jumps = (np.abs(np.diff(wrapped, axis=0)) > np.array(domain.half_widths)[list(pair)] / 2).any(-1)
    jumps &= (np.abs(np.diff(wrapped - orbit[:, list(pair)], axis=0)) > 1).any(-1)
    pieces = np.insert(wrapped, np.flatnonzero(jumps) + 1, np.nan, axis=0)
    axes.plot(*pieces.T, color=PREDICTION, linewidth=1.2)


def _limit(axes: Axes, domain: Domain, pair: tuple[int, int]) -> None:
    first, second = (domain.coordinates[i] for i in pair)
    axes.set_xlim(first.low, first.high)
    axes.set_ylim(second.low, second.high)
    axes.set_xlabel(first.label)
    axes.set_ylabel(second.label)


def _labelled(figure: Figure, domain: Domain, pair: tuple[int, int], title: str) -> Figure:
    (axes, *_) = figure.axes
    _limit(axes, domain, pair)
    axes.set_title(title, fontsize=10)
    return figure
