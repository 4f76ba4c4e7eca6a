"""The meta-training of a run: from its settings to its checkpoints."""

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.basics.devices import from_first, rank
from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.episodes.recordings import Recordings
from meta_hamiltonian.evaluation.calibration import band_factor
from meta_hamiltonian.inference.widened import MOST
from meta_hamiltonian.jobs.recorded import data_of
from meta_hamiltonian.learners import Learner, Ridge
from meta_hamiltonian.learners.checkpoint import SETTINGS_KEY, build, build_learner, load_trained, read_checkpoint
from meta_hamiltonian.systems import SimulatedSystem
from meta_hamiltonian.training.centres import find_centre
from meta_hamiltonian.training.modules import MetaModule
from meta_hamiltonian.training.orbits import OrbitLoop
from meta_hamiltonian.training.progress import ProgressBar
from meta_hamiltonian.training.saving import WholeCheckpoints, checkpoints
from meta_hamiltonian.training.surroundings import (
    Friction,
    find_friction,
    find_lawless,
    find_logarithms,
    find_separation,
    find_strangers,
    settle_rates,
)

log = logging.getLogger(__name__)


def train(
    config: DictConfig,
    settings: Mapping[str, Any],
    folder: Path,
    logger: Logger | None,
    resume: bool,
    recordings: Recordings | None = None,
) -> None:
    """Meta-trains and leaves `checkpoints/best.ckpt` and `checkpoints/last.ckpt` in the folder.

    With `resume` it goes on from the last one, if there is one.

    **Arguments:** `recordings`: the members of a family that has no formula.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    last = folder / "checkpoints" / "last.ckpt"
    if recordings is None and resume:
        settings = _as_begun(last, settings)
    dtype = torch.float64 if config.trainer.precision == "64-true" else torch.float32
    learner = build_learner(settings).to(dtype)  # before Lightning loads a checkpoint: it would be rounded
    data: Any
    if recordings is None:
        system = build(settings["system"], SimulatedSystem)
        data = instantiate(config.data, _partial_=True)(system=system, seed=config.seed, dtype=dtype)
    else:
        data = data_of(config, recordings, config.seed, dtype)
        if recordings.driven and not (isinstance(learner, Ridge) and learner.net.has_energy):
            raise ConfigError(
                "data.path is not allowed here: measured inputs act on the members, and their gains are solved for "
                "together with the head; use algo=ridge and a network with an energy, such as model=hnn"
            )
        if isinstance(learner, Ridge) and learner.net.has_energy:
            build_for = functools.partial(_solver, settings, dtype)
            if (domain := find_logarithms(build_for, data)) is not None or (
                domain := find_centre(build_for, data)
            ) is not None:
                settings = {**settings, "domain": domain.settings()}
                learner = build_for(domain)
            friction = _looked_at(learner, data, config.data.skip_bad)
            found = {"friction": list(friction.kinds), "doubt": friction.doubt}
            settings = {**settings, "recordings": {**settings["recordings"], **found}}
        if data.training_tasks < config.trainer.devices:
            raise ConfigError(
                f"trainer.devices={config.trainer.devices} is not allowed with {data.training_tasks} members for "
                "training: each device needs one of them; use fewer devices"
            )
    learner.prepare(data.training_tasks)
    if recordings is not None and config.data.loss == "orbits":
        module = _on_orbits(config, learner, settings, data)
    else:
        module = instantiate(config.optim, _partial_=True)(learner, settings)
    resumed = learner.meta_trained and from_first(_ready(last, settings, resume))
    if config.resume and not resumed:
        log.info(f"There is no {last} to resume: training starts anew.")
    if settings["algo"].get("compile"):
        log.info("The step is compiled first, which takes up to a minute; compile=false goes without.")
    # Lightning refuses an interval longer than the training.
    validated_every = min(config.trainer.val_check_interval, config.trainer.max_steps)
    if learner.net.latents:
        # Columns of heads that latents make needless have to go while there are steps left: Kepler with an unknown
        # centre reaches 1e-7 in 40 steps, and 6e-5 where its 6 columns are not looked at before the end.
        validated_every = min(validated_every, max(1, config.trainer.max_steps // 2))
    make_trainer = instantiate(
        OmegaConf.masked_copy(config.trainer, [key for key in config.trainer if key != "task_chunk"]), _partial_=True
    )
    trainer: Trainer = make_trainer(
        logger=logger or False,
        callbacks=[
            *checkpoints(folder / "checkpoints"),
            *([ProgressBar(config.trainer.log_every_n_steps)] if config.trainer.enable_progress_bar else []),
        ],
        use_distributed_sampler=False,  # the meta-batches come in parts already
        plugins=[WholeCheckpoints(), LightningEnvironment()],
        val_check_interval=validated_every,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    if not learner.meta_trained:
        trainer.strategy.connect(module)  # Lightning's way to save what was not trained
        trainer.save_checkpoint(folder / "checkpoints" / "best.ckpt")
        trainer.save_checkpoint(last)
        return
    trainer.fit(module, data, ckpt_path=last if resumed else None, weights_only=True)
    if recordings is not None and learner.has_posterior:
        if rank() == 0:
            _widen_bands(folder / "checkpoints", data.recordings)
        from_first(None)  # the others wait for the checkpoints


def _widen_bands(folder: Path, recordings: Recordings) -> None:
    """Keeps in both checkpoints by how much the bands of the family are too narrow."""
    trained = load_trained(folder / "best.ckpt")
    trained.learner.band_factor.fill_(1.0)  # of a training that was finished before
    factor = band_factor(
        trained.learner, recordings.val, recordings.train, recordings.inertias, trained.validation_loss
    )
    if factor >= MOST:
        log.warning(
            f"Forecasts of the family's own recordings miss by more than {MOST:g} times what their fits predict: bands "
            "are widened by that factor, and still too narrow; do not trust them."
        )
    elif factor > 1:
        log.info(f"Bands are widened by the factor {factor:.3g}, as forecasts of the family's own recordings ask for.")
    for path in (folder / "best.ckpt", folder / "last.ckpt"):
        kept = read_checkpoint(path)
        kept["state_dict"]["learner.band_factor"].fill_(factor)
        WholeCheckpoints().save_checkpoint(kept, path)


def _solver(settings: Mapping[str, Any], dtype: torch.dtype, domain: Domain) -> Ridge:
    """The learner that the settings describe, for another domain than theirs."""
    learner = build_learner({**settings, "domain": domain.settings()}).to(dtype)
    assert isinstance(learner, Ridge)
    return learner


def _looked_at(learner: Ridge, data: RecordedDataModule, skip_bad: bool) -> Friction:
    """The friction that the members have in common; warns of members that are not of the family, or leaves them out."""
    lawless = find_lawless(learner, data)
    _warned(lawless, "any sum of simple terms and friction", "it may be driven", skip_bad)
    if skip_bad:
        data.leave_out(lawless)
    find_separation(learner, data)
    settle_rates(learner, data)
    friction = find_friction(learner, data)
    found = find_strangers(learner, data)
    strangers = {name: ratio for name, ratio in found.items() if name not in lawless}
    _warned(strangers, "the best law of the family", "it may be driven, or of another family", skip_bad)
    if not strangers or not skip_bad:
        return friction
    data.leave_out(strangers)
    return find_friction(learner, data)


def _warned(members: Mapping[str, float], law: str, reason: str, skip_bad: bool) -> None:
    for name, ratio in members.items():
        log.warning(
            f"{name} is unlike the other members: {law} misses its rates {ratio:.2g} times as much as those of the "
            f"median member; {reason}{', and is left out' if skip_bad else ''}."
        )


def _on_orbits(
    config: DictConfig, learner: Learner, settings: Mapping[str, Any], data: RecordedDataModule
) -> MetaModule:
    """**Raises:** [`ConfigError`][] for a learner whose head is not solved for: the heads of members begin with it."""
    if not isinstance(learner, Ridge) or not learner.net.has_energy:
        raise ConfigError("data.loss=orbits is not allowed here: it needs algo=ridge and a network with an energy")
    return OrbitLoop(learner, settings, config.optim.max_skipped, data)


def _as_begun(last: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings with the domain of the training that is to go on.

    Another machine rounds its mass matrices otherwise, and the signs of the sums of their kinetic energies are free.
    """
    kept = read_checkpoint(last)[SETTINGS_KEY] if last.exists() else {}
    if "domain" in kept and _essential(kept["system"]) == _essential(settings["system"]):
        return {**settings, "domain": kept["domain"]}
    return settings


