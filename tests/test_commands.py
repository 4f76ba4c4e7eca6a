"""`python -m meta_hamiltonian adapt`: from a file of observations to the dynamics."""

import base64
import csv
import re
import shutil
import subprocess

import numpy as np
import onnxruntime
import pytest
import torch
from command import train_here
from typer.testing import CliRunner

from meta_hamiltonian import load, load_adapted
from meta_hamiltonian.__main__ import app
from meta_hamiltonian.systems import Pendulum, integrate

PARAMETERS = torch.tensor([0.8, 1.1, 0.3], dtype=torch.float64)  # m, l, q0
SYSTEM = Pendulum()
BOX = torch.tensor(SYSTEM.state_box, dtype=torch.float64)
OBSERVED, AHEAD = 10.0, 5.0


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A closed-form learner, trained for seconds: errors of some percent."""
    folder = tmp_path_factory.mktemp("adapt")
    arguments = ("algo=ridge", "logger=none", "model.width=24", "data.meta_batch=30", "trainer.max_steps=80")
    quick = ("trainer.enable_progress_bar=false", "test.n_systems=2", "data.val_tasks=50", "data.tasks=500")
    done = train_here(folder / "home", *arguments, *quick, f"hydra.run.dir={folder / 'run'}")
    assert done.code == 0, done.stderr
    return folder / "run"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def orbit(x0, t):
    """The true orbit."""
    x0 = torch.tensor([x0], dtype=torch.float64)
    return integrate(lambda x: SYSTEM.field(x, PARAMETERS), x0, t, 10 * BOX, 1e-11).states[:, 0]


def write(path, names, *columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(np.column_stack([np.asarray(column) for column in columns]).tolist())
    return path


def points(path, count=25):
    x = BOX * (2 * torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1)
    dxdt = SYSTEM.field(x, PARAMETERS)
    write(path, ["q", "p", "dq", "dp"], *x.T, *dxdt.T)
    return x, dxdt


def swing(instants=80):
    t = torch.linspace(0, OBSERVED, instants, dtype=torch.float64)
    return t, orbit((1.5, 0.0), t)


def adapt(*arguments, code=0):
    done = CliRunner().invoke(app, ["adapt", *map(str, arguments)])
    assert done.exit_code == code, done.output + str(done.exception)
    return done


def read(path):
    return np.genfromtxt(path, delimiter=",", names=True)


def test_states_and_derivatives_are_what_python_adapts_to(run_folder, here):
    x, dxdt = points(here / "seen.csv")
    said = adapt(run_folder, "seen.csv", "--from", "1,0.5", "--horizon", 5).stdout
    assert "seen-adapted" in said
    prediction = read(here / "seen-adapted" / "prediction.csv")
    assert prediction.dtype.names == ("t", "q", "p", "energy")
    adapted = load(run_folder).adapt(x, dxdt)
    t = torch.linspace(0, 5, 201, dtype=torch.float64)
    expected = adapted.rollout(torch.tensor([1.0, 0.5], dtype=torch.float64), t)
    np.testing.assert_allclose(np.stack([prediction["q"], prediction["p"]], -1), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(prediction["energy"], adapted.energy(expected), rtol=1e-8)
    np.testing.assert_allclose(prediction["t"], t, atol=1e-12)
    np.testing.assert_allclose(expected, orbit((1.0, 0.5), t), atol=0.3)
    saved = load_adapted(here / "seen-adapted" / "adapted.pt")
    torch.testing.assert_close(saved.field(x), adapted.field(x), rtol=0, atol=0)


@pytest.mark.parametrize("how", ["auto", "derivatives", "orbit"])
@pytest.mark.parametrize("columns", ["t,q,p", "t,q,v", "t,q"])
def test_a_trajectory_predicts_how_it_goes_on(run_folder, here, columns, how):
    inertia = (PARAMETERS[0] * PARAMETERS[1] ** 2).item()  # so that p is the true one
    t, x = swing()
    seen = {"t": t, "q": x[:, 0], "p": x[:, 1], "v": x[:, 1] / inertia}
    names = columns.split(",")
    write(here / "swing.csv", names, *(seen[name] for name in names))
    said = adapt(run_folder, "swing.csv", "--horizon", AHEAD, "--fit", how, "--inertia", inertia).stdout
    prediction = read(here / "swing-adapted" / "prediction.csv")
    assert prediction["t"][0] == pytest.approx(OBSERVED)
    later = torch.from_numpy(prediction["t"])
    true = orbit((1.5, 0.0), torch.cat([torch.zeros(1, dtype=torch.float64), later]))[1:]
    error = np.abs(np.stack([prediction["q"], prediction["p"]], -1) - true.numpy()).max(0)
    assert (error < 0.1 * true.abs().amax(0).numpy()).all(), (error, said)
    assert ("p was not observed" in said) == ("p" not in names)
    assert np.ptp(prediction["energy"]) < 1e-6 * np.abs(prediction["energy"]).max()
    if how == "auto":
        assert re.search(r"fit=(derivatives|orbit) predicts the end of the trajectories better", said)


def test_several_trajectories_are_fitted_together(run_folder, here):
    t = torch.linspace(0, 4, 50, dtype=torch.float64)
    both = torch.cat([orbit((1.0, 0.0), t), orbit((-2.0, 1.0), t)])
    label = ["a"] * 50 + ["b"] * 50
    lines = [f"{name},{a},{q},{p}" for name, a, (q, p) in zip(label, t.repeat(2).tolist(), both.tolist(), strict=True)]
    (here / "two.csv").write_text("trajectory,t,q,p\n" + "\n".join(lines) + "\n")
    adapt(run_folder, "two.csv", "--fit", "derivatives")
    field = load_adapted(here / "two-adapted" / "adapted.pt").field(both)
    true = SYSTEM.field(both, PARAMETERS)
    assert (field - true).square().mean() < 0.01 * true.square().mean()


def test_the_report_is_one_file_with_its_figures(run_folder, here):
    points(here / "seen.csv")
    adapt(run_folder, "seen.csv")
    folder = here / "seen-adapted"
    assert {f.name for f in folder.iterdir()} == {"report.html", "prediction.csv", "bands.csv", "adapted.pt", "figures"}
    assert {f.name for f in (folder / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("orbit", "residuals", "field", "energy", "uncertainty") for kind in ("png", "pdf")
    }
    report = (folder / "report.html").read_text()
    images = re.findall(r'<img alt="\w+" src="data:image/png;base64,([^"]+)"', report)
    assert len(images) == 5
    assert all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)
    assert 'name="viewport"' in report
    assert "http" not in report, "nothing is loaded from elsewhere"


def test_an_existing_folder_is_replaced_only_by_force(run_folder, here):
    points(here / "seen.csv")
    (here / "mine").mkdir()
    (here / "mine" / "precious").write_text("x")
    done = adapt(run_folder, "seen.csv", "--out", "mine", code=2)
    assert "--force" in done.stderr
    assert (here / "mine" / "precious").exists()
    adapt(run_folder, "seen.csv", "--out", "mine", "--force")
    assert not (here / "mine" / "precious").exists()
    assert (here / "mine" / "report.html").exists()
    assert sorted(f.name for f in here.iterdir()) == ["mine", "seen.csv"], "nothing else is left"


def test_what_lies_outside_the_range_is_said(run_folder, here):
    x = torch.tensor([[7.0, 1.0], [1.0, 2.0], [0.0, 25.0]], dtype=torch.float64)
    write(here / "far.csv", ["q", "p", "dq", "dp"], *x.T, *SYSTEM.field(x, PARAMETERS).T)
    assert "2 of 3 observed states lie outside the state box" in adapt(run_folder, "far.csv").stdout
    x = BOX * (2 * torch.rand(40, 2, dtype=torch.float64) - 1)
    write(here / "spring.csv", ["q", "p", "dq", "dp"], x[:, 0], x[:, 1], x[:, 1], 3 * torch.sin(2 * x[:, 0]) + x[:, 0])
    assert "this system is unlike them" in adapt(run_folder, "spring.csv").stdout
    points(here / "good.csv")
    assert "Warning" not in adapt(run_folder, "good.csv").stdout


GOOD = "q,p,dq,dp\n1,2,3,4\n0,1,1,0\n"


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (None, [], "seen.csv"),
        ("", [], "seen.csv"),
        ("q,p,dq,dp\n1,2,x,4\n", [], "line 2.*dq"),
        (GOOD, ["--horizon", "-1"], "--horizon must be a finite number above 0"),
        (GOOD, ["--from", "1"], "--from must be 2 finite numbers"),
        (GOOD, ["--from", "1,nan"], "--from must be 2 finite numbers"),
        (GOOD, ["--fit", "magic"], "fit='magic'.*auto, derivatives, orbit"),
        (GOOD, ["--fit", "orbit"], "needs a trajectory"),
        (GOOD, ["--inertia", "0"], "inertia must be a finite number above 0"),
        (GOOD, ["--steps", "-2"], "steps must be"),
    ],
)
def test_a_bad_call_is_one_line_and_leaves_nothing(run_folder, here, text, arguments, message):
    if text is not None:
        (here / "seen.csv").write_text(text)
    done = adapt(run_folder, "seen.csv", *arguments, code=2)
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert [f.name for f in here.iterdir()] == ([] if text is None else ["seen.csv"])


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_a_folder_without_a_good_checkpoint_is_refused(here, content):
    points(here / "seen.csv")
    if content is not None:
        (here / "run" / "checkpoints").mkdir(parents=True)
        (here / "run" / "checkpoints" / "best.ckpt").write_bytes(content)
    done = adapt("run", "seen.csv", code=2)
    assert "best.ckpt" in done.stderr or "run" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (here / "seen-adapted").exists()


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [400, 1400])
def test_the_report_opens_in_a_browser(run_folder, here, width):
    """No errors on the console, and every image is loaded and inside the window."""
    points(here / "seen.csv")
    adapt(run_folder, "seen.csv")
    page = here / "page.html"
    report = (here / "seen-adapted" / "report.html").read_text()
    page.write_text(
        report
        + """<script>addEventListener("load", () => { const images = [...document.images];
        document.title = [images.length, images.every(i => i.complete && i.naturalWidth > 0),
        Math.max(...images.map(i => i.getBoundingClientRect().right)) <= innerWidth,
        document.documentElement.scrollWidth <= innerWidth, innerWidth].join(" "); });</script>"""
    )
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={here / 'profile'}"]
    # A window of the browser is at least 500 wide; a frame is as wide as it is told.
    (here / "frame.html").write_text(f'<iframe id="f" src="page.html" width="{width}" height="900"></iframe>')
    options = ["--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"]
    script = '<script>onload = () => document.title = document.getElementById("f").contentDocument.title;</script>'
    with (here / "frame.html").open("a") as file:
        file.write(script)
    done = subprocess.run(
        [*command, *options, (here / "frame.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    (title,) = re.findall("<title>(.*)</title>", done.stdout)
    assert title == f"5 true true true {width}"


def test_bands_hold_the_truth_and_say_where_to_measure_next(run_folder, here):
    points(here / "seen.csv", count=6)
    assert "measure next at" in adapt(run_folder, "seen.csv", "--from", "1,0.5", "--horizon", 2).stdout
    bands, prediction = read(here / "seen-adapted" / "bands.csv"), read(here / "seen-adapted" / "prediction.csv")
    for name in ("q", "p"):
        assert (bands[f"{name}_low"] <= bands[f"{name}_high"]).all()
        assert np.mean((bands[f"{name}_low"] <= prediction[name]) & (prediction[name] <= bands[f"{name}_high"])) > 0.9
    assert (bands["energy_change_low"] <= 1e-12).all()


def run_torch_export(file, x):
    return torch.export.load(file).module()(x)


def run_onnx(file, x):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(value) for value in session.run(None, {"x": x.numpy()})]


@pytest.mark.parametrize(("file", "run"), [("system.pt2", run_torch_export), ("system.onnx", run_onnx)])
def test_exported_dynamics_are_those_of_the_adapted_system(run_folder, here, file, run):
    points(here / "seen.csv")
    adapt(run_folder, "seen.csv")
    done = CliRunner().invoke(app, ["export", "seen-adapted/adapted.pt", file])
    assert done.exit_code == 0, done.output
    x = BOX * (2 * torch.rand(5, 2, dtype=torch.float64) - 1)
    energy, field = run(file, x)
    adapted = load_adapted("seen-adapted/adapted.pt")
    torch.testing.assert_close(energy, adapted.energy(x))
    torch.testing.assert_close(field, adapted.field(x))
    again = CliRunner().invoke(app, ["export", "seen-adapted/adapted.pt", file])
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert CliRunner().invoke(app, ["export", "seen-adapted/adapted.pt", "system.txt"]).exit_code == 2


def test_the_family_has_three_terms_and_the_head_knows_its_parameters(run_folder, here):
    done = CliRunner().invoke(app, ["identify", str(run_folder), "--n-systems", "60"])
    assert done.exit_code == 0, done.output
    assert "terms of the family: 3 " in done.stdout
    assert all(float(value) > 0.999 for value in re.findall(r"R² = ([0-9.]+)", done.stdout))
    assert len(re.findall("R² = ", done.stdout)) == 3
    assert (here / "identified" / "terms.png").exists()


def test_coverage_is_measured(run_folder, here):
    done = CliRunner().invoke(app, ["bands", str(run_folder), "--n-systems", "40", "--shots", "10", "--noise", "0.05"])
    assert done.exit_code == 0, done.output
    table = np.genfromtxt("bands/coverage.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    shares = {(row["quantity"], row["level"]): row["observed"] for row in table}
    assert 0.3 < shares["field", 0.5] < 0.7
    assert shares["field", 0.95] > 0.8
    assert (here / "bands" / "reliability.png").exists()
    refused = CliRunner().invoke(app, ["bands", str(run_folder), "--out", "other", "--shots", "few"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


def test_a_checkpoint_that_carries_code_is_refused_without_running_it(here):
    class Bomb:
        def __reduce__(self):
            return (open, (str(here / "exploded"), "w"))

    (here / "run" / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": {}, "meta_hamiltonian": Bomb()}, here / "run" / "checkpoints" / "best.ckpt")
    points(here / "seen.csv")
    done = adapt("run", "seen.csv", code=2)
    assert done.stderr.count("\n") == 1
    assert not (here / "exploded").exists()
