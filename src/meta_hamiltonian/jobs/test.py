"""The meta-test of a run: from a trained learner to `results.csv`, figures and tracked numbers."""

import copy
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.basics.devices import device_of, rank, share
from meta_hamiltonian.evaluation import Result, TestSet, evaluate, make_test_set
from meta_hamiltonian.evaluation.results import COLUMNS, FORECAST_COLUMNS, write_rows
from meta_hamiltonian.figures import Shown, save, streamlines, training, trajectories
from meta_hamiltonian.figures.spacetime import has_sites, spacetimes
from meta_hamiltonian.jobs.tracking import ADAPTATION, log_figure, log_table
from meta_hamiltonian.learners.checkpoint import Trained
from meta_hamiltonian.reports.tables import print_table
from meta_hamiltonian.systems import SimulatedSystem

log = logging.getLogger(__name__)

# The default of K: the protocol's two, and as many as several degrees of freedom need.
_SHOTS, _MORE_SHOTS = (25, 50), (25, 50, 100, 200)
# The test system in the figures.
_SHOWN = 0


def test(config: DictConfig, trained: Trained, folder: Path, logger: Logger | None) -> None:
    """Tests a learner on new systems and leaves `results.csv` and `figures/` in the run's folder.

    Where systems come from several families, `families.csv` has the rows of each.
    """
    system = trained.simulated
    log.info(f"Testing on {config.test.n_systems} new systems.")
    test_set, results = _measure(config, trained, system)
    if rank() != 0:
        return
    rows = _rows(config, trained, results)
    write_rows(folder / "results.csv", COLUMNS, rows)
    kinds = system.kinds(test_set.parameters)
    if len(names := dict.fromkeys(kinds)) > 1:
        own = {name: torch.tensor([kind == name for kind in kinds]) for name in names}
        of_kinds = [
            row | result.figures(own[name]) | {"system": name}
            for row, result in zip(rows, results, strict=True)
            for name in names
        ]
        write_rows(folder / "families.csv", COLUMNS, of_kinds)
    track(logger, rows)
    drawn = itertools.chain(draw_training(trained, folder / "figures"), draw(results, test_set, folder / "figures"))
    for file in drawn:
        log_figure(logger, file)
    print_table(rows, system.domain.duration(system.horizon))
    log.info(f"Everything lies in {folder}: results.csv, figures, checkpoints, train.log.")


test.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]  # pytest would collect it


def _measure(config: DictConfig, trained: Trained, system: SimulatedSystem) -> tuple[TestSet, list[Result]]:
    usual = _SHOTS if system.domain.degrees_of_freedom == 1 else _MORE_SHOTS
    shots = list(usual) if config.shots is None else _numbers(config.shots)
    steps = _numbers(config.test.steps)
    n_systems = config.test.n_systems
    test_set = make_test_set(system, n_systems, max(shots), config.test.seed, config.data.noise)
    learner = copy.deepcopy(trained.learner).to(device_of(config.trainer.accelerator))
    mine = evaluate(learner, test_set[share(n_systems)], shots, steps)
    return test_set, [result.of_all() for result in mine]


def _rows(config: DictConfig, trained: Trained, results: Sequence[Result]) -> list[dict[str, Any]]:
    settings = trained.settings
    origin = {**settings["names"], "seed": settings["seed"], "noise": config.data.noise}
    origin["inner_steps"] = settings["algo"].get("inner_steps", 0)
    return [origin | result.figures() for result in results]


def draw(results: Sequence[Result], test_set: TestSet, folder: Path) -> Iterator[Path]:
    """Draws the poster's two figures for each K, a picture of a ring, and writes their data; yields each PNG file."""
    shown = Shown.of(results, test_set, _SHOWN)
    folder.mkdir(parents=True, exist_ok=True)
    shown.save(folder / "shown.npz")
    kinds = {"field": streamlines, "orbit": trajectories}
    kinds |= {"spacetime": spacetimes} if has_sites(shown.domain) else {}
    for shots in dict.fromkeys(result.shots for result in results):
        for name, figure in kinds.items():
            save(figure(shown, shots), path := folder / f"{name}_k{shots}")
            yield path.with_suffix(".png")


def draw_training(trained: Trained, folder: Path) -> list[Path]:
    """The figure of a training's progress, where there was one; returns the PNG file."""
    if not trained.history:
        return []
    save(training(trained.history), folder / "training")
    return [folder / "training.png"]


def track(logger: Logger | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Sends the results to the logger: as numbers, as a table, and each error against the steps of adaptation."""
    if logger is None:
        return
    measured = (*COLUMNS[COLUMNS.index("n_diverged") :], *FORECAST_COLUMNS)
    named = [{name.removesuffix("_mean"): row[name] for name in measured if name in row} for row in rows]
    logger.log_metrics(
        {f"{_place(row)}/{name}": v for row, some in zip(rows, named, strict=True) for name, v in some.items()}
    )
    log_table(logger, "results", rows)
    steps = sorted({row["steps"] for row in rows if "steps" in row})
    if isinstance(logger, WandbLogger) and len(steps) > 1:
        for step in steps:
            errors = {
                f"{ADAPTATION}/k{row['shots']}/{name}": value
                for row, some in zip(rows, named, strict=True)
                if row["steps"] == step
                for name, value in some.items()
            }
            logger.log_metrics({f"{ADAPTATION}/steps": step, **errors})
    logger.save()


def _place(row: Mapping[str, Any]) -> str:
    """Where a tracker shows a row: by K and gradient steps, or for recorded members by the method."""
    return f"test/k{row['shots']}/step{row['steps']}" if "shots" in row else f"test/{row['algo']}"


def _numbers(value: Any) -> list[int]:
    """One number or a list of them, in increasing order."""
    return sorted(value) if OmegaConf.is_list(value) else [value]
