"""Centres of forces are found in recordings, and none where there is none."""

import numpy as np
import pytest
import torch

from meta_hamiltonian.dynamics.inertia import Entry, Factor
from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.episodes.recordings import load_recordings
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.observations.instrument import Instrument, record
from meta_hamiltonian.systems import HenonHeiles, Kepler, Pendulum, Recorded, SpringPendulum, TwoBody
from meta_hamiltonian.training.centres import find_centre

SUN = np.array([3.0, -1.0])


def ridge(domain):
    torch.manual_seed(0)
    return Ridge(
        NaturalNetwork(domain.state_dim, 24, domain, degree=Recorded.degree), rank="auto", scale="task"
    ).double()


def data_of(folder):
    return RecordedDataModule(load_recordings(str(folder), held_out=0.0), 50, 50, 50, "random", 0, torch.float64)


@pytest.fixture(scope="module")
def planets(tmp_path_factory):
    """Planets whose sun is beside the origin; what is recorded of them has 1 % noise."""
    folder = tmp_path_factory.mktemp("planets")
    record(Kepler(), 6, folder, Instrument(noise=0.01))
    for path in folder.glob("member-*.csv"):
        table = np.loadtxt(path, delimiter=",", skiprows=1)
        table[:, 1:3] += SUN
        np.savetxt(path, table, delimiter=",", header="t,q1,q2,p1,p2", comments="", fmt="%.10g")
    return folder


@pytest.mark.parametrize("columns", ["t,q1,q2,p1,p2", "t,q1,q2"])
def test_the_sun_is_found_beside_the_origin(planets, columns, tmp_path):
    for path in planets.glob("member-*.csv"):
        table = np.loadtxt(path, delimiter=",", skiprows=1)[:, : columns.count(",") + 1]
        np.savetxt(tmp_path / path.name, table, delimiter=",", header=columns, comments="", fmt="%.10g")
    data = data_of(tmp_path)
    domain = find_centre(ridge, data)
    assert domain is not None
    (around,) = domain.exclusions
    assert np.abs(np.array(around.centre) - SUN).max() < 0.02
    nearest = min(around.distance(one.points.x).min().item() for one in data.recordings.train)
    assert 0.3 < around.radius / nearest < 0.7
    learner = ridge(domain)
    learner.find_prior(data.known)
    assert not learner.uses_body
    assert learner.prior_factor.any(1).sum() <= 6
    assert data.friction == ()


def test_exact_rates_tell_the_place_of_the_sun(tmp_path):
    """What the laws leave are digits, of which none is evidence."""
    system = Kepler()
    parameters = system.sample_parameters(5, 0, "exact")
    states = system.sample_states(parameters, 0, ("exact",), range(5), 40)
    for i, x in enumerate(states):
        table = np.column_stack([x.numpy() + np.pad(SUN, (0, 2)), system.field(x, parameters[i : i + 1]).numpy()])
        header = "q1,q2,p1,p2,dq1,dq2,dp1,dp2"
        np.savetxt(tmp_path / f"m{i}.csv", table, delimiter=",", header=header, comments="", fmt="%.17g")
    domain = find_centre(ridge, data_of(tmp_path))
    assert domain is not None
    np.testing.assert_allclose(domain.exclusions[0].centre, SUN, atol=1e-6)


def test_two_bodies_are_centres_of_their_forces(tmp_path):
    record(TwoBody(), 6, tmp_path, Instrument(duration=20.0, noise=0.003))
    data = data_of(tmp_path)
    domain = find_centre(ridge, data)
    assert domain is not None
    (around,) = domain.exclusions
    assert around.matrix == TwoBody().domain.exclusions[0].matrix
    learner = ridge(domain)
    learner.find_prior(data.known)
    assert not learner.uses_body


def test_a_radius_is_the_distance_to_a_centre(tmp_path):
    """Planets in polar coordinates, where the energy of the rotation is p²/(2 m r²)."""
    random = np.random.default_rng(0)
    record(Kepler(), 8, tmp_path, Instrument(duration=12.0))
    for path in tmp_path.glob("member-*.csv"):
        t, x, y, px, py = np.loadtxt(path, delimiter=",", skiprows=1).T
        r = np.hypot(x, y)
        polar = np.column_stack([r, np.unwrap(np.arctan2(y, x)), (x * px + y * py) / r, x * py - y * px])
        polar += 0.003 * polar.std(0) * random.standard_normal(polar.shape)
        header = "t,r (m),phi (rad),p_r,p_phi"
        np.savetxt(path, np.column_stack([t, polar]), delimiter=",", header=header, comments="", fmt="%.10g")
    data = data_of(tmp_path)
    domain = find_centre(ridge, data)
    assert domain is not None
    (around,) = domain.exclusions
    assert around.coordinate == 0
    assert domain.coordinates[0].low >= around.radius > 0
    learner = ridge(domain)
    learner.find_prior(data.known)
    assert not learner.uses_body
    assert learner.prior_factor.any(1).sum() <= 16


def test_a_spring_pendulum_in_polar_coordinates_needs_no_centre(tmp_path):
    """Its momenta tell that the mass matrix has r², so that the energy of the rotation is a feature."""
    record(SpringPendulum(spread=0.0), 6, tmp_path, Instrument(duration=12.0, noise=0.005))
    for path in tmp_path.glob("member-*.csv"):
        table = np.loadtxt(path, delimiter=",", skiprows=1)
        table[:, 1] += 1  # of a stretched spring, whose rest length is 1
        header = "t,r (m),phi (rad),p_r,p_phi"
        np.savetxt(path, table, delimiter=",", header=header, comments="", fmt="%.10g")
    data = data_of(tmp_path)
    kinetic = data.recordings.domain.kinetic
    assert kinetic is not None
    assert Entry(1, 1, Factor((2, 0), (0, 0))) in kinetic.entries
    assert find_centre(ridge, data) is None
    learner = ridge(data.recordings.domain)
    learner.find_prior(data.known)
    assert not learner.uses_body
    assert learner.prior_factor.any(1).sum() <= 16


@pytest.mark.parametrize("system", [HenonHeiles(), Pendulum()])
def test_no_centre_is_found_where_there_is_none(system, tmp_path):
    record(system, 6, tmp_path, Instrument(noise=0.01))
    assert find_centre(ridge, data_of(tmp_path)) is None
