"""What `train.py` runs: train, test, report."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate, to_absolute_path
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.checkpoint import (
    HISTORY_KEY,
    SETTINGS_KEY,
    CheckpointError,
    build,
    find_checkpoint,
    load,
    read_checkpoint,
)
from meta_hamiltonian.compilation import is_earned
from meta_hamiltonian.devices import from_first, rank, share
from meta_hamiltonian.errors import ConfigError
from meta_hamiltonian.evaluation import Result, TestSet, evaluate, make_test_set
from meta_hamiltonian.figures import Shown, save, streamlines, training, trajectories
from meta_hamiltonian.job import Job
from meta_hamiltonian.launch import on_all_devices
from meta_hamiltonian.report import print_table
from meta_hamiltonian.results import COLUMNS, write_rows
from meta_hamiltonian.sharing import train_once
from meta_hamiltonian.systems import HamiltonianSystem
from meta_hamiltonian.tracking import close
from meta_hamiltonian.training import train

log = logging.getLogger(__name__)

_GROUPS = ("system", "model", "algo")
# What a training depends on beside them, of the trainer.
_TRAINER_KEYS = ("max_steps", "precision", "gradient_clip_val", "val_check_interval")
# The test system in the figures.
_SHOWN = 0


def run(config: DictConfig) -> float | None:
    """One job: trains (unless `ckpt_path` is given), tests and reports.

    **Arguments:** `config`: checked already by [`check`][].

    **Returns:** the smallest validation loss, which a search makes smaller; None where nothing was trained.

    **Raises:** [`ConfigError`][] before any work begins, for what this machine or the checkpoint does not allow.
    """
    _check_devices(config)
    quiet_lightning()
    return on_all_devices(_run, config)


def _run(config: DictConfig) -> float | None:
    hydra = HydraConfig.get()
    folder = _shown(hydra.runtime.output_dir)
    sweep = _shown(to_absolute_path(hydra.sweep.dir)) if hydra.mode == RunMode.MULTIRUN else None
    job = Job(folder, config)
    if sweep is not None and config.resume and from_first(job.is_finished()):
        log.info(f"{folder} is finished already.")
        return _validation_loss(folder)
    settings = _settings(config)
    logger = start_logger(config, folder)
    try:
        if config.ckpt_path is None:
            if sweep is None:
                with job.times("training"):
                    train(config, settings, folder, logger, config.resume)
            else:
                train_once(job, sweep, lambda shared: train(config, settings, shared, logger, resume=True))
        with job.times("testing"):
            test(config, settings, config.ckpt_path or folder, folder, logger)
    finally:
        close(logger)
    if rank() == 0:
        job.finish()
    return _validation_loss(config.ckpt_path or folder)


def _validation_loss(checkpoint: Path | str) -> float | None:
    history = read_checkpoint(find_checkpoint(checkpoint)).get(HISTORY_KEY)
    return min(row["loss"] for row in history) if history else None


def test(
    config: DictConfig, settings: Mapping[str, Any], checkpoint: Path | str, folder: Path, logger: Logger | None
) -> None:
    """Tests a checkpoint on new systems and leaves `results.csv` and `figures/` in the run's folder."""
    learner = load(checkpoint)
    system = build(settings["system"], HamiltonianSystem)
    shots, steps = _numbers(config.shots), _numbers(config.test.steps)
    test_set = make_test_set(system, config.test.n_systems, max(shots), config.test.seed, config.data.noise)

    log.info(f"Testing on {config.test.n_systems} new systems.")
    mine = evaluate(learner, test_set[share(config.test.n_systems)], shots, steps)
    results = [result.of_all() for result in mine]
    if rank() != 0:
        return
    origin = {**settings["names"], "seed": settings["seed"], "noise": config.data.noise}
    origin["inner_steps"] = settings["algo"].get("inner_steps", 0)
    rows = [origin | result.figures() for result in results]
    write_rows(folder / "results.csv", COLUMNS, rows)
    figures = draw(results, test_set, folder / "figures") if system.state_dim == 2 else []
    history = read_checkpoint(find_checkpoint(checkpoint)).get(HISTORY_KEY)
    if history:
        save(training(history), path := folder / "figures" / "training")
        figures.append(path.with_suffix(".png"))
    track(logger, rows, figures)
    print_table(rows)
    log.info(f"Everything lies in {folder}: results.csv, figures, checkpoints, train.log.")


