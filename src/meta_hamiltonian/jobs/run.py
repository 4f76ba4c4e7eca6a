"""What `train.py` runs: train, test, report."""

import dataclasses
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate, to_absolute_path
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.basics.devices import from_first, rank
from meta_hamiltonian.config import ConfigError
from meta_hamiltonian.episodes.kinetics import with_kinetic_energies
from meta_hamiltonian.episodes.recordings import Recordings
from meta_hamiltonian.jobs.composition import GROUPS, import_classes
from meta_hamiltonian.jobs.family import AROUND, class_settings, family_name
from meta_hamiltonian.jobs.forecasts import test_forecasts
from meta_hamiltonian.jobs.job import Job
from meta_hamiltonian.jobs.launch import on_all_devices
from meta_hamiltonian.jobs.recorded import recordings_of, recordings_of_given
from meta_hamiltonian.jobs.sharing import train_once
from meta_hamiltonian.jobs.test import test
from meta_hamiltonian.jobs.tracking import close
from meta_hamiltonian.jobs.train import train
from meta_hamiltonian.learners.checkpoint import (
    HISTORY_KEY,
    CheckpointError,
    Trained,
    build,
    build_learner,
    load_trained,
    read_checkpoint,
)
from meta_hamiltonian.learners.quality import poor
from meta_hamiltonian.systems import SimulatedSystem, System
from meta_hamiltonian.training.compilation import is_earned

log = logging.getLogger(__name__)

# The keys of the trainer that a training depends on.
_TRAINER_KEYS = ("max_steps", "precision", "gradient_clip_val", "val_check_interval")


def run(config: DictConfig) -> float | None:
    """One job: trains (unless `ckpt_path` is given), tests and reports.

    **Arguments:** `config`: checked already by [`check`][].

    **Returns:** the smallest validation loss, which a search minimises; None where nothing was trained.

    **Raises:** [`ConfigError`][] before any work begins, for what this machine or the checkpoint does not allow.
    """
    _choose_accelerator(config)
    _check_devices(config)
    quiet_lightning()
    return on_all_devices(_run, config)


def _run(config: DictConfig) -> float | None:
    import_classes(config)
    hydra = HydraConfig.get()
    folder = _shown(hydra.runtime.output_dir)
    sweep = _shown(to_absolute_path(hydra.sweep.dir)) if hydra.mode == RunMode.MULTIRUN else None
    job = Job(folder, config)
    if sweep is not None and config.resume and from_first(job.is_finished()):
        log.info(f"{folder} is finished already.")
        return load_trained(config.ckpt_path or folder).validation_loss
    given = None if config.ckpt_path is None else _given(config)
    recordings = recordings_of(config) if given is None else recordings_of_given(config, given)
    logger = start_logger(config, folder)
    try:
        trained = _trained(config, job, sweep, logger, recordings) if given is None else given
        for warning in poor(trained):
            log.warning(warning)
        with job.times("testing"):
            if recordings is None:
                test(config, trained, folder, logger)
            else:
                test_forecasts(config, trained, recordings, folder, logger)
    finally:
        close(logger)
    if rank() == 0:
        job.finish()
    return trained.validation_loss


def _trained(
    config: DictConfig, job: Job, sweep: Path | None, logger: Logger | None, recordings: Recordings | None
) -> Trained:
    settings = training_settings(config, recordings)
    if sweep is None:
        with job.times("training"):
            train(config, settings, job.folder, logger, config.resume, recordings)
    else:
        train_once(job, sweep, lambda shared: train(config, settings, shared, logger, True, recordings))
    # The best checkpoint knows of no validation after it.
    last = read_checkpoint(job.folder / "checkpoints" / "last.ckpt")
    return dataclasses.replace(load_trained(job.folder), history=last.get(HISTORY_KEY) or [])


def _given(config: DictConfig) -> Trained:
    """The trained learner that `ckpt_path` names."""
    try:
        trained = load_trained(config.ckpt_path)
    except CheckpointError as error:
        raise ConfigError(f"ckpt_path={config.ckpt_path} is not allowed: {error}") from error
    names = trained.settings["names"]
    parts = names["system"].split("+")
    for override in HydraConfig.get().overrides.task:
        group, _, name = override.removeprefix("+").partition("=")
        same = {"system": name == parts[0]} | dict.fromkeys(AROUND, name in parts[1:])
        if group in (*GROUPS, *AROUND) and not same.get(group, name == names.get(group)):
            kept = "system" if group in AROUND else group
            raise ConfigError(
                f"{override} is not allowed with ckpt_path: it was trained with {kept}={names[kept]}; leave {group} out"
            )
    return trained


def training_settings(config: DictConfig, recordings: Recordings | None = None) -> dict[str, Any]:
    """The settings that a checkpoint keeps, including those of the recordings of a family without a formula."""
    choices = HydraConfig.get().runtime.choices
    groups: dict[str, Any] = class_settings(config)
    family = build(groups["system"], System)
    domain = family.domain if recordings is None else recordings.domain
    groups["domain"] = domain.settings()
    if recordings is not None:
        inertia = list(recordings.inertias.numbers) if recordings.without_momenta else None
        groups["recordings"] = {"inertia": inertia, "fingerprint": recordings.fingerprint}
    undecided = groups["algo"].get("compile") == "auto"
    if undecided:
        groups["algo"]["compile"] = False
    learner = build_learner(groups)
    if undecided:
        points = (config.data.train_shots + config.data.train_queries) / 2
        groups["algo"]["compile"] = is_earned(learner, points, config.data.meta_batch, config.trainer.max_steps)
    if isinstance(family, SimulatedSystem) and learner.net.takes_kinetic_energies:
        groups["domain"] = with_kinetic_energies(family).settings()
    training = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("data", "optim")}
    training |= {key: config.trainer[key] for key in _TRAINER_KEYS}
    names = {group: choices[group] for group in GROUPS} | {"system": family_name(choices)}
    return {**groups, "names": names, "seed": config.seed, "training": training}


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


def _choose_accelerator(config: DictConfig) -> None:
    """Replaces `auto` by the kind of device that there is."""
    if config.trainer.accelerator == "auto":
        found = torch.cuda.is_available()
        config.trainer.accelerator = "gpu" if found else "cpu"
        log.info(f"Running on {torch.cuda.get_device_name() if found else 'the CPU: no CUDA device was found'}.")


def _check_devices(config: DictConfig) -> None:
    if config.trainer.accelerator == "gpu" and torch.cuda.device_count() < config.trainer.devices:
        raise ConfigError(
            f"trainer.accelerator=gpu trainer.devices={config.trainer.devices} is not allowed: "
            f"{torch.cuda.device_count()} CUDA devices were found; use trainer=cpu"
        )


def _shown(folder: str) -> Path:
    """The folder relative to the current one, which makes lines shorter."""
    return Path(os.path.relpath(folder))
