"""Nothing that is written beside axes is cut off, or lies on something else that is written, or on other axes."""

import itertools

import pytest
from matplotlib.axes import Axes
from several import Planet, Rotors, ring, shown_of

from meta_hamiltonian.figures import fields_side_by_side, orbits_side_by_side, streamlines, trajectories
from meta_hamiltonian.figures.adapted import predicted_orbit, residuals
from meta_hamiltonian.figures.families import Family, families
from meta_hamiltonian.figures.projections import phase_portraits, positions
from meta_hamiltonian.figures.spacetime import spacetimes

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def no_streams(monkeypatch):
    """They take most of the time, and no room."""
    monkeypatch.setattr(Axes, "streamplot", lambda *arguments, **more: None)


ONE = {1: 0.01}  # the narrowest figures: a learner that takes a single step
TOUCHING = 3.0  # pixels


def words(figure):
    texts = [figure._suptitle, figure._supxlabel, figure._supylabel]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label] if axes.get_visible() else []
    return [text for text in texts if text is not None and text.get_visible() and text.get_text()]


def assert_all_can_be_read(figure):
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    boxes = [(text.get_text(), text.get_window_extent()) for text in words(figure)]
    for text, box in boxes:
        assert box.x0 > -TOUCHING and box.y0 > -TOUCHING, f"{text!r} is cut off"  # noqa: PT018
        assert box.x1 < width + TOUCHING and box.y1 < height + TOUCHING, f"{text!r} is cut off"  # noqa: PT018
    for (one, box), (other, its) in itertools.combinations(boxes, 2):
        across = min(box.x1, its.x1) - max(box.x0, its.x0)
        along = min(box.y1, its.y1) - max(box.y0, its.y0)
        assert min(across, along) < TOUCHING, f"{one!r} lies on {other!r}"


def test_names_and_units_that_are_long():
    system = Rotors()
    shown = shown_of(system, ONE)
    domain, t, x, orbit = system.domain, shown.t, shown.x, shown.orbit
    assert_all_can_be_read(streamlines(shown, 5))
    assert_all_can_be_read(trajectories(shown, 5))
    assert_all_can_be_read(positions(domain, x, orbit))
    assert_all_can_be_read(residuals(domain, x, 2 * x))
    assert_all_can_be_read(predicted_orbit(domain, t, orbit, shown.energy, {}))
    assert_all_can_be_read(phase_portraits(domain, x, shown.dxdt, orbit))


@pytest.mark.parametrize("n", [4, 32])
def test_many_degrees_of_freedom(n):
    system = ring(n)
    shown = shown_of(system, ONE)
    assert_all_can_be_read(streamlines(shown, 5))
    assert_all_can_be_read(spacetimes(shown, 5))
    assert_all_can_be_read(residuals(system.domain, shown.x, 2 * shown.x))


def test_a_sweep_and_its_families():
    shown = {"planet": shown_of(Planet(), ONE), "long names": shown_of(Rotors(), ONE), "ring": shown_of(ring(8), ONE)}
    errors = {"ridge": 1e-11, "anil data.noise=0.1 algo.lr=0.001": 0.02, "maml data.noise=0.1 algo.lr=0.001": 0.5}
    assert_all_can_be_read(families([Family(name, one, errors) for name, one in shown.items()]))
    jobs = dict.fromkeys(errors, shown["long names"])
    assert_all_can_be_read(fields_side_by_side(jobs))
    assert_all_can_be_read(orbits_side_by_side(jobs))


def test_words_that_lie_on_each_other_are_found():
    """The check itself."""
    figure = trajectories(shown_of(Planet(), ONE), 5)
    figure.axes[1].set_ylabel("a label that is a good deal longer than its axes are high, and than its neighbour's")
    with pytest.raises(AssertionError, match="lies on"):
        assert_all_can_be_read(figure)
