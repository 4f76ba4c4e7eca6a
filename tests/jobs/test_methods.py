"""The table and the figure of many methods on many families."""

import csv
import json

import pytest
import torch
from composing import composed
from omegaconf import OmegaConf

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.evaluation.results import write_rows
from meta_hamiltonian.figures.methods import methods as figure_of
from meta_hamiltonian.jobs.composition import conf_folder
from meta_hamiltonian.jobs.family import class_settings
from meta_hamiltonian.jobs.methods import COLUMNS, markdown, of_methods, tables
from meta_hamiltonian.jobs.sweep import summarize
from meta_hamiltonian.learners.checkpoint import build, build_learner
from meta_hamiltonian.models import DissipativeNetwork
from meta_hamiltonian.systems import System

ERRORS = {"ridge": 1e-12, "camel": 1e-4, "cavia": 4e-2, "maml": 1e-2}


def row(system, algo, shots, steps, error, job=None):
    return {
        "job": job or f"{system}-{algo}",
        "overrides": f"system={system} algo={algo}",
        "system": system,
        "algo": algo,
        "shots": str(shots),
        "steps": str(steps),
        "n_systems": "10",
        "n_diverged": "1",
        "field_mse_mean": "1.0",
        "field_rel_median": str(error),
        "state_rel_median": "0.2",
        "energy_mse_median": "0.09",
        "adapt_seconds": "0.5",
        "unknowns": "8",
    }


def sweep_rows():
    found = []
    for system, factor in (("spring", 1), ("pendulum", 4)):
        for algo, error in ERRORS.items():
            for shots in (10, 50):
                found.append(row(system, algo, shots, 1, factor * error * (100 if shots == 10 else 1)))
                found.append(row(system, algo, shots, 50, 9 * factor * error * (100 if shots == 10 else 1)))
    return found


def finished(folder, seconds):
    folder.mkdir()
    content = {"config": "", "began": 0, "ended": 9, "seconds": {"training": seconds, "testing": 1, "waiting": 0}}
    (folder / ".finished.json").write_text(json.dumps(content))


def test_each_method_is_taken_after_the_steps_that_serve_it_best(tmp_path):
    finished(tmp_path / "spring-cavia", 61.04)
    found = of_methods(tmp_path, sweep_rows())
    assert len(found) == 2 * 2 * 4
    (cavia,) = [one for one in found if (one["system"], one["method"], one["shots"]) == ("spring", "cavia", 50)]
    assert tuple(cavia) == COLUMNS
    assert (cavia["steps"], cavia["n_diverged"], cavia["unknowns"], cavia["jobs"]) == ("1", 1, "8", 1)
    assert cavia["field_error"] == pytest.approx(0.2), "not squared"
    assert (cavia["trajectory_error"], cavia["energy_error"]) == (pytest.approx(0.2), pytest.approx(0.3))
    assert (cavia["training_seconds"], cavia["adaptation_ms"]) == (61.0, 50.0)


def test_seeds_are_averaged(tmp_path):
    rows = [row("spring", algo, 50, 1, 1e-4, f"{algo}-{seed}") for algo in ERRORS for seed in range(2)]
    rows += [row("pendulum", "maml", 50, 1, error, f"p{i}") for i, error in enumerate((1e-2, 3e-2))]
    (pendulum,) = [one for one in of_methods(tmp_path, rows) if one["system"] == "pendulum"]
    assert pendulum["jobs"] == 2
    assert pendulum["field_error"] == pytest.approx(0.02**0.5)


def test_the_table_says_how_many_times_as_accurate_the_closed_form_is(tmp_path):
    found = of_methods(tmp_path, sweep_rows())
    field = tables(found)["Methods: relative error of the field"]
    assert field[0] == {
        "system": "spring",
        "K": "50",
        "ridge": "**1e-06**",
        "camel": "0.01",
        "cavia": "0.2",
        "maml": "0.1",
        "ridge, times as accurate": "10000",
    }
    assert "| pendulum | 50 | **2e-06** | 0.02 | 0.4 | 0.2 | 10000 |" in markdown(found)


