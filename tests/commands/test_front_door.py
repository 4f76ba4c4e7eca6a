"""What the command line says to people and to machines, and what it refuses without waiting for PyTorch."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import pytest
import torch
from typer.testing import CliRunner

from meta_hamiltonian.__main__ import app
from meta_hamiltonian.basics.plain_values import plain_value
from meta_hamiltonian.config import ConfigError
from meta_hamiltonian.jobs.simulate import chosen_family
from meta_hamiltonian.reports import system
from meta_hamiltonian.systems import Pendulum

DATA = Path(__file__).parents[1] / "data"
GOOD = "q,p,dq,dp\n1,2,3,4\n0,1,1,0\n2,-1,0.5,1\n"
# Runs each command of a list, and says how it ended and what has been imported by then that takes long.
WATCHED = """import contextlib, io, json, sys
slow = {"torch", "pandas", "scipy", "matplotlib", "hydra"}
from meta_hamiltonian.__main__ import app
for arguments in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app(arguments)
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue(), sorted(slow & set(sys.modules))]))
"""
COMPLETED = """import sys
sys.argv[0] = "meta-hamiltonian"
from meta_hamiltonian.__main__ import app
app()"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a run, whose checkpoint says its domain as those of today do, and with good observations."""
    monkeypatch.chdir(tmp_path)
    checkpoint = torch.load(DATA / "ridge.ckpt", weights_only=True)
    checkpoint["meta_hamiltonian"]["domain"] = Pendulum().domain.settings()
    (tmp_path / "outputs" / "mine" / "checkpoints").mkdir(parents=True)
    torch.save(checkpoint, tmp_path / "outputs" / "mine" / "checkpoints" / "best.ckpt")
    (tmp_path / "good.csv").write_text(GOOD)
    return tmp_path


QUICK = [
    (["--help"], 0, "Commands"),
    (["--version"], 0, "."),
    (["adapt", "--help"], 0, "--json"),
    (["adapt"], 2, "type: meta-hamiltonian adapt outputs/mine bad.csv"),
    (["adapt", "nowhere", "good.csv"], 2, "nowhere does not exist"),
    (["adapt", "outputs", "good.csv"], 2, "outputs/checkpoints/best.ckpt does not exist"),
    (["adapt", "good.csv", "good.csv"], 2, "good.csv is not a readable checkpoint"),
    (["adapt", "outputs/mine", "nowhere.csv"], 2, "nowhere.csv: there is no such file"),
    (["adapt", "outputs/mine", "bad.csv"], 2, "bad.csv: line 2: column p: 'x' is not a number"),
    (["adapt", "outputs/mine", "other.csv"], 2, "unknown columns 'a', 'b'"),
    (["adapt", "outputs/mine", "good.csv", "--from", "1"], 2, "--from must be 2 finite numbers"),
    (["identify", "nowhere"], 2, "nowhere does not exist"),
    (["bands", "good.csv"], 2, "good.csv is not a readable checkpoint"),
    (["export", "nowhere.pt", "x.pt2"], 2, "nowhere.pt does not exist"),
]


def test_help_and_refusals_import_nothing_that_takes_long(here):
    """All of them in one process, which has imported none of it in the end."""
    (here / "bad.csv").write_text("q,p,dq,dp\n1,x,3,4\n")
    (here / "other.csv").write_text("a,b\n1,2\n")
    asked = json.dumps([arguments for arguments, *_ in QUICK])
    done = subprocess.run([sys.executable, "-c", WATCHED, asked], capture_output=True, text=True, check=True)
    for (arguments, code, said), line in zip(QUICK, done.stdout.splitlines(), strict=True):
        ended, out, err, imported = json.loads(line)
        assert ended == code, (arguments, err)
        assert said in (err if code else out), arguments
        assert imported == [], arguments
        if code:
            assert err.startswith("Error: "), arguments
            assert err.count("\n") == 1, arguments


def test_where_no_run_is_one_is_to_be_trained(here):
    shutil.rmtree(here / "outputs")
    done = CliRunner().invoke(app, ["identify"])
    assert done.exit_code == 2
    assert "type: meta-hamiltonian train algo=ridge" in done.stderr


def one_object(*arguments):
    """The only thing on stdout."""
    with mock.patch.object(system, "_figures", return_value={}):
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output + str(done.exception)
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout), done.stderr


def test_adapt_tells_machines_what_it_tells_people(here):
    found, words = one_object("adapt", "outputs/mine", "good.csv", "--horizon", 2, "--from", "1,0.5", "--device", "cpu")
    assert found["start"] == [1.0, 0.5]
    assert found["points"] == 3
    assert found["coordinates"] == ["q", "p"]
    assert (here / found["report"]).is_file()
    assert (here / found["prediction"]).is_file()
    assert 0 < found["residual"] < found["residual_before"]
    assert found["table"]["fit"] == found["fit"] == "derivatives"
    assert re.search(rf"^error of dx/dt after: +{found['residual']:.3g} of its RMS$", words, re.MULTILINE)
    assert all(f"Note: {note}" in words for note in found["notes"])


