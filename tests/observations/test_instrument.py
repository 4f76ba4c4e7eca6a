"""Recordings of simulated members."""

import csv

import numpy as np
import pytest
import torch

from meta_hamiltonian.observations import ObservationError, read
from meta_hamiltonian.observations.instrument import KNOWN, Instrument, record
from meta_hamiltonian.systems import Damped, Pendulum, Spring


def table(path):
    return np.genfromtxt(path, delimiter=",", skip_header=1)


def test_a_recording_without_noise_is_an_orbit_of_its_member(tmp_path):
    system = Pendulum()
    files = record(system, 2, tmp_path, Instrument(duration=2.0, rate=10.0, noise=0.0), seed=3)
    assert [file.name for file in files] == ["member-1.csv", "member-2.csv"]
    known = list(csv.DictReader((tmp_path / KNOWN).open()))
    assert [row["member"] for row in known] == ["member-1", "member-2"]
    parameters = torch.tensor([[float(row[name]) for name in system.parameter_names] for row in known]).double()
    (seen,) = read([files[1]], system.domain).observations
    x = torch.from_numpy(np.hstack([seen.q, seen.p]))
    energy = system.hamiltonian(x, parameters[1:])
    assert np.allclose(seen.t, np.arange(21) / 10)
    assert torch.allclose(energy, energy[:1], rtol=1e-6)
    assert x.std(0).min() > 1e-3


def test_member_and_noise_are_functions_of_the_seed_and_of_their_number(tmp_path):
    folders = [tmp_path / name for name in ("few", "many", "other")]
    for folder, members, seed in zip(folders, (1, 3, 1), (0, 0, 1), strict=True):
        folder.mkdir()
        record(Spring(), members, folder, Instrument(rate=5.0, duration=2.0, noise=0.1), seed)
    few, many, other = ((folder / "member-1.csv").read_text() for folder in folders)
    assert few == many
    assert few != other


def test_noise_is_relative_to_each_column_and_cells_are_missing(tmp_path):
    system = Spring()
    columns = {}
    for name, noise, missing in (("exact", 0.0, 0.0), ("noisy", 0.1, 0.2)):
        (tmp_path / name).mkdir()
        instrument = Instrument(duration=10.0, rate=50.0, noise=noise, missing=missing)
        columns[name] = table(record(system, 1, tmp_path / name, instrument)[0])
    assert np.isfinite(columns["noisy"][:, 0]).all()
    gaps = np.isnan(columns["noisy"][:, 1:])
    assert 0.1 < gaps.mean() < 0.3
    error = (columns["noisy"] - columns["exact"])[:, 1:] / columns["exact"][:, 1:].std(0)
    assert 0.08 < np.nanstd(error) < 0.12


@pytest.mark.parametrize(("observed", "header"), [("q", "t,q (rad)"), ("q,v", "t,q (rad),v"), ("q,p", "t,q (rad),p")])
def test_it_writes_what_was_asked_for_and_friction_takes_energy(tmp_path, observed, header):
    system = Damped(Pendulum(), "viscous", 0.2, 0.3)
    (file,) = record(system, 1, tmp_path, Instrument(observed=observed, noise=0.0, duration=4.0, rate=10.0))
    assert file.read_text().splitlines()[0] == header
    if observed == "q,p":
        own = torch.tensor([[float(v) for v in (tmp_path / KNOWN).read_text().splitlines()[1].split(",")[1:]]])
        energy = system.hamiltonian(torch.from_numpy(table(file)[:, 1:]), own.double())
        assert energy[-1] < 0.999 * energy[0]


def test_jittered_times_increase(tmp_path):
    (file,) = record(Spring(), 1, tmp_path, Instrument(duration=5.0, rate=10.0, jitter=0.2))
    steps = np.diff(table(file)[:, 0])
    assert steps.min() > 0
    assert steps.std() > 0.01 * steps.mean()


@pytest.mark.parametrize(
    "wrong", [{"observed": "v"}, {"noise": -1.0}, {"missing": 1.0}, {"duration": 0.0}, {"jitter": 0.5}]
)
def test_an_instrument_that_cannot_be_is_refused(wrong):
    with pytest.raises(ObservationError):
        Instrument(**wrong)
