"""Slices of the field through a stated state, with what the domain excludes of them."""

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from several import Planet, Rotors, ring, shown_of, slightly_off

from meta_hamiltonian.dynamics import Exclusion
from meta_hamiltonian.figures import fields_side_by_side, streamlines
from meta_hamiltonian.figures.planes import plane, projected, state_words
from meta_hamiltonian.figures.slices import energy_slice, field_slices, uncertainty_slices
from meta_hamiltonian.models import AdaptedSystems
from meta_hamiltonian.systems import Domain

PLANET = Planet()


@pytest.fixture(scope="module")
def shown():
    return shown_of(PLANET)


@pytest.fixture(scope="module")
def samples():
    parameters = torch.ones(8, 2, dtype=torch.float64) + 0.01 * torch.arange(8)[:, None]
    return slightly_off(PLANET, parameters, 0.0)


def hatched(axes):
    return [c for c in axes.collections if getattr(c, "hatches", None) == ["////"]]


def circle(axes):
    (found,) = [line for line in axes.lines if line.get_marker() == "o"]
    return found.get_xydata()[0]


def test_slices_go_through_the_initial_state_of_the_orbit(shown):
    start = shown.orbit[0]
    for i, one in enumerate(shown.planes):
        others = [j for j in range(4) if j not in (i, 2 + i)]
        np.testing.assert_array_equal(one.through, start)
        assert (one.states[..., others].numpy() == start[others]).all()
        assert one.point == (start[i], start[2 + i])


def test_the_field_is_that_of_the_slice_and_nothing_where_states_are_excluded(shown):
    parameters = PLANET.sample_parameters(1, 0, "test")
    for one, field in zip(shown.planes, shown.field, strict=True):
        outside = ~one.excluded
        np.testing.assert_array_equal(outside, ~PLANET.domain.excluded(one.states).numpy())
        true = PLANET.field(one.states, parameters)[..., list(one.axes)].numpy()
        np.testing.assert_array_equal(field[outside], true[outside])
        assert np.isnan(field[~outside]).all()
    assert shown.planes[0].excluded.any(), "q2 = 0.3 is less than the radius"
    assert not shown.planes[1].excluded.any(), "q1 = 1.2 is not"


@pytest.fixture
def streams(monkeypatch):
    """What is drawn as streamlines; drawing them takes seconds."""
    drawn = []
    monkeypatch.setattr(Axes, "streamplot", lambda self, *arguments, **more: drawn.append((self, *arguments)))
    return drawn


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side_by_side", [False, True])
def test_the_title_states_the_state_and_a_circle_marks_it(shown, streams, side_by_side):
    figure = fields_side_by_side({"one": shown, "other": shown}) if side_by_side else streamlines(shown, 5)
    assert len(figure.axes) == (3 if side_by_side else 2 * 4)
    assert "(q; p) = (1.2, 0.3; −0.1, 0.8)" in figure.get_suptitle().replace("\n", " ")
    for i, axes in enumerate(axes for axes in figure.axes if axes.get_visible()):
        dof = i // 4
        np.testing.assert_allclose(circle(axes), shown.orbit[0][[dof, 2 + dof]])
        assert len(hatched(axes)) == (dof == 0)


