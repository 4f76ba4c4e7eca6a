"""Recordings of pendulums that friction slows down or a motor drives, from SciPy, and what is found of them."""

import copy
import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from observed import INERTIA, PARAMETERS, SYSTEM, learner
from scipy.integrate import solve_ivp

from meta_hamiltonian.dynamics import FRICTION
from meta_hamiltonian.inference import fit
from meta_hamiltonian.models import Adapted
from meta_hamiltonian.observations import Derivatives, Inputs, ObservationError, Trajectory
from meta_hamiltonian.reports.prediction import predict

# Fits follow thousands of orbits.
M, L, Q0 = PARAMETERS[0].tolist()
T = np.arange(501) / 20  # 25 s at 20 Hz, of which the first 15 s are observed
SEEN = 301
GAIN, TORQUE = 0.15, np.sin(0.7 * T) + 0.5 * np.sin(1.9 * T + 1)


@functools.cache
def motion(kind="viscous", d=0.05, start=1.8, driven=False):
    """q and p of the equation of motion."""
    force = {"viscous": lambda v: v, "quadratic": lambda v: v * abs(v), "dry": lambda v: math.tanh(v / 0.01)}[kind]

    def rate(t, x):
        v = x[1] / INERTIA
        push = GAIN * np.interp(t, T, TORQUE) if driven else 0.0
        return [v, -M * L * math.sin(x[0] - Q0) - d * force(v) + push]

    # Steps no longer than the inputs' own.
    return solve_ivp(rate, (0, T[-1]), [start, 0.0], "RK45", T, rtol=1e-9, atol=1e-10, max_step=1 / 20).y.T


def recording(x, noise=0.005, seed=0, inputs=None, columns="q", seen=SEEN):
    """Positions at 20 Hz with errors that are this part of their size."""
    generator = np.random.default_rng(seed)
    noisy = x + noise * np.abs(x).max(0) * generator.normal(size=x.shape)
    u = None if inputs is None else Inputs(T[:inputs], TORQUE[:inputs, None])
    p = noisy[:seen, 1:] if "p" in columns else None
    return Trajectory(T[:seen], noisy[:seen, :1], p, None, "", u)


@functools.cache
def fitted(kind="viscous", d=0.05, start=1.8, friction="auto", driven=0, how="orbit", seed=0):
    x = motion(kind, d, start, bool(driven))
    return fit(learner(), [recording(x, seed=seed, inputs=driven or None)], how, INERTIA, friction=friction)


@functools.cache
def forecast(**recorded):
    return predict(fitted(**recorded), 10.0)


def truth_at(t, x):
    return np.stack([np.interp(t, T, column) for column in x.T], axis=-1)


def error_of(predicted, x):
    """Over the next 10 s, as a part of the amplitude."""
    assert predicted.t[0] == T[SEEN - 1]
    assert predicted.t[-1] == pytest.approx(T[-1])
    return (np.abs(predicted.x - truth_at(predicted.t, x)).max(0) / np.abs(x).max(0)).max()


def test_viscous_friction_is_found_within_its_error():
    found = fitted()
    value, deviation = found.friction["viscous"]
    assert set(found.friction) == {"viscous"}
    assert abs(value - 0.05) < 4 * deviation
    assert deviation < 0.1 * 0.05
    assert any(note.startswith("Friction: viscous 0.0") and "compared with" in note for note in found.notes)
    assert found.candidates[0].evidence >= found.candidates[-1].evidence
    assert {one.kinds for one in found.candidates} >= {(), *((kind,) for kind in FRICTION)}


def test_errors_that_are_said_are_those_that_are_made():
    """Over several recordings of one pendulum."""
    off = []
    for seed in range(4):
        value, deviation = fitted(friction="viscous", seed=seed).friction["viscous"]
        off.append((value - 0.05) / deviation)
    assert np.abs(off).max() < 4
    assert np.sqrt(np.mean(np.square(off))) < 2


def test_its_forecast_is_right_and_its_bands_hold_the_truth():
    predicted, x = forecast(), motion()
    assert error_of(predicted, x) < 0.02
    low, high = predicted.bands["x"]
    true = truth_at(predicted.t, x)
    assert ((low <= true) & (true <= high)).mean(0).min() > 0.85
    assert np.abs(high - low).max() < 0.2 * np.abs(x).max(), "and they are no wider than they need to be"
    assert (np.diff(predicted.energy) <= 1e-9).all(), "energy only falls"


