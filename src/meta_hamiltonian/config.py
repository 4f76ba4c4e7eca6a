"""The typed schema of the configuration. The defaults are in `conf/`; the types and the ranges are here."""

import dataclasses
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from meta_hamiltonian.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Allowed:
    """Which values a key takes: a test, and the words for it."""

    words: str
    test: Callable[[Any], bool]


def key(allowed: Allowed | None = None) -> Any:
    """A field without a default (it is in `conf/`), checked by [`check`][]."""
    return dataclasses.field(default=MISSING, metadata={"allowed": allowed})


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def integer(at_least: int) -> Allowed:
    return Allowed(f"an integer of at least {at_least}", lambda v: _is_int(v) and v >= at_least)


def integer_or_null(at_least: int) -> Allowed:
    allowed = integer(at_least)
    return Allowed(f"{allowed.words}, or null", lambda v: v is None or allowed.test(v))


def positive() -> Allowed:
    return Allowed("a finite number above 0", lambda v: 0 < v < math.inf)


def positive_or_null() -> Allowed:
    allowed = positive()
    return Allowed(f"{allowed.words}, or null", lambda v: v is None or allowed.test(v))


def not_negative() -> Allowed:
    return Allowed("a finite number of at least 0", lambda v: 0 <= v < math.inf)


def one_of(*names: str | bool | None) -> Allowed:
    words = ", ".join("null" if name is None else str(name).lower() for name in names)
    # 1 is not true here, as it is for Python.
    return Allowed(f"one of {words}", lambda v: any(v == name and type(v) is type(name) for name in names))


def integers(at_least: int) -> Allowed:
    """One number or a list of different ones."""

    def test(value: Any) -> bool:
        values = value if isinstance(value, list) else [value]
        return bool(values) and all(_is_int(v) and v >= at_least for v in values) and len(set(values)) == len(values)

    return Allowed(f"an integer of at least {at_least}, or a list of different ones", test)


@dataclasses.dataclass
class MetaSGDConfig:
    """`algo=metasgd`."""

    _target_: str = MISSING
    lr: float = key(positive())
    scale: str = key(one_of("none", "task"))
    first_order: bool = key()
    backend: str = key(one_of("vectorized", "learn2learn"))
    inner_steps: int = key(integer(1))
    compile: Any = key(one_of(True, False, "auto"))
    task_chunk: int | None = key(integer_or_null(1))


@dataclasses.dataclass
class GradientAlgoConfig(MetaSGDConfig):
    """`algo=maml`, `algo=fomaml` and `algo=anil`."""

    learn_lr: bool = key()


@dataclasses.dataclass
class RidgeConfig:
    """`algo=ridge`."""

    _target_: str = MISSING
    rank: int | None = key(integer_or_null(1))
    noise: float = key(positive())
    scale: str = key(one_of("none", "task"))


@dataclasses.dataclass
class FineTuneConfig:
    """`algo=pretrain` and `algo=scratch`."""

    _target_: str = MISSING
    optimizer: str = key(one_of("sgd", "adam"))
    lr: float = key(positive())
    scale: str = key(one_of("none", "task"))


@dataclasses.dataclass
class OracleConfig:
    """`algo=oracle`."""

    _target_: str = MISSING


@dataclasses.dataclass
class ModelConfig:
    _target_: str = MISSING
    width: int = key(integer(1))
    depth: int = key(integer(1))
    activation: str = key(one_of("tanh", "softplus", "sin", "silu"))


@dataclasses.dataclass
class ParametricConfig:
    """`model=parametric`: the true law of the system, its parameters unknown."""

    _target_: str = MISSING
    system: Any = MISSING


@dataclasses.dataclass
class PendulumConfig:
    _target_: str = MISSING
    gravity: float = key(positive())


