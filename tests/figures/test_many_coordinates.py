"""Figures of a system of two degrees of freedom: as much is shown as of one."""

import numpy as np
import pytest
import torch

from meta_hamiltonian.evaluation import evaluate, make_test_set
from meta_hamiltonian.figures import Shown, save, streamlines, trajectories
from meta_hamiltonian.figures.adapted import predicted_orbit, residuals
from meta_hamiltonian.figures.planes import phase_planes
from meta_hamiltonian.figures.projections import phase_portraits
from meta_hamiltonian.figures.slices import energy_slice
from meta_hamiltonian.learners import ANIL
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import HenonHeiles

SYSTEM = HenonHeiles()
SYSTEM.horizon = 3.0


@pytest.fixture(scope="module")
def shown():
    torch.manual_seed(0)
    learner = ANIL(HamiltonianNetwork(width=8, depth=2, domain=SYSTEM.domain), lr=0.1, scale="task")
    systems = make_test_set(SYSTEM, 2, 6, seed=0)
    return Shown.of(list(evaluate(learner, systems, [6], [0, 2])), systems, 1)


def test_each_degree_of_freedom_has_its_plane_through_the_centre_unless_it_is_told(shown):
    assert shown.field.shape == (2, 41, 41, 2)
    first, second = phase_planes(SYSTEM.domain, 41)
    assert (first.axes, second.axes) == ((0, 2), (1, 3))
    assert (first.states[..., [1, 3]] == 0).all()
    assert second.states[5, 7].tolist() == pytest.approx([0, second.across[5], 0, second.along[7]])


def test_streamlines_have_a_row_for_each_and_trajectories_a_panel_for_each_coordinate(shown):
    figure = streamlines(shown, 6)
    assert len(figure.axes) == 2 * 3
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["p1 (dimensionless)", "p2 (dimensionless)"]
    figure = trajectories(shown, 6)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["q2 (dimensionless)", *SYSTEM.domain.labels, "true H (dimensionless)"]
    np.testing.assert_array_equal(figure.axes[4].lines[0].get_ydata(), shown.orbit[:, 3])


def test_what_is_shown_is_read_back(shown, tmp_path):
    shown.save(tmp_path / "shown.npz")
    again = Shown.load(tmp_path / "shown.npz")
    assert again.domain == SYSTEM.domain
    assert again.is_of_the_same_system(shown)


def test_the_reports_figures_are_drawn(shown, tmp_path):
    torch.manual_seed(0)
    learner = ANIL(HamiltonianNetwork(width=8, depth=2, domain=SYSTEM.domain), lr=0.1, scale="task")
    adapted = learner.adapt(torch.from_numpy(shown.x), torch.from_numpy(shown.dxdt))
    orbit = shown.orbit
    figures = {
        "portraits": phase_portraits(SYSTEM.domain, shown.x, shown.dxdt, orbit),
        "energy": energy_slice(adapted, shown.x, orbit),
        "orbit": predicted_orbit(SYSTEM.domain, shown.t, orbit, shown.energy, {}),
        "residuals": residuals(SYSTEM.domain, shown.dxdt, shown.dxdt),
    }
    assert [axes.get_xlabel() for axes in figures["portraits"].axes] == ["q1 (dimensionless)", "q2 (dimensionless)"]
    assert figures["energy"].axes[0].get_ylabel() == "q2 (dimensionless)"
    assert [axes.get_ylabel() for axes in figures["orbit"].axes[:2]] == ["q1 (dimensionless)", "p1 (dimensionless)"]
    legend = figures["residuals"].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["dq1/dt", "dq2/dt", "dp1/dt", "dp2/dt"]
    for name, figure in figures.items():
        save(figure, tmp_path / name)
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