def test_the_closed_form_with_latents_is_a_method_of_its_own(tmp_path):
    rows = sweep_rows()
    for one in sweep_rows():
        if one["system"] == "pendulum" and one["algo"] == "ridge":
            error = float(one["field_rel_median"]) / 100
            words = {"job": "latents", "overrides": "method=minute/ridge_latents system=pendulum"}
            rows.append(one | words | {"field_rel_median": str(error)})
    spring, pendulum = tables(of_methods(tmp_path, rows))["Methods: relative error of the field"]
    assert (spring["ridge"], spring["ridge_latents"]) == ("**1e-06**", "")
    assert (pendulum["ridge"], pendulum["ridge_latents"]) == ("2e-06", "**2e-07**")
    assert (spring["ridge, times as accurate"], pendulum["ridge, times as accurate"]) == ("10000", "1e+05")


def test_few_algorithms_have_the_table_of_families_alone(tmp_path):
    assert of_methods(tmp_path, [one for one in sweep_rows() if one["algo"] != "maml"]) == []
    assert of_methods(tmp_path, [one for one in sweep_rows() if one["system"] == "spring"]) == []
    assert markdown([]) == []


def test_the_figure_shows_every_method_on_every_family_and_what_was_published(tmp_path):
    figure = figure_of(of_methods(tmp_path, sweep_rows()))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*ERRORS, "published by Jing et al., other ranges"]
    field = figure.axes[0]
    heights = {line.get_label(): list(line.get_ydata()) for line in field.get_lines()}
    assert heights["cavia"] == pytest.approx([0.2, 0.4])
    assert field.get_yscale() == "log"


EXPERIMENT = OmegaConf.load(conf_folder() / "experiment" / "methods.yaml").hydra.sweeper.params


def test_the_experiment_has_all_families_of_the_page():
    assert EXPERIMENT.system.split(",") == [
        "spring", "pendulum", "duffing", "damped_oscillator", "lotka_volterra", "henon_heiles",
        "kepler_unknown_centre", "spring_pendulum", "double_pendulum",
    ]  # fmt: skip


@pytest.mark.parametrize("method", EXPERIMENT.method.split(","))
def test_every_method_learns_the_friction_of_each_member(method):
    """Its coefficient is a weight of the head, or, where all members share the head, a network learns it."""
    settings = class_settings(composed("experiment=methods", f"method={method}", "system=damped_oscillator"))
    learner = build_learner(settings | {"domain": build(settings["system"], System).domain.settings()})
    learner.prepare(2)
    assert isinstance(learner.net, DissipativeNetwork)
    assert learner.net.friction == (None if learner.shares_head else "viscous")
    x = torch.rand(2, 12, 2, generator=torch.Generator().manual_seed(0))
    points = Points(x, torch.stack([x[..., 1], -x[..., 0]], dim=-1))
    *_, own = learner.adaptations(points, 1)
    assert ("head.weight" in own) == (not learner.shares_head)


def test_a_sweep_leaves_them_beside_its_summary(tmp_path):
    for i, (system, algo) in enumerate((system, algo) for system in ("spring", "pendulum") for algo in ERRORS):
        finished(tmp_path / str(i), 60.0)
        (tmp_path / str(i) / ".hydra").mkdir()
        (tmp_path / str(i) / ".hydra" / "overrides.yaml").write_text(f"- system={system}\n- algo={algo}\n")
        own = [one for one in sweep_rows() if (one["system"], one["algo"]) == (system, algo)]
        whole = dict.fromkeys(("model", "seed", "inner_steps", "noise", "field_mse_median"), 1)
        whole |= dict.fromkeys(("state_mse_mean", "state_mse_median", "energy_mse_mean"), 1)
        rows = [{k: v for k, v in (one | whole).items() if k not in ("job", "overrides")} for one in own]
        write_rows(tmp_path / str(i) / "results.csv", tuple(rows[0]), rows)
    summarize(tmp_path, draw=False)
    with (tmp_path / "methods.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert len(table) == 16
    assert "## Methods: seconds of training" in (tmp_path / "summary.md").read_text()