@dataclasses.dataclass
class DataConfig:
    _target_: str = MISSING
    meta_batch: int = key(integer(1))
    tasks: int | None = key(integer_or_null(1))
    train_shots: int = key(integer(1))
    train_queries: int = key(integer(1))
    val_tasks: int = key(integer(1))
    num_workers: int = key(integer(0))
    noise: float = key(not_negative())


@dataclasses.dataclass
class OptimConfig:
    """The outer loop: a LightningModule and its arguments."""

    _target_: str = MISSING
    max_skipped: int = key(integer(1))


@dataclasses.dataclass
class AdamConfig(OptimConfig):
    lr: float = key(positive())
    rates_lr: float = key(positive())


@dataclasses.dataclass
class LevenbergMarquardtConfig(OptimConfig):
    damping: float = key(positive())


@dataclasses.dataclass
class TestConfig:
    steps: Any = key(integers(0))
    seed: int = key(integer(0))
    n_systems: int = key(integer(1))


@dataclasses.dataclass
class TrainerConfig:
    """Arguments of `lightning.Trainer`."""

    _target_: str = MISSING
    accelerator: str = key(one_of("cpu", "gpu"))
    strategy: str = key(one_of("auto", "ddp"))
    devices: int = key(integer(1))
    precision: str = key(one_of("32-true", "64-true"))
    max_steps: int = key(integer(1))
    gradient_clip_val: float | None = key(positive_or_null())
    val_check_interval: int = key(integer(1))
    log_every_n_steps: int = key(integer(1))
    enable_progress_bar: bool = key()
    task_chunk: int | None = key(integer_or_null(1))


@dataclasses.dataclass
class LoggerConfig:
    _target_: str | None = MISSING


@dataclasses.dataclass
class WandbConfig(LoggerConfig):
    project: str = key()
    mode: str | None = key(one_of(None, "online", "offline"))


@dataclasses.dataclass
class Config:
    """The whole configuration. The groups' own schemas are named in the files of `conf/`."""

    algo: Any = MISSING
    model: Any = MISSING
    system: Any = MISSING
    data: DataConfig = MISSING
    optim: Any = MISSING
    test: TestConfig = dataclasses.field(default_factory=TestConfig)
    trainer: TrainerConfig = MISSING
    logger: Any = MISSING
    seed: int = key(integer(0))
    shots: Any = key(integers(1))
    inner_steps: int = key(integer(1))
    compile: Any = key(one_of(True, False, "auto"))
    ckpt_path: str | None = key()
    resume: bool = key()


# Where a file in `conf/` names its group's schema, e.g. `- gradient_schema` in conf/algo/maml.yaml.
SCHEMAS: Mapping[str | None, Mapping[str, type]] = {
    None: {"schema": Config},
    "algo": {
        "gradient_schema": GradientAlgoConfig,
        "metasgd_schema": MetaSGDConfig,
        "ridge_schema": RidgeConfig,
        "finetune_schema": FineTuneConfig,
        "oracle_schema": OracleConfig,
    },
    "model": {"model_schema": ModelConfig, "parametric_schema": ParametricConfig},
    "optim": {"adam_schema": AdamConfig, "levenberg_marquardt_schema": LevenbergMarquardtConfig},
    "system": {"pendulum_schema": PendulumConfig},
    "data": {"data_schema": DataConfig},
    "trainer": {"trainer_schema": TrainerConfig},
    "logger": {"logger_schema": LoggerConfig, "wandb_schema": WandbConfig},
}


# The schema of the arguments of each class that a checkpoint may name.
_OF_CLASS: Mapping[str, type] = {
    "MAML": GradientAlgoConfig,
    "ANIL": GradientAlgoConfig,
    "MetaSGD": MetaSGDConfig,
    "Ridge": RidgeConfig,
    "FineTune": FineTuneConfig,
    "Scratch": FineTuneConfig,
    "Oracle": OracleConfig,
    "HamiltonianNetwork": ModelConfig,
    "VectorFieldNetwork": ModelConfig,
    "ParametricHamiltonian": ParametricConfig,
    "Pendulum": PendulumConfig,
}