def test_streamlines_are_those_of_the_planes_own_components(shown, streams):
    streamlines(shown, 5)
    panels = [shown.field, *(prediction.field for prediction in shown.predictions)]
    for i, (_, across, along, u, v) in enumerate(streams):
        one, field = shown.planes[i // 4], panels[i % 4][i // 4]
        np.testing.assert_array_equal(across, one.across)
        np.testing.assert_array_equal(along, one.along)
        for drawn, component in ((u, field[..., 0]), (v, field[..., 1])):
            np.testing.assert_array_equal(np.ma.getmaskarray(drawn).T, one.excluded)
            np.testing.assert_array_equal(drawn.T.compressed(), component[~one.excluded])
    assert len(streams) == 8


def test_what_a_member_may_not_be_observed_in_is_hatched_too(streams):
    """Such as what lies around a centre that every member has elsewhere."""

    class Elsewhere(Planet):
        domain = Domain.box((2, 2, 2, 2))

        def admits(self, x, parameters):
            return (x[..., 0] > -1).expand(torch.broadcast_shapes(x.shape[:-1], parameters.shape[:-1]))

    shown = shown_of(Elsewhere())
    outside = shown.planes[0].across <= -1
    assert (shown.hidden[0] == outside[:, None]).all()
    for i, axes in enumerate(streamlines(shown, 5).axes):
        (inside,) = hatched(axes) if i < 4 else [None]
        assert i >= 4 or inside.get_datalim(axes.transData).x1 == pytest.approx(-0.95, abs=0.06)


def test_a_state_that_has_turned_is_where_figures_show_it():
    system = Rotors()
    one = plane(system.domain, (0, 2), 5, np.array([4.0, 2.5, 1.0, 0.1]))
    assert one.point == pytest.approx((4 - 2 * np.pi, 1.0))


def test_a_projection_shows_what_its_coordinates_alone_exclude():
    near = Exclusion(((1, 0, 0, 0), (0, 1, 0, 0)), (0, 0), 0.5)
    fast = Exclusion(((1, 0, 1, 0),), (0,), 0.5)
    domain = dataclasses.replace(PLANET.domain, exclusions=(near, fast))
    assert projected(domain, (0, 1)).exclusions == (near,)
    assert projected(domain, (0, 2)).exclusions == (fast,)
    assert projected(domain, (1, 3)).exclusions == ()


def test_a_state_of_many_coordinates_is_stated_in_short():
    assert state_words(np.array([0.123, -2.0, -0.0, 1e-4])) == "(q; p) = (0.12, −2; 0, 0.0001)"
    assert state_words(np.arange(64.0)) == "(q; p) = (0, 1, 2, …; 32, 33, 34, …)"


def test_the_reports_slices_start_where_the_prediction_does(shown, samples, streams):
    adapted = slightly_off(PLANET, torch.ones(1, 2, dtype=torch.float64), 0.0)[0]
    following = np.array([0.0, -1.0, 1.5, 0.5])
    figures = [
        field_slices(adapted, shown.x, shown.orbit),
        energy_slice(adapted, shown.x, shown.orbit),
        uncertainty_slices(samples, shown.x, shown.orbit, following),
    ]
    planes = [[(0, 2), (1, 3)], [(0, 1)], [(0, 1), (0, 2), (1, 3)]]
    for figure, pairs in zip(figures, planes, strict=True):
        assert "(q; p) = (1.2, 0.3; −0.1, 0.8)" in figure.get_suptitle().replace("\n", " ")
        for axes, pair in zip(figure.axes, pairs, strict=False):
            np.testing.assert_allclose(circle(axes), shown.orbit[0][list(pair)])
            assert [axes.get_xlabel(), axes.get_ylabel()] == [PLANET.domain.labels[i] for i in pair]
            assert len(hatched(axes)) == (pair != (1, 3))
    stars = [line for axes in figures[2].axes for line in axes.lines if line.get_marker() == "*"]
    assert [tuple(star.get_xydata()[0]) for star in stars] == [(0, -1), (0, 1.5), (-1, 0.5)]


def test_contours_of_the_energy_are_not_taken_by_its_singularity(shown):
    adapted = slightly_off(PLANET, torch.ones(1, 2, dtype=torch.float64), 0.0)[0]
    figure = energy_slice(adapted, shown.x, shown.orbit)
    (contours,) = [c for c in figure.axes[0].collections if len(getattr(c, "levels", [])) > 2]
    far = adapted.energy(torch.tensor([[1.0, 0.0, -0.1, 0.8]], dtype=torch.float64)).item()
    assert (np.array(contours.levels) > far).mean() > 0.5


def test_an_energy_that_is_the_same_everywhere_has_no_contours(adapted_to):
    system = ring(2)
    flat = adapted_to(system, torch.ones(1, 2, dtype=torch.float64))
    object.__setattr__(system, "hamiltonian", lambda x, parameters: 0 * x[..., 0])
    orbit = np.zeros((3, 4))
    assert len(energy_slice(flat[0], orbit, orbit).axes) == 1


def test_the_uncertainty_is_relative_to_the_field_where_nothing_is_excluded(shown, samples):
    """The RMS that it is in units of would be ruled by the singularity."""
    assert isinstance(samples, AdaptedSystems)
    figure = uncertainty_slices(samples, shown.x, shown.orbit, np.array([0.0, -1.0, 1.5, 0.5]))
    values = figure.axes[0].collections[0].get_array()
    assert np.isfinite(values.compressed()).all()
    assert 0.001 < np.median(values.compressed()) < 0.1
