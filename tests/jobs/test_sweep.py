"""The summary of a sweep, without running one."""

import csv
import json
import re
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf
from several import Planet, ring, shown_of

from meta_hamiltonian.evaluation.results import COLUMNS, write_rows
from meta_hamiltonian.jobs.families import algorithm
from meta_hamiltonian.jobs.sweep import SummaryCallback, summarize, time_spent
from meta_hamiltonian.systems import Spring


def finished_job(sweep: Path, name: str, overrides: list[str]) -> Path:
    folder = sweep / name
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
    row = dict.fromkeys(COLUMNS, 1) | {"field_mse_mean": 0.123456}
    write_rows(folder / "results.csv", COLUMNS, [row | {"steps": steps} for steps in (0, 5)])
    return folder


def ended(sweep: Path, folder: Path, result: JobReturn) -> None:
    hydra = {"mode": RunMode.MULTIRUN, "sweep": {"dir": str(sweep)}, "runtime": {"output_dir": str(folder)}}
    config = OmegaConf.create({"hydra": hydra})
    SummaryCallback().on_job_end(config, result)


def summary(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_crash_is_told_in_one_line_with_its_traceback_in_a_file(tmp_path):
    finished_job(tmp_path, "0", ["seed=0"])
    crashed = finished_job(tmp_path, "1", ["seed=1"])
    (crashed / "results.csv").unlink()
    try:
        raise MemoryError("no room\nfor this")
    except MemoryError as error:
        result = JobReturn(status=JobStatus.FAILED, _return_value=error)
    ended(tmp_path, crashed, result)
    rows = summary(tmp_path)
    assert [(row["job"], row["status"]) for row in rows] == [("0", "finished"), ("0", "finished"), ("1", "failed")]
    assert rows[-1]["error"] == "MemoryError: no room for this"
    assert "Traceback" in (crashed / "error.txt").read_text()
    assert "MemoryError" in (tmp_path / "summary.md").read_text()


def test_what_hydra_keeps_of_a_job_is_small(tmp_path):
    result = JobReturn(cfg=OmegaConf.create({"a": 1}), hydra_cfg=OmegaConf.create({"b": 2}))
    result.status, result.return_value = JobStatus.COMPLETED, 0.5
    ended(tmp_path, finished_job(tmp_path, "0", ["seed=0"]), result)
    assert result.cfg is result.hydra_cfg is None
    assert result.return_value == 0.5


def test_jobs_that_are_not_done_are_named_too(tmp_path):
    finished_job(tmp_path, "0", ["seed=0", "algo=maml"])
    (finished_job(tmp_path, "10", ["seed=2", "algo=maml"]) / "results.csv").unlink()
    finished_job(tmp_path, "2", ["seed=1", "algo=maml"])
    summarize(tmp_path)
    assert [row["job"] for row in summary(tmp_path)] == ["0", "0", "2", "2", "10"]
    assert summary(tmp_path)[-1]["status"] == "running"
    text = (tmp_path / "summary.md").read_text()
    assert "| 0 | seed=0 | finished |" in text
    assert "0.123" in text
    assert "algo=maml" not in text


def test_numbers_of_the_summary_are_those_of_the_results(tmp_path):
    finished_job(tmp_path, "0", ["seed=0"])
    summarize(tmp_path)
    assert [float(row["field_mse_mean"]) for row in summary(tmp_path)] == [0.123456] * 2


def test_the_error_of_an_earlier_attempt_is_gone_when_the_job_runs_again(tmp_path):
    folder = finished_job(tmp_path, "0", ["seed=0"])
    (folder / "error.txt").write_text("lost\n")
    hydra = {"mode": RunMode.MULTIRUN, "runtime": {"output_dir": str(folder)}}
    SummaryCallback().on_job_start(OmegaConf.create({"hydra": hydra}))
    summarize(tmp_path)
    assert {row["status"] for row in summary(tmp_path)} == {"finished"}


def test_the_summary_says_how_the_time_was_spent(tmp_path):
    """Two jobs at once, then one after 20 s without any, and one after the sweep was resumed the next day."""
    for i, (began, ended) in enumerate([(0, 100), (0, 60), (120, 180), (90_000, 90_040)]):
        folder = finished_job(tmp_path, str(i), [f"seed={i}"])
        seconds = {"waiting": 5.0, "training": 20.0, "testing": 10.0}
        (folder / ".finished.json").write_text(
            json.dumps({"config": "", "began": began, "ended": ended, "seconds": seconds})
        )
    times = dict(time_spent(tmp_path / str(i) for i in range(4)))
    assert times["training"].startswith("80.0 s (31%")
    assert times["waiting"].startswith("20.0 s (8%")
    assert times["all jobs"] == "260.0 s"
    assert times["from the first to the last"] == "220.0 s"
    assert times["jobs at once"] == "1.18"
    assert times["jobs a minute"] == "1.1"
    summarize(tmp_path, draw=False)
    assert "| training | 80.0 s (31% of the jobs) |" in (tmp_path / "summary.md").read_text()


@pytest.fixture(scope="module")
def shown():
    """What jobs leave for the figures, of a family of each kind."""
    return {"spring": shown_of(Spring()), "planet": shown_of(Planet()), "ring": shown_of(ring(4))}


@pytest.fixture
def quickly(monkeypatch):
    """Figures are made, but their files are empty, and they have no streamlines: those take seconds."""

    def save(figure, path):
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".png").touch()
        path.with_suffix(".pdf").touch()

    monkeypatch.setattr("matplotlib.axes.Axes.streamplot", lambda *arguments, **more: None)
    monkeypatch.setattr("meta_hamiltonian.jobs.sweep_figures.save", save)