def check_settings(kind: str, settings: Mapping[str, Any]) -> None:
    """Checks the arguments of a class against its schema, if it has one.

    **Raises:** [`ConfigError`][] in one line.
    """
    for name, value in settings.items():
        if isinstance(value, str) and "${" in value:  # OmegaConf would look up what it names
            raise ConfigError(f"{name} is not allowed to refer to other values")
    if kind not in _OF_CLASS:
        return
    try:
        merged = OmegaConf.merge(OmegaConf.structured(_OF_CLASS[kind]), dict(settings))
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).split("\n")[0]) from error
    assert isinstance(merged, DictConfig)
    _check_ranges(merged, prefix="")


def register() -> None:
    """Makes the schemas, and the bold type of `--help`, known to Hydra; call it before `hydra.main`."""
    from hydra.core.config_store import ConfigStore  # here: a checkpoint is checked without Hydra

    OmegaConf.register_new_resolver(
        "bold", lambda text: f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text, replace=True
    )
    # Under `uv run`, Ray would build the whole environment anew for each of its workers.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # The presets in conf/hydra/launcher have the names of the launchers that they are for, as they must.
    warnings.filterwarnings("ignore", r"\s*'hydra/\w+/\w+' is validated against ConfigStore schema")
    store = ConfigStore.instance()
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=group, name=name, node=schema)


def check(config: DictConfig) -> None:
    """Checks every value against its range.

    **Raises:** [`ConfigError`][] that names the first bad key, what was given and what is allowed.
    """
    _check_ranges(config, prefix="")
    if config.data.tasks is not None and config.data.meta_batch > config.data.tasks:
        raise ConfigError(
            f"data.meta_batch={config.data.meta_batch} is not allowed: a meta-batch holds different tasks, "
            f"at most data.tasks={config.data.tasks}; lower the first, raise the second or set it to null"
        )
    for name, tasks in (("data.meta_batch", config.data.meta_batch), ("test.n_systems", config.test.n_systems)):
        if tasks < config.trainer.devices:
            raise ConfigError(
                f"trainer.devices={config.trainer.devices} is not allowed with {name}={tasks}: each device needs a "
                "task of its own; lower the first or raise the second"
            )
    if _kind(config.optim) == "GaussNewton" and (_kind(config.algo), config.trainer.precision) != ("Ridge", "64-true"):
        raise ConfigError(
            "optim=levenberg_marquardt is not allowed here: it needs algo=ridge, which solves for the head, "
            "and trainer.precision=64-true; use optim=adam"
        )
    if config.algo.get("compile") is True and config.algo.backend == "learn2learn":
        raise ConfigError("compile=true is not allowed with algo.backend=learn2learn: use algo.backend=vectorized")
    if (_kind(config.model) == "ParametricHamiltonian") != (_kind(config.algo) == "Oracle"):
        raise ConfigError("model=parametric is not allowed here: it is the model of algo=oracle, and of no other")


def _kind(node: DictConfig) -> str:
    return str(node._target_).rpartition(".")[2]


def _check_ranges(node: DictConfig, prefix: str) -> None:
    schema = OmegaConf.get_type(node)
    if schema is None or not dataclasses.is_dataclass(schema):
        return
    fields = {field.name: field for field in dataclasses.fields(schema)}
    given = [name for name in fields if not OmegaConf.is_missing(node, name)]
    groups = [name for name in given if isinstance(node[name], DictConfig)]
    for name in (name for name in given if name not in groups):
        value = OmegaConf.to_container(node[name]) if OmegaConf.is_config(node[name]) else node[name]
        allowed = fields[name].metadata.get("allowed")
        if allowed is not None and not allowed.test(value):
            words = "null" if value is None else value
            raise ConfigError(f"{prefix}{name}={words} is not allowed: give {allowed.words}")
    for name in groups:  # after this level's own: inner_steps before algo.inner_steps, which repeats it
        _check_ranges(node[name], f"{prefix}{name}.")
