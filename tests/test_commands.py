"""`python -m meta_hamiltonian`: what the commands write, say and refuse; what they compute is tested elsewhere."""

import base64
import contextlib
import csv
import io
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from browser import CHROMIUM, answer
from command import train_here
from rich.console import Console
from typer.testing import CliRunner

from meta_hamiltonian import load, load_adapted
from meta_hamiltonian.__main__ import app
from meta_hamiltonian.reports import progress, system
from meta_hamiltonian.systems import Pendulum, integrate

PARAMETERS = torch.tensor([0.8, 1.1, 0.3], dtype=torch.float64)  # m, l, q0
SYSTEM = Pendulum()
BOX = torch.tensor(SYSTEM.state_box, dtype=torch.float64)
OBSERVED, AHEAD = 10.0, 5.0


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """The folder of a run, with a closed-form learner in it."""
    folder = tmp_path_factory.mktemp("run") / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "data" / "ridge.ckpt", folder / "checkpoints" / "best.ckpt")
    return folder


@pytest.fixture(scope="module")
def adapted(run_folder, tmp_path_factory):
    """What `adapt` leaves of 25 exact points; to be looked at, not to be changed."""
    folder = tmp_path_factory.mktemp("adapted")
    points(folder / "seen.csv")
    arguments = (run_folder, folder / "seen.csv", "--from", "1,0.5", "--horizon", 5, "--out", folder / "out")
    adapt(*arguments, figures=True)
    return folder / "out"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal shows of the bar that says how far a command is."""
    shown = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=80))
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    return shown


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


def adapt(*arguments, code=0, figures=False):
    """Without figures, where nobody looks at them: to draw them takes longer than the rest."""
    with contextlib.nullcontext() if figures else mock.patch.object(system, "_figures", return_value={}):
        done = CliRunner().invoke(app, ["adapt", *map(str, arguments)])
    assert done.exit_code == code, done.output + str(done.exception)
    return done


def read(path):
    return np.genfromtxt(path, delimiter=",", names=True)


def test_states_and_derivatives_are_what_python_adapts_to(run_folder, adapted, here):
    x, dxdt = points(here / "seen.csv")
    prediction = read(adapted / "prediction.csv")
    assert prediction.dtype.names == ("t", "q", "p", "energy", "dissipated")
    assert not prediction["dissipated"].any(), "nothing takes energy out of this one"
    own = load(run_folder).adapt(x, dxdt)
    t = torch.linspace(0, 5, 201, dtype=torch.float64)
    expected = own.rollout(torch.tensor([1.0, 0.5], dtype=torch.float64), t)
    np.testing.assert_allclose(np.stack([prediction["q"], prediction["p"]], -1), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(prediction["energy"], own.energy(expected), rtol=1e-8)
    np.testing.assert_allclose(prediction["t"], t, atol=1e-12)
    np.testing.assert_allclose(expected, orbit((1.0, 0.5), t), atol=1e-4)
    saved = load_adapted(adapted / "adapted.pt")
    torch.testing.assert_close(saved.field(x), own.field(x), rtol=0, atol=0)


def test_a_trajectory_predicts_how_it_goes_on(run_folder, here):
    inertia = (PARAMETERS[0] * PARAMETERS[1] ** 2).item()  # so that p is the true one
    t, x = swing(50)
    write(here / "swing.csv", ["t", "q"], t, x[:, 0])
    # Which friction acts is asked in tests/inference.
    more = ("--horizon", AHEAD, "--inertia", inertia, "--friction", "none")
    said = adapt(run_folder, "swing.csv", *more).stdout
    prediction = read(here / "swing-adapted" / "prediction.csv")
    assert prediction["t"][0] == pytest.approx(OBSERVED)
    later = torch.from_numpy(prediction["t"])
    true = orbit((1.5, 0.0), torch.cat([torch.zeros(1, dtype=torch.float64), later]))[1:]
    error = np.abs(np.stack([prediction["q"], prediction["p"]], -1) - true.numpy()).max(0)
    assert (error < 0.02 * true.abs().amax(0).numpy()).all(), (error, said)
    assert "p was not observed" in said
    assert np.ptp(prediction["energy"]) < 1e-6 * np.abs(prediction["energy"]).max()
    assert re.search(r"fit=(derivatives|orbit) predicts the end of the trajectories better", said)


def test_a_prediction_that_leaves_ends_there_and_says_so(run_folder, here):
    """A system that drives its momentum out of the box: the learned field points outwards."""
    x = BOX * (2 * torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1)
    force = torch.full_like(x[:, 0], 20.0)
    write(here / "seen.csv", ["q", "p", "dq", "dp"], *x.T, 0.01 * x[:, 1], force + 40 * torch.sin(0.05 * x[:, 0]))
    said = adapt(run_folder, "seen.csv", "--from", "0,0", "--horizon", 20).stdout
    prediction = read(here / "seen-adapted" / "prediction.csv")
    end = re.search(r"Warning: The prediction ends at t = ([0-9.]+) instead of 20: it leaves the region", said)
    assert end is not None, said
    assert prediction["t"][-1] == pytest.approx(float(end[1]), rel=1e-3)
    assert len(prediction) < 201
    assert np.abs(prediction["p"]).max() <= 40
    bands = read(here / "seen-adapted" / "bands.csv")
    assert len(bands) == len(prediction)
    assert "The prediction ends at" in (here / "seen-adapted" / "report.html").read_text()


def test_the_report_is_one_file_with_its_figures(adapted):
    folder = adapted
    assert {f.name for f in folder.iterdir()} == {"report.html", "prediction.csv", "bands.csv", "adapted.pt", "figures"}
    assert {f.name for f in (folder / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("orbit", "residuals", "field", "energy", "uncertainty") for kind in ("png", "pdf")
    }
    report = (folder / "report.html").read_text()
    images = re.findall(r'<img alt="\w+" src="data:image/png;base64,([^"]+)"', report)
    assert len(images) == 5
    assert all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)
    assert 'name="viewport"' in report
    assert not re.search(r"(?:src|href)=.(?!data:)|@import|url\((?!#)|fetch\(|XMLHttp", report), "nothing is loaded"
    assert len(report) < 2_000_000
    static = re.sub("<section.*</section>|<script.*?</script>", "", report, flags=re.DOTALL)
    assert "<img" in static
    assert '<section id="explore" hidden>' in report, "without JavaScript nothing is promised"
    assert "Permission is hereby granted" in report, "the licence of what draws the plots"


def test_an_existing_folder_is_replaced_only_by_force(run_folder, here):
    points(here / "seen.csv")
    (here / "mine").mkdir()
    (here / "mine" / "precious").write_text("x")
    done = adapt(run_folder, "seen.csv", "--out", "mine", code=2)
    assert "--force" in done.stderr
    assert (here / "mine" / "precious").exists()
    done = CliRunner().invoke(app, ["identify", str(run_folder), "--n-systems", "8", "--out", "mine", "--force"])
    assert done.exit_code == 0, done.output
    assert not (here / "mine" / "precious").exists()
    assert (here / "mine" / "identified.csv").exists()
    assert sorted(f.name for f in here.iterdir()) == ["mine", "seen.csv"], "nothing else is left"


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


PLAYED = """
  const right = Math.max(...[...document.querySelectorAll("body *")].map(one => one.getBoundingClientRect().right));
  const images = [...document.images], svg = document.getElementById("portrait"), box = svg.getBoundingClientRect();
  const loaded = images.every(one => one.complete && one.naturalWidth > 0);
  const explorer = report.explorer, said = () => document.getElementById("said").textContent;
  const first = said(), wait = () => new Promise(resolve => setTimeout(resolve, 3000));
  const clicked = part => svg.dispatchEvent(new MouseEvent("click", {
    clientX: box.left + part[0] * box.width, clientY: box.top + part[1] * box.height, bubbles: true}));
  clicked([0.6, 0.4]);
  await wait();
  const {t, x, energy, bands} = explorer.shown, words = said();
  const slider = document.getElementById("stage"), labels = [];
  for (slider.value = 0; ; slider.value = +slider.value + 1) {
    slider.dispatchEvent(new Event("input"));
    labels.push(document.getElementById("stage-words").textContent);
    if (slider.value === slider.max) break;
  }
  svg.focus();
  svg.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowUp", bubbles: true}));
  svg.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true}));
  const above = explorer.shown.x[0];
  document.getElementById("read").value = 100;
  document.getElementById("read").dispatchEvent(new Event("input"));
  const read = document.getElementById("value").textContent;
  document.getElementById("back").click();
  await wait();
  return {images: images.length, loaded, right, width: innerWidth, scroll: document.documentElement.scrollWidth,
    difference: report.difference, first, back: said(), t, x, energy, bands, words, labels, above, read,
    plots: document.querySelectorAll("#plots canvas").length};
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [400, 1400])
def test_the_report_is_played_with_in_a_browser(adapted, here, width):
    """Everything is inside the window, and a click draws Python's orbit, with its energy and its band."""
    found = answer((adapted / "report.html").read_text(), PLAYED, here, width)
    assert (found["images"], found["loaded"]) == (5, True)
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["right"] <= width
    assert found["difference"] < 1e-10
    assert found["first"] == found["back"] == "The prediction of this report, with its 95 % bands."
    assert found["plots"] == 3
    own = load_adapted(adapted / "adapted.pt")
    t, x = (torch.tensor(found[name], dtype=torch.float64) for name in "tx")
    assert (t[0], t[-1], len(t)) == (0, 5, 401)
    assert 0 < x[0, 0] < 6
    assert x[0, 1] > 0, "to the right and above the middle"
    torch.testing.assert_close(x, own.rollout(x[0], t), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.tensor(found["energy"], dtype=torch.float64), own.energy(x), rtol=1e-6, atol=1e-6)
    low, high = (torch.tensor([band[end] for band in found["bands"]], dtype=torch.float64).T for end in (0, 1))
    assert ((low - 1e-4 <= x) & (x <= high + 1e-4)).all()
    assert "39 systems that the observations allow" in found["words"]
    assert found["labels"][0] == "before any observation"
    assert found["labels"][-1] == "all 25 observations"
    assert found["above"][1] > x[0, 1]
    assert re.fullmatch(r"t = 1.25: q = [-0-9.e]+, p = [-0-9.e]+, H = [-0-9.e]+", found["read"])


