"""A family without a formula from end to end: simulated, trained on, tested without truth, adapted and identified."""

import contextlib
import csv
import json
import re
from unittest import mock

import numpy as np
import pytest
import torch
from command import results, rows, train_here
from driven import driven_springs
from typer.testing import CliRunner

from meta_hamiltonian import load
from meta_hamiltonian.__main__ import app
from meta_hamiltonian.evaluation import baselines, calibration
from meta_hamiltonian.inference.widened import MOST
from meta_hamiltonian.jobs import train as run_of_training
from meta_hamiltonian.learners import low_rank
from meta_hamiltonian.learners.checkpoint import load_trained
from meta_hamiltonian.reports import system
from meta_hamiltonian.systems import Recorded
from meta_hamiltonian.training import modules, orbits

TINY = (
    "system=recorded",
    "algo=ridge",
    "logger=none",
    "model.width=8",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.enable_progress_bar=false",
    "data.train_shots=10",
    "data.train_queries=10",
)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module", autouse=True)
def _hasty():
    """How good baselines, bands and heads are is not asked: networks are fitted in far fewer steps than in earnest,
    half of one recording calibrates the bands, and the distribution of heads takes few rounds."""
    few = ((baselines, "_ITERATIONS", 20), (calibration, "_MEMBERS", 1), (low_rank, "_MANY_ROUNDS", 20))
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(calibration, "_OBSERVED", (0.5,)))
        for place, name, number in few:
            stack.enter_context(mock.patch.object(place, name, number))
        yield


@pytest.fixture
def without_baselines(monkeypatch):
    monkeypatch.setattr(baselines.Baselines, "forecasts", lambda *_: [])


