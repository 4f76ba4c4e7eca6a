"""The command that trains: `python train.py ...`, and `meta-hamiltonian train ...` where the package is installed."""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from meta_hamiltonian.basics.exceptions import ConfigError, DivergedError, StoppedError, StorageError
from meta_hamiltonian.basics.plain_values import find_checkpoint
from meta_hamiltonian.config import check
from meta_hamiltonian.jobs import refusals
from meta_hamiltonian.jobs.composition import conf_folder, register_schemas
from meta_hamiltonian.jobs.threads import wait_passively

wait_passively()
register_schemas()
refusals.in_one_line()


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def main(config: DictConfig) -> float | None:
    """Runs one job, and turns errors that a user can do something about into one line."""
    wait_passively()  # a worker of a launcher begins here
    try:
        check(config)
        if config.ckpt_path is not None:
            _find(config.ckpt_path)
        from meta_hamiltonian.jobs.run import run  # here: it takes seconds, which `--help` and a refusal need not

        return run(config)
    except StoppedError as error:
        sys.exit(f"Stopped: {error}")  # a whole sweep too
    except (ConfigError, DivergedError, StorageError) as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise CompactHydraException(str(error)) from error  # SystemExit would end the whole sweep
        sys.exit(f"Error: {error}")


def _find(path: str) -> None:
    """**Raises:** [`ConfigError`][] if there is no checkpoint, before PyTorch is imported to read one."""
    try:
        find_checkpoint(Path(path))
    except FileNotFoundError as error:
        raise ConfigError(f"ckpt_path={path} is not allowed: {error}") from error