def test_bands_hold_the_true_orbit_and_say_where_to_measure_next(run_folder, here):
    """With noise, since exact points leave bands of the learner's own error, 1e-8. Many systems: tests/inference."""
    x, dxdt = points(here / "seen.csv", count=12)
    generator = torch.Generator().manual_seed(3)
    noisy = [v + 0.02 * v.square().mean(0).sqrt() * torch.randn(v.shape, generator=generator) for v in (x, dxdt)]
    write(here / "noisy.csv", ["q", "p", "dq", "dp"], *noisy[0].T, *noisy[1].T)
    assert "measure next at" in adapt(run_folder, "noisy.csv", "--from", "1,0.5", "--horizon", 2).stdout
    bands = read(here / "noisy-adapted" / "bands.csv")
    true = orbit((1.0, 0.5), torch.from_numpy(bands["t"])).T.numpy()
    for name, values in zip(("q", "p"), true, strict=True):
        assert (bands[f"{name}_low"] <= bands[f"{name}_high"]).all()
        assert np.mean((bands[f"{name}_low"] <= values) & (values <= bands[f"{name}_high"])) > 0.8
    assert (bands["energy_change_low"] <= 1e-12).all()


def test_an_adapted_system_is_exported_once(adapted, here, terminal):
    export = ["export", str(adapted / "adapted.pt"), "system.pt2"]
    done = CliRunner().invoke(app, export)
    assert done.exit_code == 0, done.output
    assert "H [batch], dx/dt [batch, 2n]" in done.stdout
    again = CliRunner().invoke(app, export)
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "--force" in again.stderr
    assert CliRunner().invoke(app, [*export, "--force"]).exit_code == 0
    assert "following the network" in terminal.getvalue()
    assert CliRunner().invoke(app, [*export[:2], "system.txt"]).exit_code == 2


