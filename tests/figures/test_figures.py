"""Figures: that the right numbers are drawn, and that they are files which can be opened."""

import matplotlib.image
import numpy as np
import pytest
import torch

from meta_hamiltonian.evaluation import evaluate, make_test_set
from meta_hamiltonian.figures import (
    Shown,
    comparison,
    fields_side_by_side,
    orbits_side_by_side,
    save,
    streamlines,
    training,
    trajectories,
)
from meta_hamiltonian.figures.style import OBSERVATIONS, PREDICTION, TRUTH
from meta_hamiltonian.learners import MAML
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum

SHOTS, STEPS, SYSTEM = 7, [0, 1, 4], 2


@pytest.fixture(scope="module")
def systems():
    return make_test_set(Pendulum(), n_systems=3, shots=20, seed=0)


@pytest.fixture(scope="module")
def results(systems):
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=8, depth=2, input_scale=Pendulum().state_box)
    return list(evaluate(MAML(net, lr=0.02, scale="task"), systems, [SHOTS], STEPS))


@pytest.fixture(scope="module")
def shown(results, systems):
    return Shown.of(results, systems, SYSTEM)


def lines_of(axes, colour):
    return [line for line in axes.get_lines() if line.get_color() == colour]


def test_streamlines_show_the_truth_and_every_number_of_steps_with_the_observations(shown, results, systems):
    figure = streamlines(shown, SHOTS)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    titles = [axes.get_title() for axes in panels]
    assert titles[0] == "true"
    assert [title.split(",")[0] for title in titles[1:]] == ["0 steps", "1 step", "4 steps"]
    for title, result in zip(titles[1:], results, strict=True):
        assert float(title.split("MSE ")[1]) == pytest.approx(result.errors.field_mse[SYSTEM].item(), rel=0.06)
    for axes in panels:
        (arrows,) = [c for c in axes.collections if type(c).__name__ == "Quiver"]
        np.testing.assert_allclose(arrows.get_offsets(), systems.support.x[SYSTEM, :SHOTS].numpy())
        dxdt = systems.support.dxdt[SYSTEM, :SHOTS].numpy()
        drawn = np.stack([arrows.U, arrows.V], -1)
        ratio = drawn / dxdt
        np.testing.assert_allclose(ratio, ratio[:1].repeat(SHOTS, 0), rtol=1e-6)  # one factor a coordinate
        assert axes.get_ylim() == (-20.0, 20.0)
    assert "q (rad)" in figure.get_supxlabel()
    assert "p (" in figure.get_supylabel()


def test_trajectories_show_states_and_energy_of_the_orbits_that_were_measured(shown, results, systems):
    figure = trajectories(shown, SHOTS)
    columns = np.array(figure.axes).reshape(3, -1).T
    assert len(columns) == 2, "the unadapted network is left out"
    for axes, result in zip(columns, results[1:], strict=True):
        predicted = result.errors.orbits[:, SYSTEM]
        for row in (0, 1):
            (truth,), (prediction,) = lines_of(axes[row], TRUTH), lines_of(axes[row], PREDICTION)
            np.testing.assert_allclose(truth.get_ydata(), systems.orbit[:, SYSTEM, row].numpy())
            np.testing.assert_allclose(prediction.get_ydata(), predicted[:, row].numpy())
            np.testing.assert_allclose(prediction.get_xdata(), systems.t.numpy())
        (truth,), (prediction,) = lines_of(axes[2], TRUTH), lines_of(axes[2], PREDICTION)
        error = np.mean((prediction.get_ydata() - truth.get_ydata()[0]) ** 2)
        assert error == pytest.approx(result.errors.energy_mse[SYSTEM].item(), rel=1e-6)
        assert np.ptp(truth.get_ydata()) < 1e-8
        assert "t (" in axes[2].get_xlabel()
    assert all(axes.get_ylabel() for axes in columns[0])


def sweep_rows(jobs, shots=(25, 50)):
    return [
        {
            "overrides": f"seed={job}",
            "shots": str(k),
            "steps": str(steps),
            "noise": "0.0",
            "field_mse_mean": str(10.0 ** (job - steps)),
        }
        for job in range(jobs)
        for k in shots
        for steps in (0, 1, 5)
    ]


def test_the_comparison_has_a_curve_for_every_job_and_k():
    (axes,) = comparison(sweep_rows(3)).axes
    assert len(axes.get_lines()) == 6
    curve = axes.get_lines()[2]
    assert curve.get_label() == "seed=1, K = 25"
    assert list(curve.get_xdata()) == [0, 1, 5]
    np.testing.assert_allclose(curve.get_ydata(), [10.0, 1.0, 1e-4])
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.get_lines()}
    assert len(looks) == 6, "they can be told apart"


@pytest.mark.filterwarnings("error")
def test_of_many_jobs_the_comparison_shows_the_best(tmp_path):
    figure = comparison(sweep_rows(90))
    labels = {line.get_label().split(",")[0] for line in figure.axes[0].get_lines()}
    assert labels == {f"seed={job}" for job in range(20)}
    assert "20 of 90" in figure.get_suptitle()
    save(figure, tmp_path / "comparison")


