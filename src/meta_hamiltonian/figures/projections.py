"""An adapted system of several degrees of freedom, seen as projections."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.figures.adapted import around, limit_to_box
from meta_hamiltonian.figures.orbits import POSITIONS, domain_states, draw_orbit, draw_surroundings, limit_to
from meta_hamiltonian.figures.planes import MOST_PLANES
from meta_hamiltonian.figures.style import OBSERVATIONS, PREDICTION, add_title, draw_arrows, draw_state, new_figure


def phase_portraits(
    domain: Domain, x: np.ndarray, dxdt: np.ndarray, orbit: Float[np.ndarray, "instants state"]
) -> Figure:
    """The plane (qᵢ, pᵢ) of each degree of freedom, of the first three: the observations and the predicted orbit."""
    domain = around(domain, x, orbit)
    n = domain.degrees_of_freedom
    most = min(n, MOST_PLANES)
    figure = new_figure(3.2 * most, 3.6)
    for i, axes in enumerate(figure.subplots(1, most, squeeze=False)[0]):
        pair = (i, n + i)
        half = np.array(domain.half_widths)[list(pair)]
        draw_arrows(axes, domain_states(domain, x)[:, list(pair)], dxdt[:, list(pair)], half, 0.006)
        draw_orbit(axes, domain, orbit, pair, color=PREDICTION, linewidth=1.2)
        draw_state(axes, tuple(domain_states(domain, orbit[:1])[0, list(pair)]))
        limit_to_box(axes, domain, pair)
    some = f" ({most} of {n} degrees of freedom)" if n > most else ""
    add_title(figure, f"Observations (arrows) and predicted orbit from its start (circle), as projections{some}")
    return figure


def positions(domain: Domain, x: np.ndarray, orbit: Float[np.ndarray, "instants state"]) -> Figure:
    """The predicted orbit in the plane of the first two positions, and where the system was observed."""
    figure = new_figure(4.6, 4.6)
    axes = figure.subplots()
    axes.plot(*domain_states(domain, x)[:, list(POSITIONS)].T, ".", color=OBSERVATIONS, markersize=4)
    draw_orbit(axes, domain, orbit, POSITIONS, color=PREDICTION, linewidth=1.2)
    draw_surroundings(axes, domain, domain_states(domain, orbit[:1])[0], POSITIONS, 10, 4.0)
    limit_to(axes, domain, POSITIONS, orbit, x)
    add_title(figure, "Observations and predicted orbit from its start (circle) in the plane of positions")
    return figure
