"""Predicted orbits with friction and inputs: where the energy goes."""

import csv
import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from meta_hamiltonian import load
from meta_hamiltonian.dynamics import FRICTION
from meta_hamiltonian.inference import fit
from meta_hamiltonian.observations import Derivatives, Inputs, Trajectory
from meta_hamiltonian.reports.prediction import INPUT, INSTANTS, predict, usual_horizon, write_bands, write_prediction
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()
LEARNER = load(Path(__file__).parents[1] / "data" / "ridge.ckpt")
PARAMETERS = torch.tensor([[0.8, 1.1, 0.3]], dtype=torch.float64)
START = torch.tensor([1.8, 0.0], dtype=torch.float64)
TRUE = {"viscous": 0.05, "quadratic": 0.03, "dry": 0.04}


def without_bands(found):
    return dataclasses.replace(found, samples=None, start_samples=None)


@functools.cache
def fitted_to_points(*kinds):
    """The fit of exact points of a pendulum with these kinds of friction, at slow states."""
    x = SYSTEM.domain.draw(0, ("seen",), range(1), 60)[0] * torch.tensor([1.0, 0.15], dtype=torch.float64)
    v, dp = SYSTEM.field(x, PARAMETERS).chunk(2, dim=-1)
    width = 0.01 * v.square().mean().sqrt().item()
    dp = dp - sum(TRUE[kind] * FRICTION[kind].force(v, width) for kind in kinds)
    seen = Derivatives(x.numpy(), torch.cat([v, dp], dim=-1).numpy())
    found = fit(LEARNER, seen, friction="+".join(kinds) or "none")
    assert set(found.friction) == set(kinds)
    return found.starting_from(START)


def after_points(*kinds):
    return without_bands(fitted_to_points(*kinds))


@functools.cache
def predicted(*kinds):
    return predict(after_points(*kinds), 15.0)


@pytest.mark.parametrize(
    ("recorded", "expected"), [([5.0], 20.0), ([0.5, 90.0], 20.0), ([4000.0, 5000.0], 10000.0), ([5e-12], 1e-11)]
)
def test_a_prediction_is_as_long_as_recordings_in_milliseconds_or_picoseconds_ask_for(recorded, expected):
    seen = [Trajectory(np.linspace(1, 1 + end, 3), np.zeros((3, 1)), None, None, "") for end in recorded]
    assert usual_horizon(seen) == pytest.approx(expected, rel=1e-3)
    assert usual_horizon(Derivatives(np.zeros((2, 2)), np.zeros((2, 2)))) == 20.0


@functools.cache
def driven(until=20.0, kinds=("viscous",)):
    """The fit of a pendulum that a torque drives, by derivatives of its orbit; inputs go on until this time."""
    inputs = np.linspace(0, until, round(20 * until) + 1)
    push = lambda t: np.sin(0.7 * t) + 0.5 * np.sin(1.9 * t + 1)  # noqa: E731
    x, states, dt = np.array([0.5, 0.0]), [], 0.005
    m, l, q0 = PARAMETERS[0].tolist()

    def rate(t, x):
        v = x[1] / (m * l**2)
        return np.array([v, -m * l * np.sin(x[0] - q0) - 0.05 * v + 0.4 * push(t)])

    for i in range(2001):  # Runge and Kutta's method of order 4, 10 time units long
        if i % 10 == 0:
            states.append(x)
        t = i * dt
        a = rate(t, x)
        b = rate(t + dt / 2, x + dt / 2 * a)
        c = rate(t + dt / 2, x + dt / 2 * b)
        x = x + dt / 6 * (a + 2 * b + 2 * c + rate(t + dt, x + dt * c))
    q, p = np.array(states).T[..., None]
    seen = Trajectory(np.linspace(0, 10, 201), q, p, None, "", Inputs(inputs, push(inputs)[:, None]))
    return without_bands(fit(LEARNER, [seen], "derivatives", friction="+".join(kinds)))


@pytest.mark.parametrize("kinds", [("viscous",), ("quadratic",), ("dry",), ("viscous", "dry"), tuple(FRICTION)])
def test_what_friction_takes_is_what_the_energy_lacks(kinds):
    found = predicted(*kinds)
    lost = found.energy[0] - found.energy
    assert set(found.work) == set(found.power) == set(kinds)
    assert (np.diff(lost) > 0).all()
    assert lost[-1] > 0.1 * found.energy[0]
    np.testing.assert_allclose(found.energy + found.dissipated, found.energy[0], atol=0.01 * lost[-1])
    np.testing.assert_allclose(-sum(found.work.values()), lost, atol=0.01 * lost[-1])
    for kind in kinds:
        assert found.work[kind][0] == 0
        assert (np.diff(found.work[kind]) <= 1e-6 * lost[-1]).all(), "each of them takes energy out"
        assert (found.power[kind] <= 0).all()


