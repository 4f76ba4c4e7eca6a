"""What an adapted system looks like: for the report of one system of one degree of freedom."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from meta_hamiltonian.bands import uncertainty
from meta_hamiltonian.figures.style import DASHES, OBSERVATIONS, PREDICTION, TRUTH, P, Q, T, draw_arrows, new_figure
from meta_hamiltonian.learners import Adapted, AdaptedSystems

_GRID = 81
_LEVELS = 24


def _grid(box: np.ndarray) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    q, p = (np.linspace(-half, half, _GRID) for half in box)
    return q, p, torch.from_numpy(np.stack(np.meshgrid(q, p, indexing="ij"), axis=-1))


def learned_field(adapted: Adapted, x: np.ndarray, dxdt: np.ndarray) -> Figure:
    """Streamlines, and the observations: arrows in units of the state box, the longest of one length."""
    box = adapted.systems.net.state_box.numpy()
    q, p, states = _grid(box)
    field = adapted.field(states).numpy()
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    axes.streamplot(q, p, field[..., 0].T, field[..., 1].T, color=PREDICTION, linewidth=0.6, arrowsize=0.7)
    draw_arrows(axes, x, dxdt, box, 0.004)
    axes.plot(*x.T, ".", color=OBSERVATIONS, markersize=3, zorder=3)
    return _labelled(figure, box, "Learned vector field and observations")


def energy_contours(adapted: Adapted, x: np.ndarray, orbit: np.ndarray) -> Figure:
    """The learned energy over the state box, zero at its minimum; spaced so that low energies are seen."""
    box = adapted.systems.net.state_box.numpy()
    q, p, states = _grid(box)
    energy = adapted.energy(states).numpy()
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    levels = energy.max() * np.linspace(0.1, 1, _LEVELS) ** 2
    contours = axes.contour(q, p, energy.T, levels=levels, cmap="viridis", linewidths=0.9)
    figure.colorbar(contours, ax=axes, label="learned energy (zero at its minimum)")
    axes.plot(*orbit.T, color=PREDICTION, linewidth=1.2)
    axes.plot(*x.T, ".", color=OBSERVATIONS, markersize=4)
    return _labelled(figure, box, "Learned energy, observations, predicted orbit")


def field_uncertainty(samples: AdaptedSystems, x: np.ndarray, following: np.ndarray) -> Figure:
    """The standard deviation of dx/dt over the state box, what was observed, and where to measure next."""
    box = samples.net.state_box.numpy()
    q, p, states = _grid(box)
    deviation = uncertainty(samples, states.reshape(-1, 2)).reshape(len(q), len(p)).numpy()
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    mesh = axes.pcolormesh(q, p, deviation.T, cmap="cividis", shading="gouraud", norm="log")
    figure.colorbar(mesh, ax=axes, label="standard deviation of dx/dt, of its RMS")
    axes.plot(*x.T, ".", color=OBSERVATIONS, markersize=4)
    axes.plot(*following, "*", color="white", markeredgecolor=TRUTH, markersize=13, clip_on=False)
    return _labelled(figure, box, "How well the field is known")


def _labelled(figure: Figure, box: np.ndarray, title: str) -> Figure:
    (axes, *_) = figure.axes
    axes.set_xlim(-box[0], box[0])
    axes.set_ylim(-box[1], box[1])
    axes.set_xlabel(f"position {Q}")
    axes.set_ylabel(f"momentum {P}")
    axes.set_title(title, fontsize=10)
    return figure


def predicted_orbit(
    t: np.ndarray,
    orbit: np.ndarray,
    energy: np.ndarray | None,
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """The coordinates against time, of any number of degrees of freedom, and how the learned energy changes."""
    n = orbit.shape[-1] // 2
    panels = [("position q", orbit[:, :n], "x", slice(0, n)), ("momentum p", orbit[:, n:], "x", slice(n, None))]
    if energy is not None:
        panels.append(("learned energy\nless its first value", (energy - energy[0])[:, None], "energy", slice(None)))
    figure = new_figure(6.0, 1.7 * len(panels) + 0.4)
    all_axes = figure.subplots(len(panels), 1, sharex=True)
    for axes, (label, values, band, part) in zip(all_axes, panels, strict=True):
        if band in bands:
            low, high = (end.reshape(len(t), -1)[:, part] for end in bands[band])
            for i in range(values.shape[1]):
                axes.fill_between(t, low[:, i], high[:, i], color=PREDICTION, alpha=0.25, linewidth=0)
        for i, column in enumerate(values.T):
            axes.plot(t, column, color=PREDICTION, linestyle=DASHES[i % 4])
        axes.set_ylabel(label, fontsize=9)
    all_axes[-1].set_xlabel(T)
    figure.suptitle("Predicted orbit" + (" and 95 % credible bands" if bands else ""), fontsize=10)
    return figure


def residuals(x: np.ndarray, dxdt: np.ndarray, predicted: np.ndarray) -> Figure:
    """The error of every component of dx/dt at the observed states."""
    figure = new_figure(6.0, 3.0)
    axes = figure.subplots()
    n = x.shape[-1] // 2
    for i, error in enumerate((predicted - dxdt).T):
        name = ("dq/dt" if i < n else "dp/dt") + (f" {i % n + 1}" if n > 1 else "")
        axes.plot(np.arange(1, len(x) + 1), error, "os^v"[i % 4], markersize=3.5, label=name)
    axes.axhline(0, color=TRUTH, linewidth=0.6)
    axes.set_xlabel("observation")
    axes.set_ylabel("predicted less observed")
    axes.set_title("Residuals of the fit", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return figure