@pytest.mark.parametrize(("kind", "d"), [("quadratic", 0.1), ("dry", 0.04)])
def test_other_kinds_are_found_where_they_act(kind, d):
    found = fitted(kind=kind, d=d)
    assert set(found.friction) == {kind}
    value, deviation = found.friction[kind]
    assert abs(value - d) < 4 * max(deviation, 0.005 * d)
    assert error_of(forecast(kind=kind, d=d), motion(kind, d)) < 0.02
    assert any(f"Friction: {kind}" in note for note in found.notes)


def test_friction_none_leaves_it_out_and_misses():
    found = fitted(friction="none")
    assert found.friction == {}
    assert found.candidates[0].kinds == ()
    assert any("left out (friction=none)" in note for note in found.notes)
    predicted = forecast(friction="none")
    assert np.ptp(predicted.energy) < 1e-5 * predicted.energy.max()
    assert error_of(predicted, motion()) > 5 * error_of(forecast(), motion())
    assert (found.noise > 3 * fitted().noise).all()


def test_a_kind_that_is_given_is_the_one_that_is_fitted():
    found = fitted(friction="dry")
    assert set(found.friction) <= {"dry"}
    assert set(fitted(friction="viscous").friction) == {"viscous"}
    assert fitted(friction="viscous").friction["viscous"][0] == pytest.approx(fitted().friction["viscous"][0], rel=0.02)


def test_a_clean_swing_has_no_friction_and_keeps_its_energy():
    found = fitted(d=0.0)
    assert found.friction == {}
    assert any("No friction" in note for note in found.notes)
    predicted = forecast(d=0.0)
    assert np.ptp(predicted.energy) < 1e-5 * predicted.energy.max()
    assert (predicted.work, predicted.power) == ({}, {})
    assert error_of(predicted, motion(d=0.0)) < 0.02


def test_auto_takes_the_orbit_and_the_same_friction():
    found = fitted(how="auto")
    assert found.how == "orbit"
    assert found.friction["viscous"][0] == pytest.approx(fitted().friction["viscous"][0], rel=1e-6)
    assert found.held_out["orbit"] < found.held_out["derivatives"]


def test_derivatives_of_a_recording_find_friction_roughly():
    found = fitted(how="derivatives")
    assert "viscous" in found.friction
    assert found.friction["viscous"][0] == pytest.approx(0.05, rel=0.3)


def test_a_driven_pendulum_is_found_with_its_gain():
    found = fitted(start=0.5, driven=len(T))
    ((gain, deviation),) = found.gains
    assert abs(gain - GAIN) < 4 * deviation
    assert deviation < 0.05 * GAIN
    value, error = found.friction["viscous"]
    assert abs(value - 0.05) < 4 * error


def test_a_forecast_uses_the_inputs_that_were_measured_later():
    x = motion(start=0.5, driven=True)
    predicted = forecast(start=0.5, driven=len(T))
    assert error_of(predicted, x) < 0.05
    low, high = predicted.bands["x"]
    true = truth_at(predicted.t, x)
    assert ((low <= true) & (true <= high)).mean(0).min() > 0.85
    assert not predicted.warnings
    # Without them it would have gone elsewhere.
    still = fitted(start=0.5, driven=len(T)).adapted.systems
    still = Adapted(dataclasses.replace(still, forces=dataclasses.replace(still.forces, signal=None)))
    ends = still.orbits(torch.from_numpy(predicted.x[:1]), torch.from_numpy(predicted.t), 1e-6).states[:, 0]
    assert np.abs(ends.numpy() - true).max() > 0.1 * np.abs(x).max()


def test_inputs_left_out_are_missed():
    x = motion(start=0.5, driven=True)
    found = fit(learner(), [recording(x)], "orbit", INERTIA, friction="viscous")
    assert any("miss the observations" in warning for warning in found.warnings)
    assert (found.noise > 5 * fitted(start=0.5, driven=len(T)).noise).all()