@pytest.fixture
def without_calibration(monkeypatch):
    """Bands are as wide as the fit says."""
    monkeypatch.setattr(run_of_training, "band_factor", lambda *_: 1.0)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of recorded springs with friction, another one, and a learner that was trained on the first."""
    folder = tmp_path_factory.mktemp("recorded")
    for name, members, seed in (("springs", 8, 0), ("few", 3, 2), ("new", 1, 1)):
        done = invoke(
            "simulate", "system=spring", "+friction=viscous", "friction.low=0.1", "--members", members, "--seed", seed,
            "--duration", 8, "--rate", 8, "--noise", 0.002, "--out", folder / name,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    done = train_here(folder / "home", *TINY, f"data.path={folder / 'springs'}", f"hydra.run.dir={folder / 'run'}")
    assert done.code == 0, done.stderr
    return folder


def test_held_out_recordings_are_predicted_without_truth(home):
    rows = results(home / "run")
    assert [row["algo"] for row in rows] == ["ridge", "scratch", "scratch_mlp", "pooled", "spline"]
    assert [row["model"] for row in rows] == ["hnn", "hnn", "mlp", "hnn", ""]
    assert {row["system"] for row in rows} == {"recorded"}
    assert all(row["field_mse_mean"] == row["energy_mse_median"] == row["shots"] == "" for row in rows)
    assert all(np.isfinite(float(row["orbit_rel_median"])) for row in rows)
    assert 0 <= float(rows[0]["coverage_95"]) <= 1
    assert rows[1]["coverage_95"] == ""
    members = list(csv.DictReader((home / "run" / "forecasts.csv").open()))
    assert len(members) == 5 * int(rows[0]["n_systems"])
    known = {row["member"]: row for row in csv.DictReader((home / "springs" / "members.csv").open())}
    for row in members:
        assert row["known_k"] == known[row["member"]]["k"], "what members.csv says of it"
    assert {"training.png", "forecasts.png"} <= {file.name for file in (home / "run" / "figures").iterdir()}


def test_the_checkpoint_keeps_the_domain_and_what_was_found(home):
    trained = load_trained(home / "run")
    assert isinstance(trained.system, Recorded)
    assert trained.system.domain == trained.learner.net.domain == load(home / "run").net.domain
    assert trained.system.domain.half_widths != (1.0, 1.0)
    assert trained.settings["recordings"]["friction"] == ["viscous"]
    true = [float(row["d"]) for row in csv.DictReader((home / "springs" / "members.csv").open())]
    mean, deviation = trained.learner.friction.known["viscous"]
    assert mean == pytest.approx(np.mean(true), rel=0.3)
    assert 0.02 < deviation < 0.3


def test_a_new_recording_is_adapted_to(home, monkeypatch):
    monkeypatch.chdir(home)
    done = invoke("adapt", "run", "new/member-1.csv", "--horizon", 2, "--fit", "derivatives")
    assert done.exit_code == 0, done.output
    (known,) = csv.DictReader((home / "new" / "members.csv").open())
    assert f"new/member-1.csv (m = {float(known['m']):.3g}, k = {float(known['k']):.3g}" in done.output
    assert (home / "member-1-adapted" / "report.html").exists()


def test_states_outside_the_domain_of_the_recordings_are_said(home, monkeypatch):
    monkeypatch.chdir(home)
    lines = (home / "new" / "member-1.csv").read_text().splitlines()
    far = [
        lines[0],
        *(
            ",".join(f"{20 * float(v) if i else float(v):.6g}" for i, v in enumerate(line.split(",")))
            for line in lines[1:]
        ),
    ]
    (home / "far.csv").write_text("\n".join(far))
    with mock.patch.object(system, "_figures", return_value={}):
        done = invoke("adapt", "run", "far.csv", "--horizon", 1, "--fit", "derivatives", "--friction", "none")
    assert "outside the domain that the learner was trained in" in done.output


def test_identify_and_bands_need_no_formula(home, monkeypatch):
    monkeypatch.chdir(home)
    done = invoke("identify", "run")
    assert done.exit_code == 0, done.output
    assert re.search(r"Independent terms of the family: \d", done.stdout)
    assert "m as a linear function of the head" in done.stdout
    done = invoke("bands", "run")
    assert done.exit_code == 0, done.output
    assert "recordings, what came later,  95%" in done.stdout


def test_it_is_tested_again_from_its_checkpoint(home):
    done = train_here(home / "home", f"ckpt_path={home / 'run'}", "logger=none", f"hydra.run.dir={home / 'again'}")
    assert done.code == 0, done.stderr
    assert results(home / "again")[0]["orbit_rel_median"] == results(home / "run")[0]["orbit_rel_median"]


@pytest.mark.usefixtures("without_baselines", "without_calibration")
@pytest.mark.parametrize("loss", ["derivatives", "orbits"])
def test_a_training_that_crashed_goes_on_to_the_same_weights(loss, home, tmp_path):
    loop = {"derivatives": modules.GaussNewtonLoop, "orbits": orbits.OrbitLoop}[loss]
    arguments = (*TINY, f"data.path={home / 'few'}", f"data.loss={loss}", "data.held_out=0")
    assert train_here(home / "home", *arguments, f"hydra.run.dir={tmp_path / 'whole'}").code == 0
    step = loop.training_step

    def crash(self, batch, batch_idx):
        if self.trainer.global_step == 3:
            raise MemoryError
        return step(self, batch, batch_idx)

    crashed = (*arguments, f"hydra.run.dir={tmp_path / 'crashed'}")
    with mock.patch.object(loop, "training_step", crash):
        assert train_here(home / "home", *crashed).code == 1
    done = train_here(home / "home", *crashed, "resume=true")
    assert done.code == 0, done.stderr
    assert "Going on from step 2 of" in done.stdout
    one, other = (load(tmp_path / name).state_dict() for name in ("whole", "crashed"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_network_without_an_energy_learns_from_recordings_too(home, tmp_path):
    arguments = (f"data.path={home / 'few'}", "data.held_out=0", f"hydra.run.dir={tmp_path / 'run'}")
    done = train_here(home / "home", *TINY, *arguments, "model=mlp", "model.depth=1")
    assert done.code == 0, done.stderr
    assert 1 <= load(tmp_path / "run").band_factor <= MOST


@pytest.mark.usefixtures("without_baselines", "without_calibration")
def test_recorded_families_are_swept(home, tmp_path):
    arguments = (f"data.path={home / 'few'}", "data.loss=derivatives,orbits", f"hydra.sweep.dir={tmp_path}")
    done = train_here(home / "home", "-m", *TINY, *arguments)
    assert done.code == 0, done.stderr
    table = rows(tmp_path / "summary.csv")
    assert [(row["job"], row["status"]) for row in table] == [("0", "finished"), ("1", "finished")]
    assert len({row["orbit_rel_median"] for row in table}) == 2, "of two losses"
    assert all(np.isfinite(float(row["orbit_rel_median"])) for row in table)
    assert "orbit_rel_median" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("loss", ["derivatives", "orbits"])
def test_a_driven_family_is_learned_and_its_forecast_goes_on_with_the_input(loss, tmp_path, monkeypatch):
    (tmp_path / "springs").mkdir()
    truth = driven_springs(tmp_path / "springs", 4, np.arange(97) / 6, noise=2e-3)
    arguments = (f"data.path={tmp_path / 'springs'}", f"data.loss={loss}", f"hydra.run.dir={tmp_path / 'run'}")
    done = train_here(tmp_path / "home", *TINY, *arguments)
    assert done.code == 0, done.stderr
    assert float(results(tmp_path / "run")[0]["orbit_rel_median"]) < 0.1, "what the input does is most of the motion"
    monkeypatch.chdir(tmp_path)
    with mock.patch.object(system, "_figures", return_value={}):
        done = invoke("adapt", "run", "springs/0.csv", "--horizon", 2, "--fit", "derivatives", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["gains"][0]["value"] == pytest.approx(truth[0, 1], rel=0.04)
    other = ("algo=anil", f"hydra.run.dir={tmp_path / 'other'}")
    done = train_here(tmp_path / "home", *TINY[:1], *TINY[2:], *arguments, *other)
    assert done.code == 1
    assert "measured inputs act on the members" in done.stderr


def test_orbits_that_run_away_between_two_instants_are_refused(home, tmp_path, monkeypatch):
    solved = orbits.least_squares
    monkeypatch.setattr(orbits, "least_squares", lambda a, y: 1e4 * solved(a, y))  # as heads of useless rates may be
    arguments = (*TINY, f"data.path={home / 'springs'}", "data.loss=orbits", f"hydra.run.dir={tmp_path / 'run'}")
    done = train_here(home / "home", *arguments)
    assert done.code == 1
    assert "the orbits run away" in done.stderr
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["system=recorded", "algo=ridge"], "data.path is missing"),
        (["system=recorded", "data.path=nowhere"], "there is no such folder"),
        (["system=recorded", "data.path=nowhere", "+friction=viscous"], "what acts on their members is found"),
        (["system=recorded", "data.path=nowhere", "algo=oracle", "model=parametric"], "they have none"),
        (["data=recorded", "data.path={springs}"], "go together"),
    ],
)
def test_what_does_not_go_with_recordings_is_one_line(home, tmp_path, arguments, message):
    given = [one.format(springs=home / "springs") for one in arguments]
    done = train_here(tmp_path, *given, "logger=none", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.code == 1
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0
