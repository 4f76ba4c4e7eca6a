"""`python train.py algo=maml`: meta-trains, tests on new systems and reports. `--help` explains every key."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from meta_hamiltonian.config import check, register
from meta_hamiltonian.errors import ConfigError, DivergedError, StoppedError, StorageError

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    try:
        check(config)
        from meta_hamiltonian.experiment import run  # here: it takes seconds, which `--help` and a refusal need not

        return run(config)
    except StoppedError as error:
        sys.exit(f"Stopped: {error}")  # a whole sweep too
    except (ConfigError, DivergedError, StorageError) as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise CompactHydraException(str(error)) from error  # SystemExit would end the whole sweep
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
