"""How Hydra finds the configuration: its folder, its schemas, its help, and classes of a user's own."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

import meta_hamiltonian
from meta_hamiltonian.basics.registry import registered
from meta_hamiltonian.config import SCHEMAS, ConfigError
from meta_hamiltonian.config.help import keys_help

GROUPS = ("system", "model", "algo")
"""The groups whose classes are named in checkpoints."""


def conf_folder() -> Path:
    """`conf/`: inside an installed package, and at the top of a clone."""
    package = Path(meta_hamiltonian.__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def register_schemas() -> None:
    """Makes the schemas and the text of `--help` known to Hydra; call it before `hydra.main`."""
    OmegaConf.register_new_resolver(
        "keys_help", lambda *, _root_: keys_help(_root_, conf_folder()), replace=True, use_cache=False
    )
    # Under `uv run`, Ray would build the whole environment anew for each of its workers.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # The presets in conf/hydra/launcher have the names of the launchers that they are for, as they must.
    warnings.filterwarnings("ignore", r"\s*'hydra/\w+/\w+' is validated against ConfigStore schema")
    store = ConfigStore.instance()
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=group, name=name, node=schema)
    # Hydra copies all schemas, its own too, for each group that `--help` lists and each job that it composes: seconds.
    # What it takes from the store it copies again, so that one store serves all.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # pyright: ignore[reportAttributeAccessIssue]


def import_classes(config: DictConfig) -> None:
    """Imports the classes that the configuration names, so that checkpoints may name them: a user's own families too.

    These are found where Python finds modules, and in the folder that the command was given in.

    **Raises:** [`ConfigError`][] for one that does not exist or is not registered.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    named: list[tuple[str, Any]] = [(f"{group}._target_", config[group]._target_) for group in GROUPS]
    families: Any = config.system.get("of")  # of a mixture
    named += [("system.of", name) for name in families if "." in str(name)] if OmegaConf.is_list(families) else []
    for key, target in named:
        try:
            get_class(target)
        except Exception as error:  # Hydra wraps whatever a user's module raises
            reason = " ".join(str(error.__cause__ or error).split())
            raise ConfigError(f"{key}={target} is not allowed: it cannot be imported ({reason})") from error
        if registered(target) is None:
            raise ConfigError(
                f"{key}={target} is not allowed: checkpoints could not name it; decorate the class with "
                "@register of meta_hamiltonian.systems"
            )