def family_job(sweep: Path, shown: dict, number: int, system: str, algo: str, error: float, *more: str) -> None:
    overrides = ["experiment=families", f"system={system}", f"algo={algo}", *more]
    folder = finished_job(sweep, str(number), overrides)
    row = dict.fromkeys(COLUMNS, 1) | {"system": system, "algo": algo, "noise": 0.0}
    rows = [
        row | {"shots": shots, "steps": steps, "field_rel_median": error / steps * (9 if shots == 5 else 1)}
        for shots in (5, 10)
        for steps in (1, 10, 50)
    ]
    write_rows(folder / "results.csv", COLUMNS, rows)
    (folder / "figures").mkdir()
    shown[system].save(folder / "figures" / "shown.npz")


def linked(sweep: Path) -> list[str]:
    return re.findall(r"\]\((figures/[^)]+)\)", (sweep / "summary.md").read_text())


def test_a_sweep_over_families_keeps_them_apart_and_shows_them_at_a_glance(tmp_path, shown, quickly):
    family_job(tmp_path, shown, 0, "spring", "ridge", 1e-10)
    family_job(tmp_path, shown, 1, "spring", "anil", 1e-3)
    summarize(tmp_path)
    figures = tmp_path / "figures"
    assert {file.stem for file in figures.iterdir()} == {"comparison", "fields", "orbits"}, "one family so far"
    assert "## Families" not in (tmp_path / "summary.md").read_text()

    family_job(tmp_path, shown, 2, "planet", "ridge", 0.5, "seed=0")
    family_job(tmp_path, shown, 3, "planet", "anil", 0.2)
    family_job(tmp_path, shown, 4, "planet", "ridge", 0.7, "seed=1")
    family_job(tmp_path, shown, 5, "ring", "ridge", 3e-6)
    summarize(tmp_path)
    each = {f"{kind}_{name}" for kind in ("comparison", "fields", "orbits") for name in ("spring", "planet")}
    assert {file.stem for file in figures.iterdir()} == {"families", "comparison_ring"} | each
    text = (tmp_path / "summary.md").read_text()
    table = [line for line in text.split("## Families")[1].splitlines() if line.startswith("|")]
    assert table == [
        "| system | K | ridge | anil |",
        "| --- | --- | --- | --- |",
        "| spring | 10 | **1e-11** | 0.0001 |",
        "| planet | 10 | 0.06 | **0.02** |",
        "| ring | 10 | **3e-07** |  |",
    ]
    assert len(linked(tmp_path)) == 8
    assert all((tmp_path / link).exists() for link in linked(tmp_path))


def test_figures_are_drawn_again_only_where_a_job_has_ended(tmp_path, shown, quickly):
    family_job(tmp_path, shown, 0, "spring", "ridge", 1e-10)
    family_job(tmp_path, shown, 1, "ring", "ridge", 1e-10)
    summarize(tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "figures").glob("*.png")}
    assert set(before) == {"comparison_spring.png", "comparison_ring.png", "families.png"}
    family_job(tmp_path, shown, 2, "spring", "anil", 1e-4)
    summarize(tmp_path)
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "figures").glob("*.png")}
    assert {name for name in before if after[name] != before[name]} == {"comparison_spring.png", "families.png"}


def test_the_summary_links_no_figure_that_is_not_there(tmp_path):
    finished_job(tmp_path, "0", ["seed=0"])
    summarize(tmp_path, draw=False)
    assert linked(tmp_path) == []
    summarize(tmp_path)
    assert linked(tmp_path) == ["figures/comparison.png"]


def test_an_algorithm_is_what_is_left_of_the_overrides():
    row = {"algo": "ridge", "overrides": "system=spring seed=1 shots=25 +friction=dry"}
    assert algorithm(row) == "ridge"
    assert algorithm(row | {"overrides": "system=spring method=anil data.noise=0.1 seed=2"}) == "anil data.noise=0.1"
