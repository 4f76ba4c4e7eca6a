"""The command that trains: `python train.py ...`, and `meta-hamiltonian train ...` where the package is installed."""

import shutil
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from meta_hamiltonian.basics.exceptions import ConfigError, DivergedError, StoppedError, StorageError
from meta_hamiltonian.basics.plain_values import find_checkpoint
from meta_hamiltonian.config import check, says
from meta_hamiltonian.jobs import refusals
from meta_hamiltonian.jobs.composition import conf_folder, register_schemas
from meta_hamiltonian.jobs.threads import wait_passively
from meta_hamiltonian.observations.forms import ObservationError
from meta_hamiltonian.observations.places import check_there

wait_passively()
register_schemas()
refusals.in_one_line()


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def main(config: DictConfig) -> float | None:
    """Runs one job, and turns errors that a user can do something about into one line."""
    wait_passively()  # a worker of a launcher begins here
    try:
        _check_names()
        check(config)
        if config.ckpt_path is not None:
            _find(config.ckpt_path)
        if says(config.data, "is_recorded"):
            _look_at(config.data.path, config.data.member)
        from meta_hamiltonian.jobs.run import run  # here: it takes seconds, which `--help` and a refusal need not

        return run(config)
    except StoppedError as error:
        sys.exit(f"Stopped: {error}")  # a whole sweep too
    except (ConfigError, DivergedError, StorageError) as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise CompactHydraException(str(error)) from error  # SystemExit would end the whole sweep
        if isinstance(error, ConfigError):
            _leave_nothing(Path(HydraConfig.get().runtime.output_dir))
        sys.exit(f"Error: {error}")


def _check_names() -> None:
    """**Raises:** [`ConfigError`][] for a file of a user's own that Hydra passes over, since its name is taken."""
    own = [one.path for one in HydraConfig.get().runtime.config_sources if one.provider == "command-line"]
    shipped = conf_folder()
    for folder in map(Path, own):
        for file in sorted(folder.rglob("*.yaml")):
            name = file.relative_to(folder)
            if (shipped / name).is_file() and (shipped / name).read_bytes() != file.read_bytes():
                raise ConfigError(
                    f"--config-dir={folder.name} is not allowed: {name} has the name of a file of the package, which "
                    "would be used in its place; give it another name"
                )


def _look_at(path: str, member: str | None) -> None:
    """**Raises:** [`ConfigError`][] for recordings that are not there, before PyTorch is imported to read them."""
    try:
        check_there(Path(path), member)
    except ObservationError as error:
        raise ConfigError(f"data.path: {error}") from error


def _leave_nothing(folder: Path) -> None:
    """Removes what Hydra wrote into the folder of a run that was refused, if nothing else is there."""
    hydras = {".hydra", "train.log"}
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= hydras:
        shutil.rmtree(folder)


def _find(path: str) -> None:
    """**Raises:** [`ConfigError`][] if there is no checkpoint, before PyTorch is imported to read one."""
    try:
        find_checkpoint(Path(path))
    except FileNotFoundError as error:
        raise ConfigError(f"ckpt_path={path} is not allowed: {error}") from error