def test_figures_are_saved_as_png_and_pdf_and_show_their_colours(shown, tmp_path):
    save(streamlines(shown, SHOTS), tmp_path / "new" / "field_k7")
    image = matplotlib.image.imread(tmp_path / "new" / "field_k7.png")[..., :3]
    assert image.shape[1] >= 1200, "fit for print"
    for colour in (TRUTH, PREDICTION, OBSERVATIONS):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(image - rgb).max(-1) < 0.02).sum() > 100
    assert (tmp_path / "new" / "field_k7.pdf").read_bytes().startswith(b"%PDF")


def test_a_sweep_over_k_and_noise_has_curves_against_them():
    rows = [
        {
            "overrides": f"algo=ridge data.noise={noise}",
            "shots": str(k),
            "steps": str(steps),
            "noise": str(noise),
            "field_mse_mean": str(1 / k + noise + 1 / (1 + steps)),
        }
        for noise in (0.0, 0.01, 0.1)
        for k in (2, 25, 100)
        for steps in (0, 50)
    ]
    shots, noise = comparison(rows).axes
    assert [line.get_label() for line in shots.get_lines()] == [f"ridge, noise {n} %" for n in (0, 1, 10)]
    assert [line.get_label() for line in noise.get_lines()] == ["ridge, K = 25"]
    assert list(shots.get_lines()[0].get_xdata()) == [2, 25, 100]
    np.testing.assert_allclose(shots.get_lines()[1].get_ydata(), 1 / np.array([2, 25, 100]) + 0.01 + 1 / 51)
    np.testing.assert_allclose(noise.get_lines()[0].get_xdata(), [0.0, 0.01, 0.1])
    np.testing.assert_allclose(noise.get_lines()[0].get_ydata(), 1 / 25 + np.array([0.0, 0.01, 0.1]) + 1 / 51)
    assert shots.get_xlabel().startswith("K")
    assert noise.get_xlabel().startswith("noise")


@pytest.mark.filterwarnings("error")
def test_a_job_with_many_overrides_leaves_room_for_the_axes(tmp_path):
    long = " ".join(f"some.key{i}=value" for i in range(20))
    figure = comparison([row | {"overrides": f"seed=1 {long}"} for row in sweep_rows(1)])
    save(figure, tmp_path / "comparison")
    assert figure.axes[0].get_lines()[0].get_label().startswith("seed=1 some.key0")


def test_a_sweep_with_many_k_has_curves_against_them():
    steps, shots = comparison(sweep_rows(2, shots=(2, 5, 10))).axes
    assert (len(steps.get_lines()), len(shots.get_lines())) == (6, 2)
    assert list(shots.get_lines()[1].get_xdata()) == [2, 5, 10]
    np.testing.assert_allclose(shots.get_lines()[1].get_ydata(), [1e-4] * 3)


def test_what_is_shown_is_read_back_as_it_was_saved(shown, tmp_path):
    shown.save(tmp_path / "shown.npz")
    again = Shown.load(tmp_path / "shown.npz")
    np.testing.assert_array_equal(again.orbit, shown.orbit)
    np.testing.assert_array_equal(again.dxdt, shown.dxdt)
    for one, other in zip(again.predictions, shown.predictions, strict=True):
        assert (one.shots, one.steps, one.field_mse) == (other.shots, other.steps, other.field_mse)
        np.testing.assert_allclose(one.orbit, other.orbit, rtol=1e-6)


def test_jobs_side_by_side_have_the_truth_and_a_panel_each(shown):
    jobs = {"method=maml": shown, "method=anil seed=1": shown}
    figure = fields_side_by_side(jobs)
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles[0] == "true"
    assert [title.split("\n")[0] for title in titles[1:]] == ["maml", "anil seed=1"]
    assert all("4 steps" in title for title in titles[1:])
    axes = np.array(orbits_side_by_side(jobs).axes).reshape(2, 3)
    for row in axes:
        for column, truth in zip(row, (shown.orbit[:, 0], shown.orbit[:, 1], shown.energy), strict=True):
            np.testing.assert_array_equal(lines_of(column, TRUTH)[0].get_ydata(), truth)
            np.testing.assert_array_equal(
                lines_of(column, PREDICTION)[0].get_ydata(),
                {
                    0: shown.predictions[-1].orbit[:, 0],
                    1: shown.predictions[-1].orbit[:, 1],
                    2: shown.predictions[-1].energy,
                }[list(row).index(column)],
            )


def test_losses_that_hardly_change_are_drawn_as_such():
    """Else their ticks would be one number, several times."""
    history = [{"step": i, "seconds": float(i), "loss": 1.0 - 1e-9 * i} for i in range(6)]
    (axes,) = training(history).axes
    assert axes.get_ylim() == pytest.approx((0.5, 2.0))
    falling = [{**row, "loss": 0.1 ** row["step"]} for row in history]
    (axes,) = training(falling).axes
    low, high = axes.get_ylim()
    assert low < 1e-5 < 1 < high
