"""Families whose momenta were not observed and depend on the positions, from files to forecasts."""

import dataclasses

import numpy as np
import pytest
import torch
from mechanisms import double_pendulum, recorded, unequal_springs

from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.episodes.recordings import load_recordings
from meta_hamiltonian.evaluation.halves import cut, error_of
from meta_hamiltonian.inference import fit
from meta_hamiltonian.inference.symbolic import read_symbolically
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.observations import ObservationError
from meta_hamiltonian.reports.prediction import predict, write_prediction
from meta_hamiltonian.systems import Recorded
from meta_hamiltonian.training.surroundings import find_separation

T = np.linspace(0, 5, 201)


def trained(folder, make, header, members=9, momenta=False):
    """A learner from files of positions and velocities or momenta, its family, and one new member."""
    random = np.random.default_rng(2)
    for k in range(members):
        seen = recorded(make(random), T, 0.01, random, momenta)
        table = np.column_stack([seen.t, seen.q, seen.p if momenta else seen.v])
        np.savetxt(folder / f"{k}.csv", table, delimiter=",", header=header, comments="")
    family = load_recordings(str(folder), held_out=0.12)
    data = RecordedDataModule(family, 50, 50, 50, "random", 0, torch.float64)
    torch.manual_seed(0)
    net = NaturalNetwork(family.domain.state_dim, 24, family.domain, degree=Recorded.degree)
    learner = Ridge(net, rank="auto", noise=1e-10, scale="task").double()
    separated = find_separation(learner, data)
    learner.find_prior(data.known)
    return learner, family, separated


def first_half(learner, family, positions_alone=False):
    """The fit of the first half of the new member's recording, and the error of what it predicts for the second."""
    member = family.test[0]
    if positions_alone:
        member = dataclasses.replace(member, observations=[dataclasses.replace(member.observations[0], v=None)])
    halves = cut(member, 0.5, family.inertias)
    found = fit(learner, halves.beginnings, "orbit", friction="none")
    states = found.adapted.orbits(found.start[None], halves.t, 1e-7).states[1:, 0]
    return found, error_of(states, halves)


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    header = "t (s),theta1 (rad),theta2 (rad),omega1 (rad/s),omega2 (rad/s)"
    return trained(tmp_path_factory.mktemp("arms"), double_pendulum, header, 14)


def test_double_pendulums_are_predicted_from_angles_and_velocities(arms, tmp_path):
    """With p = dq/dt, which no Hamiltonian of theirs has, the error is about 1."""
    learner, family, separated = arms
    assert separated
    assert not learner.uses_body
    assert "M(q) dq/dt" in " ".join(family.notes)
    assert [one.unit for one in family.domain.coordinates] == ["rad", "rad", "", ""]  # motions tell no unit of energy
    found, error = first_half(learner, family)
    assert error < 0.1
    assert found.inertia is not None
    assert "M12 = " in " ".join(found.notes)
    reading = read_symbolically(found.adapted, found.samples, found.x, found.inertia)
    terms = dict(zip(reading.terms, reading.coefficients, strict=True))
    assert terms.keys() == {"p·M(q)⁻¹p/2", "cos q1", "cos q2"}
    assert terms["p·M(q)⁻¹p/2"] == pytest.approx(1, abs=0.02)
    # Velocities are what was measured, and are predicted too.
    predicted = predict(found, 1.0)
    assert predicted.v is not None
    np.testing.assert_allclose(predicted.v, np.gradient(predicted.x[:, :2], predicted.t, axis=0), atol=0.05)
    write_prediction(tmp_path / "prediction.csv", predicted)
    names = (tmp_path / "prediction.csv").read_text().splitlines()[0]
    assert names == "t,q1,q2,p1,p2,energy,dissipated,v1,v2"


def test_what_is_seen_later_has_the_momenta_that_the_beginning_tells(arms):
    _, family, _ = arms
    member = family.test[0]
    halves = cut(member, 0.5, family.inertias)
    last = member.observations[0]
    later = [torch.from_numpy(one[-len(halves.rest) :].copy()) for one in (last.q, last.v)]
    p = family.inertias.of(halves.beginnings).momenta(*later)
    torch.testing.assert_close(halves.rest[:, 2:], p)


def test_double_pendulums_are_predicted_from_angles_and_momenta(tmp_path):
    """Without kinetic energies among the features, the error is ten times as large."""
    learner, family, separated = trained(tmp_path, double_pendulum, "t,theta1,theta2,p1,p2", 12, momenta=True)
    assert separated
    assert not learner.uses_body
    assert "p is M(q) dq/dt" in " ".join(family.notes)
    found, error = first_half(learner, family)
    assert error < 0.1
    assert found.inertia is not None
    reading = read_symbolically(found.adapted, found.samples, found.x, found.inertia)
    assert set(reading.terms) == {"p·M(q)⁻¹p/2", "cos q1", "cos q2"}
    member = family.test[0].observations[0]
    with pytest.raises(ObservationError, match="no member of this family has dq/dt = p / inertia"):
        fit(learner, [dataclasses.replace(member, p=None)])


def test_unequal_masses_need_no_velocities(tmp_path):
    learner, family, separated = trained(tmp_path, unequal_springs, "t,x1,x2,v1,v2")
    assert separated
    assert family.inertias.of(family.train[0].observations).constant
    _, error = first_half(learner, family, positions_alone=True)
    assert error < 0.1
