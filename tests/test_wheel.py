"""The wheel: it holds the configuration, and trains in an empty folder."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from command import TINY, environment_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel's files, where Python finds them before those of the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder


def test_the_configuration_is_inside(installed):
    site = installed / "site"
    inside = {str(file.relative_to(site / "meta_hamiltonian" / "conf")) for file in site.rglob("*.yaml")}
    assert inside == {str(file.relative_to(ROOT / "conf")) for file in (ROOT / "conf").rglob("*.yaml")}
    (points,) = site.glob("*.dist-info/entry_points.txt")
    assert "meta-hamiltonian = meta_hamiltonian.__main__:app" in points.read_text()
    assert (site / "meta_hamiltonian" / "py.typed").exists(), "other packages see its types"


def test_its_version_is_that_of_the_repository_or_else_that_before_the_first_release(installed):
    (described,) = (installed / "site").glob("*.dist-info/METADATA")
    version = re.search(r"^Version: (.*)$", described.read_text(), re.MULTILINE)
    assert version is not None
    assert re.match(r"\d+\.\d+\.\d+", version[1])
    archive = installed / "archive"  # the files alone: no repository, no tags
    shutil.copytree(ROOT / "src", archive / "src")
    shutil.copytree(ROOT / "conf", archive / "conf")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, archive)
    command = [sys.executable, "-m", "hatchling", "version"]
    alone = subprocess.run(command, cwd=archive, check=True, capture_output=True, text=True)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert alone.stdout.strip() == settings["tool"]["hatch"]["version"]["fallback-version"]


# Two commands of one process, which imports PyTorch once.
COMMANDS = """
import json, sys, meta_hamiltonian
from meta_hamiltonian.__main__ import app
for arguments in json.loads(sys.argv[1]):
    sys.argv[:] = ["meta-hamiltonian", *arguments]
    try:
        app()
    except SystemExit as end:
        if end.code:
            raise
print(meta_hamiltonian.__file__)
"""


def test_it_trains_and_adapts_in_an_empty_folder(installed):
    here = installed / "empty"
    here.mkdir()
    (here / "seen.csv").write_text("q,p,dq,dp\n1,2,2,-1\n0,1,1,0\n-1,0.5,0.5,1\n")
    small = ("logger=none", "shots=5", "test.n_systems=1", "test.steps=0")
    commands = [
        ["train", "algo=anil", *TINY, *small, "hydra.run.dir=outputs/run"],
        ["adapt", "outputs/run", "seen.csv", "--horizon", "1"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        cwd=here,
        env=environment_of(installed / "home") | {"PYTHONPATH": str(installed / "site")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(installed / "site" / "meta_hamiltonian" / "__init__.py")
    assert (here / "outputs" / "run" / "results.csv").exists()
    assert (here / "outputs" / "run" / "train.log").exists()
    assert (here / "seen-adapted" / "report.html").exists()