def _ready(last: Path, settings: Mapping[str, Any], resume: bool) -> bool:
    """Whether a training goes on from this checkpoint; if not, the checkpoints of an earlier one are removed, which was
    the same training.

    **Raises:** [`ConfigError`][] if the checkpoint is of another training, or of an unfinished one and `resume` is
    false.
    """
    if rank() != 0 or not last.exists():
        return False
    earlier = read_checkpoint(last)
    step, kept = earlier["global_step"], earlier[SETTINGS_KEY]
    steps = kept.get("training", {}).get("max_steps", step)
    if not resume and step < steps:
        raise ConfigError(
            f"resume=false is not allowed here: {last} is of a training that ended at step {step} of {steps}; "
            "go on with resume=true, or give another folder"
        )
    others = [key for key in settings if key in kept and _essential(kept[key]) != _essential(settings[key])]
    if others:
        reason = "" if resume else ", and would be lost"
        raise ConfigError(
            f"resume={str(resume).lower()} is not allowed here: {last} is of a training with other settings "
            f"({', '.join(others)}){reason}; give the command that it was started with, or another folder"
        )
    if resume:
        log.info(f"Going on from step {step} of {last}.")
        return True
    for file in last.parent.glob("*.ckpt"):
        file.unlink()
    return False


def _essential(settings: Any) -> Any:
    """The settings without those that change no result: how many processes draw the data, and modules of classes."""
    if isinstance(settings, Mapping):
        return {
            key: value.rpartition(".")[2] if key == "_target_" else _essential(value)
            for key, value in settings.items()
            if key != "num_workers"
        }
    return list(settings) if isinstance(settings, tuple) else settings