def test_the_true_law_is_identified_and_has_no_bands(here):
    """What would be a traceback is one line, or works."""
    arguments = ("algo=oracle", "logger=none", "test.n_systems=2", "shots=5", "trainer.enable_progress_bar=false")
    assert train_here(here / "home", *arguments, f"hydra.run.dir={here / 'oracle'}").code == 0
    done = CliRunner().invoke(app, ["identify", str(here / "oracle"), "--n-systems", "20"])
    assert done.exit_code == 0, done.output
    assert "Unknowns of a head" not in done.stdout
    t, x = swing(20)
    write(here / "swing.csv", ["t", "q", "p"], t, *x.T)
    assert "use fit=derivatives" in adapt(here / "oracle", "swing.csv", "--fit", "orbit", code=2).stderr
    refused = CliRunner().invoke(app, ["bands", str(here / "oracle"), "--n-systems", "4"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "algo=ridge" in refused.stderr


@pytest.mark.parametrize("command", ["adapt", "identify"])
def test_a_module_that_cannot_be_imported_is_refused_in_one_line(run_folder, here, command):
    points(here / "seen.csv")
    files = [str(run_folder), *(["seen.csv"] if command == "adapt" else [])]
    done = CliRunner().invoke(app, [command, *files, "--import", "no_such_module"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--import no_such_module is not allowed" in done.stderr


def test_the_family_has_three_terms_and_the_head_knows_its_parameters(run_folder, here):
    done = CliRunner().invoke(app, ["identify", str(run_folder), "--n-systems", "60"])
    assert done.exit_code == 0, done.output
    assert "terms of the family: 3 " in done.stdout
    assert f"Unknowns of a head: {load(run_folder).rank}\n" in done.stdout
    assert all(float(value) > 0.999 for value in re.findall(r"R² = ([0-9.]+)", done.stdout))
    assert len(re.findall("R² = ", done.stdout)) == 3
    assert (here / "identified" / "terms.png").exists()


def test_coverage_is_measured(run_folder, here, terminal):
    done = CliRunner().invoke(app, ["bands", str(run_folder), "--n-systems", "20", "--shots", "10", "--noise", "0.05"])
    assert "K=10, noise=0.05" in terminal.getvalue()
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
