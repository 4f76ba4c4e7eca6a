"""The one place where ranges are checked: for the command line, for checkpoints and for whoever calls from Python."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.config.schema import OF_CLASS


def check(config: DictConfig) -> None:
    """Checks every value against its range.

    **Raises:** [`ConfigError`][] that names the first bad key, what was given and what is allowed.
    """
    _check_ranges(config, prefix="")
    if says(config.data, "is_recorded"):
        _check_recorded(config)
    if (tasks := config.data.get("tasks")) is not None and config.data.meta_batch > tasks:
        raise ConfigError(
            f"data.meta_batch={config.data.meta_batch} is not allowed: a meta-batch holds different tasks, "
            f"at most data.tasks={tasks}; lower the first, raise the second or set it to null"
        )
    for name, tasks in (("data.meta_batch", config.data.meta_batch), ("test.n_systems", config.test.n_systems)):
        if tasks < config.trainer.devices:
            raise ConfigError(
                f"trainer.devices={config.trainer.devices} is not allowed with {name}={tasks}: each device needs a "
                "task of its own; lower the first or raise the second"
            )
    solved = says(config.algo, "solves_for_the_head") and config.trainer.precision == "64-true"
    if says(config.optim, "second_order") and not solved:
        raise ConfigError(
            "optim=levenberg_marquardt is not allowed here: it needs algo=ridge, which solves for the head, "
            "and trainer.precision=64-true; use optim=adam"
        )
    if config.algo.get("compile") is True and config.algo.backend == "learn2learn":
        raise ConfigError("compile=true is not allowed with algo.backend=learn2learn: use algo.backend=vectorized")
    if says(config.model, "is_the_law") != says(config.algo, "fits_the_law"):
        raise ConfigError("model=parametric is not allowed here: it is the model of algo=oracle, and of no other")


def _check_recorded(config: DictConfig) -> None:
    if OmegaConf.is_missing(config.data, "path"):
        raise ConfigError("data.path is missing: give the folder of the recordings, data.path=FOLDER")
    for group in ("friction", "drive"):
        if config[group] is not None:
            raise ConfigError(
                f"+{group} is not allowed with recordings: what acts on their members is found, not given"
            )
    if config.algo.get("latents"):
        raise ConfigError(
            f"algo.latents={config.algo.latents} is not allowed with recordings: their members have unknowns in the "
            "head alone so far; leave algo.latents at 0"
        )
    if says(config.algo, "fits_the_law"):
        raise ConfigError("algo=oracle is not allowed with recordings: it fits a formula, and they have none")


def check_arguments(cls: type, **values: Any) -> None:
    """Checks arguments of a class against the schema that it, or a class it is made from, has.

    **Raises:** [`ConfigError`][], a `ValueError`, in one line.
    """
    schema = next((OF_CLASS[base.__name__] for base in cls.__mro__ if base.__name__ in OF_CLASS), None)
    fields = {} if schema is None else {field.name: field for field in dataclasses.fields(schema)}
    for name, value in values.items():
        if name in fields:
            _check(fields[name], value, name)


def check_settings(kind: str, settings: Mapping[str, Any]) -> None:
    """Checks the types of the arguments of a class, as a checkpoint holds them, against its schema, if it has one.

    **Raises:** [`ConfigError`][] in one line.
    """
    for name, value in settings.items():
        if isinstance(value, str) and "${" in value:  # OmegaConf would look up what it names
            raise ConfigError(f"{name} is not allowed to refer to other values")
    if kind not in OF_CLASS:
        return
    try:
        merged = OmegaConf.merge(OmegaConf.structured(OF_CLASS[kind]), dict(settings))
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).split("\n")[0]) from error
    assert isinstance(merged, DictConfig)
    _check_ranges(merged, prefix="")


def says(node: DictConfig, capability: str) -> bool:
    """What the schema of a group says of itself; a group without one, such as a user's own, says nothing."""
    return getattr(OmegaConf.get_type(node), capability, False)


def _check(field: "dataclasses.Field[Any]", value: Any, name: str) -> None:
    allowed = field.metadata.get("allowed")
    if allowed is not None and not allowed.test(value):
        raise ConfigError(f"{name}={'null' if value is None else value} is not allowed: give {allowed.words}")


def _check_ranges(node: DictConfig, prefix: str) -> None:
    schema = OmegaConf.get_type(node)
    if schema is None or not dataclasses.is_dataclass(schema):
        return
    fields = {field.name: field for field in dataclasses.fields(schema)}
    given = [name for name in fields if not OmegaConf.is_missing(node, name)]
    groups = [name for name in given if isinstance(node[name], DictConfig)]
    for name in (name for name in given if name not in groups):
        value = OmegaConf.to_container(node[name]) if OmegaConf.is_config(node[name]) else node[name]
        _check(fields[name], value, f"{prefix}{name}")
    for name in groups:  # after this level's own: inner_steps before algo.inner_steps, which repeats it
        _check_ranges(node[name], f"{prefix}{name}.")
