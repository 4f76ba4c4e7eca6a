"""Recordings in other units tell the same law: metres and kilogrammes of a molecule, or millimetres."""

import numpy as np
import pytest
import torch

from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.episodes.recordings import load_recordings
from meta_hamiltonian.evaluation.forecasts import forecast
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.observations.instrument import Instrument, record
from meta_hamiltonian.systems import Duffing, Recorded
from meta_hamiltonian.training.surroundings import (
    Friction,
    find_friction,
    find_lawless,
    find_logarithms,
    find_separation,
)

# The sizes of the units of time, of length and of momentum.
UNITS = {"millimetres": (1.0, 1e3, 1.0), "of a molecule": (1e-12, 1e-10, 1e-24)}


def ridge(domain):
    torch.manual_seed(0)
    net = NaturalNetwork(domain.state_dim, width=24, domain=domain, degree=Recorded.degree)
    return Ridge(net, rank="auto", noise=1e-10, scale="task")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    record(Duffing(), 8, folder, Instrument(noise=0.01))
    return {path.name: np.loadtxt(path, delimiter=",", skiprows=1) for path in sorted(folder.glob("member-*.csv"))}


@pytest.fixture(params=UNITS)
def data(request, recordings, tmp_path):
    t, q, p = UNITS[request.param]
    for name, table in recordings.items():
        table = table * [t, q, p]
        np.savetxt(tmp_path / name, table, delimiter=",", header="t,q,p", comments="", fmt="%.12g")
    return RecordedDataModule(load_recordings(str(tmp_path), held_out=0.0), 50, 50, 50, "random", 0, torch.float32)


def test_the_law_and_its_forecasts_are_the_same_in_any_unit(data):
    domain, x = data.recordings.domain, torch.cat([one.points.x for one in data.recordings.train])
    assert (x.abs().amax(0) > 0.5 * torch.tensor(domain.half_widths)).all()
    learner = ridge(domain)
    assert find_logarithms(ridge, data) is None
    assert find_lawless(learner, data) == {}
    assert find_separation(learner, data)
    assert find_friction(learner, data) == Friction(())
    learner.find_prior(data.known)
    assert not learner.uses_body
    learner.calibrate(data.known)
    *_, member = data.recordings.train
    found = forecast(learner, member, 0.5, data.recordings.inertias, None)
    assert found.error < 0.03
    assert found.covered[-1] > 0.8