def test_identify_bands_and_export_do_so_too(here):
    found, words = one_object("identify", "outputs/mine", "--n-systems", 30)
    assert f"Independent terms of the family: {found['terms']} " in words
    assert found["singular_values"] == sorted(found["singular_values"], reverse=True)
    assert set(found["r2"]) == set(re.findall(r"(\S.*) as a linear function of the head", words))
    found, words = one_object(
        "bands", "outputs/mine", "--device", "auto", "--n-systems", 10, "--shots", "10", "--noise", "0.05"
    )
    assert {row["quantity"] for row in found["coverage"]} == {"field", "energy", "orbit"}
    assert all(0 <= row["observed"] <= 1 for row in found["coverage"])
    assert words.count("K=10 ") == len(found["coverage"])
    with mock.patch("meta_hamiltonian.inference.export.export"):  # it takes long, and is tested elsewhere
        found, words = one_object("export", DATA / "adapted.pt", "system.pt2")
    assert found == {"file": "system.pt2", "outputs": ["H", "dxdt"], "warnings": []}
    assert "system.pt2: states x" in words


def test_a_refusal_leaves_stdout_empty(here):
    done = CliRunner().invoke(app, ["adapt", "outputs/mine", "nowhere.csv", "--json"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize("command", [["adapt", "outputs/mine", "good.csv"], ["bands", "outputs/mine"]])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(here, command):
    refused = CliRunner().invoke(app, [*command, "--device", "cuda:99"])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--device cuda:99 is not allowed: this machine has cpu" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert {path.name for path in here.iterdir()} == {"outputs", "good.csv"}


@pytest.mark.cuda
def test_files_of_a_gpu_are_for_any_machine(here):
    found, _ = one_object("adapt", "outputs/mine", "good.csv", "--friction", "none", "--horizon", 1, "--device", "cuda")
    kept = torch.load(found["adapted"], weights_only=True)  # with no device to be sent to
    assert {value.device.type for value in (*kept["network"].values(), *kept["parameters"].values())} == {"cpu"}


def test_colours_are_for_terminals_alone(here):
    """CliRunner is a pipe, unless it is told to keep colours, as for a terminal."""
    arguments = ["adapt", "outputs/mine", "nowhere.csv"]
    assert "\x1b" not in CliRunner().invoke(app, arguments).stderr
    assert "\x1b[31mError:" in CliRunner().invoke(app, arguments, color=True).stderr
    with mock.patch.dict(os.environ, {"NO_COLOR": "1"}):
        assert "\x1b" not in CliRunner().invoke(app, arguments, color=True).stderr


def test_completion_knows_commands_and_runs(here):
    def completed(text, word):
        environment = {"_META_HAMILTONIAN_COMPLETE": "complete_bash", "COMP_WORDS": text, "COMP_CWORD": str(word)}
        done = subprocess.run(
            [sys.executable, "-c", COMPLETED],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )
        return done.stdout.splitlines()

    assert "identify" in completed("meta-hamiltonian i", 1)
    assert "outputs/mine" in completed("meta-hamiltonian identify o", 2)


def test_train_forwards_to_the_job_and_a_refusal_is_one_line(here):
    done = subprocess.run(
        [sys.executable, "-m", "meta_hamiltonian", "train", "-m", "algo=maml,anll"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("Error: algo=anll is not allowed: did you mean anil? choose from anil, camel,")
    assert done.stderr.count("\n") == 1
    assert "schema" not in done.stderr
    assert not list(here.glob("outputs/multirun/*/*/summary.md")), "of a sweep that has not begun"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["algo=ridge", "algo.rnak=3"],
            "there is no key algo.rnak: did you mean algo.rank? python train.py algo=ridge",
        ),
        (["sed=3"], "there is no key sed: did you mean seed?"),
        (["alg=ridge"], "there is no key alg: did you mean algo?"),
        (["system=pendulm"], "system=pendulm is not allowed: did you mean pendulum? choose from chain,"),
        (["data.meta_batch=abc"], "data.meta_batch=abc is not allowed: give an integer of at least 1"),
        (["data.path=pendulums"], "there is no key data.path here: give system=recorded as well"),
        (["shots=25,"], "shots=25, is not allowed: give key=value, and lists without blanks as in shots=25,50"),
    ],
)
def test_what_hydra_refuses_names_the_nearest_that_there_is(overrides, said):
    with pytest.raises(ConfigError) as refused:
        chosen_family(overrides)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_plain_values_are_read_without_running_anything(here):
    """What is no plain value makes nothing be read; PyTorch then says what is wrong."""
    settings = plain_value(Path("outputs/mine/checkpoints/best.ckpt"), "meta_hamiltonian")
    plain = json.loads(json.dumps(settings["domain"]))  # tuples are lists there
    assert plain == json.loads(json.dumps(Pendulum().domain.settings()))

    class Bomb:
        def __reduce__(self):
            return (open, (str(here / "exploded"), "w"))

    torch.save({"meta_hamiltonian": Bomb()}, here / "bomb.ckpt")
    assert plain_value(here / "bomb.ckpt", "meta_hamiltonian") is None
    assert not (here / "exploded").exists()
    with zipfile.ZipFile(here / "empty.ckpt", "w") as archive:
        archive.writestr("a/b", "c")
    assert plain_value(here / "empty.ckpt", "meta_hamiltonian") is None