def draw(results: Sequence[Result], test_set: TestSet, folder: Path) -> list[Path]:
    """The poster's two figures for each K, and the data in them; returns the PNG files."""
    shown = Shown.of(results, test_set, _SHOWN)
    files = []
    for shots in dict.fromkeys(result.shots for result in results):
        for name, figure in (("field", streamlines), ("orbit", trajectories)):
            save(figure(shown, shots), path := folder / f"{name}_k{shots}")
            files.append(path.with_suffix(".png"))
    shown.save(folder / "shown.npz")
    return files


def track(logger: Logger | None, rows: Sequence[Mapping[str, Any]], figures: Sequence[Path]) -> None:
    """Sends the results and the figures to the logger."""
    if logger is None:
        return
    measured = COLUMNS[COLUMNS.index("n_diverged") :]
    metrics = {
        f"test/k{row['shots']}/step{row['steps']}/{name.removesuffix('_mean')}": row[name]
        for row in rows
        for name in measured
    }
    logger.log_metrics(metrics)
    logger.save()
    if isinstance(logger, WandbLogger):
        for figure in figures:
            logger.log_image(f"figures/{figure.stem}", [str(figure)])


def start_logger(config: DictConfig, folder: Path) -> Logger | None:
    """The configured logger, with the resolved configuration logged."""
    if config.logger._target_ is None:
        return None
    if rank() != 0:
        return DummyLogger()  # Lightning reduces what is logged over all processes, so each needs a logger
    hydra = HydraConfig.get()
    sweeping = hydra.mode == RunMode.MULTIRUN
    logger: CSVLogger | WandbLogger = instantiate(config.logger, _partial_=True)(
        folder=folder,
        name=hydra.job.override_dirname or f"algo={hydra.runtime.choices['algo']}",
        group="/".join(Path(hydra.sweep.dir).parts[-2:]) if sweeping else None,
    )
    logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))  # pyright: ignore[reportArgumentType]
    return logger


def quiet_lightning() -> None:
    """Keeps Lightning's advice, which does not fit this use, out of the log."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # A meta-batch is drawn in a millisecond: workers would cost more than they give.
    warnings.filterwarnings("ignore", ".*does not have many workers")
    warnings.filterwarnings("ignore", ".*is smaller than the logging interval")
    warnings.filterwarnings("ignore", ".*exists and is not empty")
    # It goes on with the meta-batch of the step where it stopped.
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable")
    warnings.filterwarnings("ignore", ".*LeafSpec")  # Lightning 2.6 on a newer torch


def _settings(config: DictConfig) -> dict[str, Any]:
    """What a checkpoint keeps of the configuration; with `ckpt_path`, what that one kept."""
    choices = HydraConfig.get().runtime.choices
    if config.ckpt_path is None:
        groups: dict[str, Any] = {group: OmegaConf.to_container(config[group], resolve=True) for group in _GROUPS}
        if groups["algo"].get("compile") == "auto":
            groups["algo"]["compile"] = is_earned(config)
        training = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("data", "optim")}
        training |= {key: config.trainer[key] for key in _TRAINER_KEYS}
        names = {group: choices[group] for group in _GROUPS}
        return {**groups, "names": names, "seed": config.seed, "training": training}
    try:
        settings = read_checkpoint(find_checkpoint(config.ckpt_path))[SETTINGS_KEY]
    except (FileNotFoundError, CheckpointError) as error:
        raise ConfigError(f"ckpt_path={config.ckpt_path} is not allowed: {error}") from error
    for override in HydraConfig.get().overrides.task:
        group, _, name = override.partition("=")
        if group in _GROUPS and name != settings["names"][group]:
            raise ConfigError(
                f"{override} is not allowed with ckpt_path: it was trained with {group}={settings['names'][group]}; "
                f"leave {group} out"
            )
    return settings


def _check_devices(config: DictConfig) -> None:
    if config.trainer.accelerator == "gpu" and torch.cuda.device_count() < config.trainer.devices:
        raise ConfigError(
            f"trainer.accelerator=gpu trainer.devices={config.trainer.devices} is not allowed: "
            f"{torch.cuda.device_count()} CUDA devices were found; use trainer=cpu"
        )


def _shown(folder: str) -> Path:
    """The folder as seen from where the user is: shorter lines."""
    return Path(os.path.relpath(folder))


def _numbers(value: Any) -> list[int]:
    """One number or a list of them, in increasing order."""
    return sorted(value) if OmegaConf.is_list(value) else [value]