@pytest.mark.parametrize("kinds", [("viscous",), ("viscous", "dry")])
def test_work_is_the_integral_of_power_and_power_is_force_times_velocity(kinds):
    fitted, found = after_points(*kinds), predicted(*kinds)
    total = sum(found.power.values())
    integral = np.concatenate([[0], np.cumsum((total[1:] + total[:-1]) / 2 * np.diff(found.t))])
    np.testing.assert_allclose(sum(found.work.values()), integral, atol=0.01 * np.abs(integral).max())
    m, l, _ = PARAMETERS[0].tolist()
    v = torch.from_numpy(found.x[:, 1:]) / (m * l**2)
    width = fitted.adapted.systems.forces.width
    for kind in kinds:
        expected = -(v * TRUE[kind] * FRICTION[kind].force(v, width))[:, 0].numpy()
        np.testing.assert_allclose(found.power[kind], expected, atol=1e-3 * np.abs(expected).max())


def test_without_forces_energy_stays_and_nothing_is_dissipated():
    found = predicted()
    np.testing.assert_allclose(found.energy, found.energy[0], rtol=1e-8)
    assert (found.work, found.power) == ({}, {})
    assert (found.dissipated == 0).all()
    assert found.dissipated.shape == found.t.shape


def test_with_inputs_the_balance_holds():
    """What the motor brings in and friction takes out is what the energy changes by."""
    found = predict(driven(), 10.0)
    assert set(found.work) == {"viscous", INPUT}
    assert found.t[0] == 10
    change = found.energy - found.energy[0]
    np.testing.assert_allclose(sum(found.work.values()), change, atol=0.02 * np.ptp(found.energy))
    assert found.dissipated[-1] > 0
    np.testing.assert_allclose(found.dissipated, -found.work["viscous"])
    assert (np.diff(found.work[INPUT]) > 0).any()
    assert (np.diff(found.work[INPUT]) < 0).any(), "it brakes too"
    assert not found.warnings


def test_inputs_that_end_early_bring_nothing_from_there_on():
    found = predict(driven(until=14.0), 10.0)
    assert any("measured until t = 14; from there on they are taken to be 0" in warning for warning in found.warnings)
    late = found.t > 14.05
    assert (found.power[INPUT][late] == 0).all()
    assert (np.diff(found.energy[late]) <= 0).all()
    change = found.energy - found.energy[0]
    np.testing.assert_allclose(sum(found.work.values()), change, atol=0.02 * np.ptp(found.energy))


def test_a_driven_system_that_starts_elsewhere_is_still_at_its_time():
    fitted = driven()
    moved = fitted.starting_from(torch.tensor([0.2, 0.1], dtype=torch.float64))
    assert moved.start_time == 10.0
    same = predict(fitted.starting_from(fitted.start), 5.0)
    np.testing.assert_allclose(same.x, predict(fitted, 5.0).x, atol=1e-12)
    assert predict(moved, 5.0).t[0] == 10.0


def test_a_long_prediction_has_enough_instants_for_its_periods_and_a_short_one_has_its_usual():
    fitted = after_points("viscous")
    assert len(predict(fitted, 1.0).t) == INSTANTS
    long = predict(fitted, 100.0)
    period = 2 * math.pi * PARAMETERS[0, 1].sqrt().item()  # of a small swing, 2π √(l/g)
    assert 15 * 100 / period < len(long.t) < 100 * 100 / period
    assert long.t[-1] == pytest.approx(100.0)
    np.testing.assert_allclose(np.diff(long.t), long.t[1], rtol=1e-9)


def read(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("kinds", [(), ("viscous",), ("viscous", "dry")])
def test_the_file_holds_what_was_dissipated(tmp_path, kinds):
    found = predicted(*kinds)
    write_prediction(tmp_path / "prediction.csv", found)
    table = read(tmp_path / "prediction.csv")
    assert list(table) == ["t", "q", "p", "energy", "dissipated"]
    np.testing.assert_array_equal(table["t"], found.t)
    np.testing.assert_array_equal(table["energy"], found.energy)
    both = table["energy"] + table["dissipated"]
    np.testing.assert_allclose(both, both[0], atol=1e-2 * max(np.ptp(found.energy), 1e-6))


def test_bands_of_a_system_with_friction_are_written_and_hold_its_orbit(tmp_path):
    found = predict(fitted_to_points("viscous"), 15.0)
    write_bands(tmp_path / "bands.csv", found)
    table = read(tmp_path / "bands.csv")
    assert list(table) == ["t", *(f"{n}_{end}" for n in ("q", "p", "energy_change") for end in ("low", "high"))]
    held = (table["q_low"] - 1e-6 <= found.x[:, 0]) & (found.x[:, 0] <= table["q_high"] + 1e-6)
    assert held.mean() > 0.9