def test_several_releases_share_law_and_friction():
    both = [recording(motion(start=1.8), seen=121), recording(motion(start=-0.9), seed=1, seen=161)]
    found = fit(learner(), both, "orbit", INERTIA)
    value, deviation = found.friction["viscous"]
    assert abs(value - 0.05) < 4 * deviation
    assert found.start_time == T[160]


def test_either_all_trajectories_have_inputs_or_none():
    x = motion(start=0.5, driven=True)
    with pytest.raises(ObservationError, match="some trajectories have measured inputs"):
        fit(learner(), [recording(x), recording(x, inputs=len(T))], "orbit", INERTIA)


@pytest.mark.parametrize("kind", [None, *FRICTION])
def test_points_with_derivatives_tell_their_friction(kind):
    x = SYSTEM.domain.draw(1, ("seen",), range(1), 40)[0]
    v, dp = SYSTEM.field(x, PARAMETERS).chunk(2, dim=-1)
    d = {None: 0.0, "viscous": 0.05, "quadratic": 0.01, "dry": 0.5}[kind]
    width = 0.01 * v.square().mean().sqrt().item()
    dp = dp - d * FRICTION[kind or "viscous"].force(v, width)
    dxdt = torch.cat([v, dp], dim=-1)
    generator = torch.Generator().manual_seed(0)
    dxdt = dxdt + 0.01 * dxdt.square().mean(0).sqrt() * torch.randn(dxdt.shape, generator=generator).double()
    found = fit(learner(), Derivatives(x.numpy(), dxdt.numpy()))
    if kind is None:
        assert found.friction == {}
        assert any("No friction" in note for note in found.notes)
        return
    assert set(found.friction) == {kind}
    value, deviation = found.friction[kind]
    assert abs(value - d) < 4 * deviation
    assert fit(learner(), Derivatives(x.numpy(), dxdt.numpy()), friction="none").friction == {}


def test_few_points_are_not_asked_for_friction():
    x = SYSTEM.domain.draw(1, ("seen",), range(1), 4)[0]
    found = fit(learner(), Derivatives(x.numpy(), SYSTEM.field(x, PARAMETERS).numpy()))
    assert found.friction == {}
    assert not found.candidates


def test_a_friction_that_is_none_of_the_kinds_is_refused():
    with pytest.raises(ValueError, match="friction='sticky' is not known"):
        fit(learner(), [recording(motion())], "orbit", INERTIA, friction="sticky")


def of_a_family(mean, deviation):
    """The learner of a family whose members have such viscous friction."""
    one = copy.deepcopy(learner())
    values = mean + deviation * torch.linspace(-1.7, 1.7, 1001, dtype=torch.float64)  # of deviation 1
    one.friction.estimate(("viscous",), values[:, None])
    return one


@functools.cache
def beginning(d, family=None, seen=81):
    """The fit of a first part, by default of 4 s, which hardly tell friction."""
    given = learner() if family is None else of_a_family(*family)
    return fit(given, [recording(motion(d=d), seen=seen)], "orbit", INERTIA)


def test_friction_that_a_short_recording_does_not_tell_is_that_of_the_family():
    d = 0.006
    assert not beginning(d).friction
    family = beginning(d, (0.008, 0.003))
    value, deviation = family.friction["viscous"]
    assert abs(value - d) < 0.004
    assert deviation < 0.004
    assert any("viscous friction of the family's members, 0.008 ± 0.003" in note for note in family.notes)
    errors = [np.abs(predict(one, 20.0).x[-1, 0] - motion(d=d)[480, 0]) for one in (beginning(d), family)]
    assert errors[1] < errors[0]


def test_a_recording_that_tells_its_friction_is_believed():
    alone, family = (beginning(0.15, given, SEEN).friction["viscous"] for given in (None, (0.01, 0.005)))
    assert alone[0] == pytest.approx(0.15, rel=0.1)
    assert family[0] == pytest.approx(alone[0], rel=0.05)


@pytest.mark.parametrize("friction", ["viscous", "viscous+dry"])
def test_friction_that_is_given_is_believed_as_well(friction):
    """Whatever kinds are asked for beside those of the family."""
    found = fit(of_a_family(0.01, 0.005), [recording(motion(d=0.15), seen=SEEN)], "orbit", INERTIA, friction=friction)
    assert found.friction["viscous"][0] == pytest.approx(0.15, rel=0.05)
    assert any("viscous friction of the family's members" in note for note in found.notes)
