"""Orbits of several degrees of freedom: in the plane of positions, of rings as pictures, of families at a glance."""

import numpy as np
import pytest
from several import Planet, Rotors, ring, shown_of

from meta_hamiltonian.figures import orbits_side_by_side, trajectories
from meta_hamiltonian.figures.adapted import predicted_orbit, residuals
from meta_hamiltonian.figures.families import Family, families
from meta_hamiltonian.figures.projections import phase_portraits, positions
from meta_hamiltonian.figures.spacetime import has_sites, predicted_spacetime, spacetimes
from meta_hamiltonian.figures.style import OBSERVATIONS, PREDICTION, TRUTH
from meta_hamiltonian.systems import Spring

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def planet():
    return shown_of(Planet())


@pytest.fixture(scope="module")
def rotors():
    return shown_of(Rotors())


@pytest.fixture(scope="module")
def eight():
    return shown_of(ring(8))


def curve(axes, colour):
    return next(line for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) > 1)


def test_the_plane_of_positions_is_above_the_curves(planet):
    figure = trajectories(planet, 5)
    columns = np.array(figure.axes).reshape(6, 2).T
    for axes, prediction in zip(columns, planet.predictions[1:], strict=True):
        np.testing.assert_array_equal(curve(axes[0], TRUTH).get_xydata(), planet.orbit[:, :2])
        np.testing.assert_array_equal(curve(axes[0], PREDICTION).get_xydata(), prediction.orbit[:, :2])
        for i in range(4):
            np.testing.assert_array_equal(curve(axes[1 + i], TRUTH).get_ydata(), planet.orbit[:, i])
        np.testing.assert_array_equal(curve(axes[5], PREDICTION).get_ydata(), prediction.energy)
    assert [axes.get_ylabel() for axes in columns[0][:2]] == ["q2 (dimensionless)", "q1 (dimensionless)"]
    assert columns[1][0].get_ylabel() == "", "it stands beside the first column"


def test_lengths_are_on_equal_scales(planet):
    for axes in (trajectories(planet, 5).axes[0], positions(Planet.domain, planet.x, planet.orbit).axes[0]):
        assert np.ptp(axes.get_xlim()) == pytest.approx(np.ptp(axes.get_ylim()))
        assert axes.get_box_aspect() == 1


def test_angles_that_turn_leave_no_line_across_the_figure(rotors):
    axes = trajectories(rotors, 5).axes[0]
    x, y = curve(axes, TRUTH).get_data()
    assert np.isnan(x).any()
    assert np.nanmax(np.abs(x)) <= np.pi
    assert np.nanmax(np.abs(np.diff(x))) < 1
    np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
    assert np.ptp(rotors.orbit[:, 0]) > 2 * np.pi, "against time they are not wrapped"


def test_a_ring_is_a_picture_of_its_sites_against_time(eight):
    figure = spacetimes(eight, 5)
    above, below = np.array(figure.axes[:6]).reshape(2, 3)
    assert above[0].get_title() == "true"
    assert not below[0].get_visible()
    n = 8
    (true,) = above[0].collections
    np.testing.assert_array_equal(true.get_array(), eight.orbit[:, :n].T)
    for up, down, prediction in zip(above[1:], below[1:], eight.predictions[1:], strict=True):
        np.testing.assert_array_equal(up.collections[0].get_array(), prediction.orbit[:, :n].T)
        np.testing.assert_array_equal(down.collections[0].get_array(), (prediction.orbit - eight.orbit)[:, :n].T)
        assert up.collections[0].get_clim() == true.get_clim(), "one scale for the truth and the predictions"
    assert [axes.get_xlabel() for axes in below[1:]] == ["t (dimensionless)"] * 2


def test_only_rings_of_four_or_more_are_pictures():
    assert [has_sites(ring(n).domain) for n in (1, 3, 4, 8)] == [False, False, True, True]
    assert not has_sites(Planet.domain)


