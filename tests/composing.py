"""Composes a configuration as `train.py` does, without running it."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from meta_hamiltonian.jobs.composition import conf_folder, register_schemas


def composed(*overrides: str) -> DictConfig:
    register_schemas()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return compose("config", list(overrides))
