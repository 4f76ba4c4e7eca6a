"""A family outside the package: one Python file and one YAML file of a user's own, from training to export."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import ROOT, TINY, environment_of, results
from forked import Forked, package_main
from omegaconf import OmegaConf
from typer.testing import CliRunner

from meta_hamiltonian.__main__ import app
from meta_hamiltonian.config import ConfigError
from meta_hamiltonian.jobs.composition import GROUPS, import_classes

FAMILY = Path(__file__).parents[1] / "toda.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the package `my_families`, a folder of configurations, and a trained learner."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_families").mkdir()
    (folder / "my_families" / "__init__.py").write_text("from my_families.chains import Toda\n")
    shutil.copy(FAMILY, folder / "my_families" / "chains.py")
    (folder / "my_conf" / "system").mkdir(parents=True)
    (folder / "my_conf" / "system" / "toda.yaml").write_text("_target_: my_families.Toda\n")
    arguments = ["--config-dir", "my_conf", "system=toda", "algo=ridge", "model.width=16", "algo.rank=4"]
    short = ("trainer.max_steps=25", "data.train_shots=20", "shots=25", "logger=none")
    done = command(folder, "train", *arguments, *TINY, *short, RUN)
    assert done.code == 0, done.stderr
    return folder


RUN = "hydra.run.dir=outputs/own"


def command(folder, *arguments):
    """`python -m meta_hamiltonian ...`, as the installed command, in the user's folder."""
    (folder / "home").mkdir(exist_ok=True)
    said, environment = folder / "home" / "said", environment_of(folder / "home")
    return Forked(package_main, ["meta-hamiltonian", *arguments], folder, environment, said).finished(300)


def test_it_is_trained_and_tested_with_figures(home):
    run = home / "outputs" / "own"
    table = results(run)
    assert [(row["system"], row["shots"]) for row in table] == [("toda", "25")]
    assert float(table[0]["field_rel_median"]) < 1
    figures = {f"{kind}_k25.{form}" for kind in ("field", "orbit") for form in ("png", "pdf")}
    assert figures <= {file.name for file in (run / "figures").iterdir()}


def test_a_file_whose_name_is_taken_is_not_passed_over(home):
    folder = home / "shadowed" / "system"
    folder.mkdir(parents=True)
    (folder / "spring.yaml").write_text("_target_: my_families.Toda\n")
    done = command(home, "train", "--config-dir", "shadowed", "system=spring", "hydra.run.dir=outputs/shadowed")
    assert done.code == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: --config-dir=shadowed is not allowed: system/spring.yaml has the name of a file of")
    assert not (home / "outputs" / "shadowed").exists()
    shipped = (ROOT / "conf" / "system" / "spring.yaml").read_bytes()
    (folder / "spring.yaml").write_bytes(shipped)
    done = command(home, "train", "--config-dir", "shadowed", "system=spring", "shots=-1")
    assert "shots=-1 is not allowed" in done.stderr, "the same file says the same"


LOADED = """
import meta_hamiltonian
from meta_hamiltonian.__main__ import app
try:
    meta_hamiltonian.load("outputs/own")
except Exception as error:
    print(error)
try:
    app(["identify", "outputs/own", "--n-systems", "4"])
except SystemExit as end:
    print(end.code)
import my_families
print(type(meta_hamiltonian.load("outputs/own")).__name__)
"""


def test_its_checkpoint_loads_only_where_the_family_was_imported(home):
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=home,
        env=environment_of(home / "home") | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    refusal, code, kind = done.stdout.strip().split("\n")
    assert "_target_=my_families.Toda is not a System that this process knows" in refusal
    assert (code, kind) == ("2", "Ridge")
    assert done.stderr.count("\n") == 1, "of the command identify"
    assert "--import my_families" in done.stderr


def test_it_is_adapted_reported_identified_and_exported(home, monkeypatch):
    """Exported by a process of its own, where no function of the package is wrapped in checks."""
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    monkeypatch.syspath_prepend(FAMILY.parent)
    from toda import Toda

    system = Toda()
    parameters = system.sample_parameters(1, seed=8, split="user")
    x = system.sample_states(parameters, 8, ("user",), range(1), 40)[0]
    table = np.hstack([x, system.field(x, parameters)])
    names = [f"{kind}{i}" for kind in ("q", "p", "dq", "dp") for i in (1, 2)]
    np.savetxt("seen.csv", table, delimiter=",", header=",".join(names), comments="")
    own = ("--import", "my_families")
    what = ["adapt", "outputs/own", "seen.csv", "--from", "0.1,0.1,0,0", "--horizon", "3", *own]
    done = CliRunner().invoke(app, what)
    assert done.exit_code == 0, done.output
    folder = home / "seen-adapted"
    names = {"orbit", "residuals", "positions", "portraits", "field", "energy", "uncertainty"}
    assert {file.stem for file in (folder / "figures").iterdir()} == names
    prediction = np.genfromtxt(folder / "prediction.csv", delimiter=",", names=True)
    assert prediction.dtype.names == ("t", "q1", "q2", "p1", "p2", "energy", "dissipated")
    assert len(re.findall("<img ", (folder / "report.html").read_text())) == len(names)
    identified = CliRunner().invoke(app, ["identify", "outputs/own", "--n-systems", "40", *own])
    assert identified.exit_code == 0, identified.output
    assert re.search(r"Independent terms of the family: \d", identified.stdout)
    assert "1/m as a linear function of the head" in identified.stdout
    exported = command(home, "export", "seen-adapted/adapted.pt", "own.pt2", *own)
    assert exported.code == 0, exported.stderr
    assert (home / "own.pt2").exists()


@pytest.mark.parametrize(
    ("target", "message"), [("no_such_package.Family", "cannot be imported"), ("collections.OrderedDict", "@register")]
)
def test_a_family_that_is_not_there_or_not_registered_is_refused_in_one_line(target, message):
    config = OmegaConf.create({group: {"_target_": "meta_hamiltonian.systems.Pendulum"} for group in GROUPS})
    import_classes(config)
    config.system._target_ = target
    with pytest.raises(ConfigError, match=rf"system\._target_={target} is not allowed: .*{message}") as error:
        import_classes(config)
    assert "\n" not in str(error.value)