def test_a_predicted_ring_shows_the_width_of_its_bands(eight):
    low, high = eight.orbit - 0.1, eight.orbit + 0.3
    figure = predicted_spacetime(ring(8).domain, eight.t, eight.orbit, (low, high))
    np.testing.assert_allclose(figure.axes[1].collections[0].get_array(), 0.2)
    assert len(predicted_spacetime(ring(8).domain, eight.t, eight.orbit, None).axes) == 2


def test_positions_are_left_and_momenta_right_of_the_first_three(eight):
    bands = {"x": (eight.orbit - 0.1, eight.orbit + 0.1)}
    figure = predicted_orbit(ring(8).domain, eight.t, eight.orbit, eight.energy, bands)
    assert len(figure.axes) == 7
    names = [axes.get_ylabel().split(" ")[0] for axes in figure.axes[:6]]
    assert names == ["q1", "p1", "q2", "p2", "q3", "p3"]
    times = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes]
    assert times == [*[False] * 4, True, True, True]
    np.testing.assert_array_equal(figure.axes[3].lines[0].get_ydata(), eight.orbit[:, 9])
    assert "3 of 8 degrees of freedom" in figure.get_suptitle()
    low, high = figure.axes[3].collections[0].get_datalim(figure.axes[3].transData).intervaly
    assert (low, high) == pytest.approx((eight.orbit[:, 9].min() - 0.1, eight.orbit[:, 9].max() + 0.1))


def test_projections_mark_where_the_prediction_starts(rotors):
    for figure, pair in (
        (phase_portraits(Rotors.domain, rotors.x, rotors.dxdt, rotors.orbit), [0, 2]),
        (positions(Rotors.domain, rotors.x, rotors.orbit), [0, 1]),
    ):
        (start,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
        wrapped = np.array([4 - 2 * np.pi, 2.5, 1.0, 0.1])
        np.testing.assert_allclose(start.get_xydata()[0], wrapped[pair])
    seen = curve(figure.axes[0], OBSERVATIONS)
    np.testing.assert_allclose(seen.get_xydata(), rotors.x[:, :2])


def test_residuals_of_many_components_are_a_picture(eight, planet):
    size = np.sqrt(np.square(eight.dxdt).mean(0))
    figure = residuals(ring(8).domain, eight.dxdt, eight.dxdt + np.arange(16) * size)
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array()[:, 0], np.arange(8))
    np.testing.assert_allclose(figure.axes[1].collections[0].get_array()[:, 0], 8 + np.arange(8))
    lines = residuals(Planet.domain, planet.dxdt, planet.dxdt).axes[0].lines
    assert len({(line.get_color(), line.get_marker()) for line in lines[:4]}) == 4


def test_jobs_side_by_side_have_the_plane_of_positions_first(planet):
    axes = np.array(orbits_side_by_side({"one": planet, "other": planet}).axes).reshape(2, 4)
    for row, lowest in zip(axes, (False, True), strict=True):
        assert row[3].xaxis.get_tick_params()["labelbottom"] == lowest
        np.testing.assert_array_equal(curve(row[0], TRUTH).get_xydata(), planet.orbit[:, :2])
        np.testing.assert_array_equal(curve(row[1], TRUTH).get_ydata(), planet.orbit[:, 0])
        np.testing.assert_array_equal(curve(row[3], PREDICTION).get_ydata(), planet.predictions[-1].energy)


def test_families_have_a_panel_each_with_the_best_algorithm_first(planet, eight):
    spring = shown_of(Spring())
    errors = {"anil": 0.02, "ridge": 1e-11, "maml": 0.5}
    figure = families(
        [Family("spring", spring, errors), Family("planet", planet, errors), Family("ring", eight, errors)]
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"{name}\nridge 1e-11, anil 0.02, maml 0.5" for name in ("spring", "planet", "ring")] + [""]
    np.testing.assert_array_equal(curve(figure.axes[0], TRUTH).get_xydata(), spring.orbit)
    np.testing.assert_array_equal(curve(figure.axes[1], PREDICTION).get_xydata(), planet.predictions[-1].orbit[:, :2])
    np.testing.assert_array_equal(figure.axes[2].collections[0].get_array(), eight.orbit[:, :8].T)
    assert [axes.get_ylabel() for axes in figure.axes[2:]] == ["site, true", "site, predicted"]
