"""The typed schema of the configuration: type, range and help text of every key. The values are in `conf/`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from omegaconf import MISSING

from meta_hamiltonian.config.fields import (
    integer,
    integer_or_name,
    integers,
    key,
    names,
    not_negative,
    one_of,
    part,
    positive,
)

_FRICTION = ("viscous", "quadratic", "dry")


@dataclasses.dataclass
class AlgoConfig:
    """What every algorithm says of itself."""

    _target_: str = MISSING
    fits_the_law: ClassVar[bool] = False
    """Whether it is for the family's own law instead of a network."""
    solves_for_the_head: ClassVar[bool] = False
    """Whether the outer loop may take second-order steps."""


@dataclasses.dataclass
class ScaledConfig(AlgoConfig):
    """The keys of an algorithm that adapts a network."""

    scale: str = key(one_of("none", "task"), "task: derivatives in units of their RMS over the support set; none: raw")


@dataclasses.dataclass
class MetaSGDConfig(ScaledConfig):
    """`algo=metasgd`."""

    lr: float = key(positive(), "inner rate; where the rates are learned, their initial value")
    first_order: bool = key(None, "ignore how the inner gradients depend on the initial weights")
    backend: str = key(one_of("vectorized", "learn2learn"), "all tasks at once, or task by task through learn2learn")
    inner_steps: int = key(integer(1), "")
    compile: Any = key(one_of(True, False, "auto"), "")
    task_chunk: int | None = key(integer(1).or_null(), "")


@dataclasses.dataclass
class GradientAlgoConfig(MetaSGDConfig):
    """`algo=maml`, `algo=fomaml` and `algo=anil`."""

    learn_lr: bool = key(None, "learn a rate for each inner step and parameter tensor")


@dataclasses.dataclass
class RidgeConfig(ScaledConfig):
    """`algo=ridge`."""

    rank: Any = key(
        integer(1).or_word("auto").or_null(),
        "number of unknowns of a head; auto: as many as held-out tasks ask for, found in training; null: all weights",
    )
    noise: float = key(positive(), "variance of the noise of the scaled derivatives, which is the ridge parameter")
    latents: Any = key(
        integer(0).or_word("auto"),
        "number of unknowns of a member that no linear head can follow (latents); auto: training finds how many are "
        "needed",
    )
    solves_for_the_head: ClassVar[bool] = True


@dataclasses.dataclass
class ContextConfig(ScaledConfig):
    """What tells a member from the others is a vector of few numbers: `algo=camel`."""

    dimension: int = key(integer(1), "numbers that tell a member from the others")


@dataclasses.dataclass
class AutoDecoderConfig(ContextConfig):
    """An algorithm that finds the vector of a new member by gradient steps: `algo=coda` and `algo=svd`."""

    lr: float = key(positive(), "Adam's rate for the numbers of a new member")
    steps: int = key(integer(1), "Adam steps for a new member, where test.steps does not say how many")


@dataclasses.dataclass
class CoDAConfig(AutoDecoderConfig):
    """`algo=coda`."""

    penalty: str = key(one_of("l1", "l2"), "l1 makes some rows of the hypernetwork 0, l2 all of them small")
    context_penalty: float = key(not_negative(), "weight of the squared norm of each member's context in the loss")
    weight_penalty: float = key(not_negative(), "weight of the penalty on the hypernetwork in the loss")


@dataclasses.dataclass
class SVDConfig(AutoDecoderConfig):
    """`algo=svd`."""

    rank: int = key(integer(1), "singular values of each layer that a member has of its own")
    locality: float = key(not_negative(), "weight of the squared norms of each member's code and of the hypernetwork")
    orthogonality: float = key(not_negative(), "factor of the penalty on singular vectors that are not orthonormal")


@dataclasses.dataclass
class CAVIAConfig(ContextConfig):
    """`algo=cavia`."""

    lr: float = key(positive(), "inner rate")
    first_order: bool = key(None, "ignore how the inner gradients depend on the shared weights")
    backend: str = key(one_of("vectorized", "learn2learn"), "all tasks at once, or task by task through learn2learn")
    inner_steps: int = key(integer(1), "")
    task_chunk: int | None = key(integer(1).or_null(), "")


@dataclasses.dataclass
class EncoderConfig(ScaledConfig):
    """`algo=encoder`."""

    basis: int = key(integer(1), "how many basis fields there are")
    ridge: float = key(positive(), "weight of the squared norm of the coefficients in the least squares")
    norm: float = key(not_negative(), "factor of the penalty on basis fields that are not of unit length")


@dataclasses.dataclass
class FineTuneConfig(ScaledConfig):
    """`algo=pretrain` and `algo=scratch`."""

    optimizer: str = key(one_of("sgd", "adam"), "optimizer of the fine-tuning")
    lr: float = key(positive(), "rate of the fine-tuning")


@dataclasses.dataclass
class OracleConfig(AlgoConfig):
    """`algo=oracle`."""

    fits_the_law: ClassVar[bool] = True


@dataclasses.dataclass
class ModelConfig:
    """A network."""

    _target_: str = MISSING
    width: int = key(integer(1), "size of the hidden layers")
    depth: int = key(integer(1), "number of the hidden layers")
    activation: str = key(one_of("tanh", "softplus", "sin", "silu"), "function between the hidden layers")
    inputs: str | None = key(
        one_of("raw", "natural", None),
        "raw: coordinates in units of the box; natural: angles as cos and sin, log distances to what is excluded, and "
        "neighbours on a lattice; null: as the family says",
    )
    is_the_law: ClassVar[bool] = False


@dataclasses.dataclass
class NaturalConfig(ModelConfig):
    """What `algo=ridge` makes of `model=hnn`."""

    degree: int = key(integer(2), "the highest number of lengths in a product that is a feature")


@dataclasses.dataclass
class DissipativeConfig(ModelConfig):
    """`model=dissipative`."""

    friction: str | None = key(
        one_of(*_FRICTION, None), "kind of the dissipation; null: any, learned by a network of the momenta"
    )
    friction_width: int = key(integer(1), "size of the network of the momenta")
    damped: int | None = key(integer(1).or_null(), "")


@dataclasses.dataclass
class ParametricConfig:
    """`model=parametric`: the true law of the system, its parameters unknown."""

    _target_: str = MISSING
    system: Any = MISSING
    is_the_law: ClassVar[bool] = True


@dataclasses.dataclass
class PendulumConfig:
    """`system=pendulum`."""

    _target_: str = MISSING
    gravity: float = key(positive(), "gravity g")


@dataclasses.dataclass
class KeplerConfig:
    """`system=kepler`."""

    _target_: str = MISSING
    centre: float = key(not_negative(), "how far from 0 the sun may be on each axis, at most 1.5; 0: the sun is at 0")


@dataclasses.dataclass
class SpringPendulumConfig:
    """`system=spring_pendulum`."""

    _target_: str = MISSING
    spread: float = key(not_negative(), "how far from 1 the rest length may be, at most 0.5; 0: the rest length is 1")


@dataclasses.dataclass
class DoublePendulumConfig:
    """`system=double_pendulum`."""

    _target_: str = MISSING
    gravity: float = key(positive(), "gravity g")


@dataclasses.dataclass
class ChainConfig:
    """`system=chain`."""

    _target_: str = MISSING
    n: int = key(integer(2), "how many particles")


@dataclasses.dataclass
class MixtureConfig:
    """`system=mixture`."""

    _target_: str = MISSING
    of: Any = key(names(), "its families, alike in degrees of freedom; my_package.MyFamily for one of your own")


@dataclasses.dataclass
class DampedConfig:
    """`+friction=viscous`, `quadratic` or `dry`: around any system."""

    _target_: str = MISSING
    system: Any = MISSING
    friction: str = key(one_of(*_FRICTION), "")
    low: float = key(not_negative(), "smallest coefficient d of friction in the family")
    high: float = key(positive(), "largest coefficient d, above friction.low")
    width: float = key(positive(), "speed below which dry friction is smoothed; other kinds do not use it")


@dataclasses.dataclass
class DrivenConfig:
    """`+drive=sine`: around any system."""

    _target_: str = MISSING
    system: Any = MISSING
    low: float = key(not_negative(), "smallest amplitude A of the force in the family")
    high: float = key(positive(), "largest amplitude A, above drive.low")
    slowest: float = key(positive(), "smallest frequency ω in the family")
    fastest: float = key(positive(), "largest frequency ω, above drive.slowest")


@dataclasses.dataclass
class DataConfig:
    """The tasks of the meta-training."""

    _target_: str = MISSING
    meta_batch: int = key(integer(1), "tasks per outer step")
    tasks: int | None = key(integer(1).or_null(), "size of the fixed training set; null: new tasks in every step")
    train_shots: int = key(integer(1), "support points in training")
    train_queries: int = key(integer(1), "query points in training")
    val_tasks: int = key(integer(1), "held-out tasks on which the best checkpoint is chosen")
    noise: float = key(not_negative(), "noise of the support sets, relative to the RMS of each coordinate")
    num_workers: int = key(integer(0), "processes that draw tasks; the data are the same with any number")


@dataclasses.dataclass
class RecordedDataConfig:
    """`data=recorded`, which `system=recorded` brings: recordings of the members of a family."""

    _target_: str = MISSING
    path: str = key(None, "a folder with a file or a folder for each member, or one table (see data.member)")
    member: str | None = key(None, "the column that names the members, where one table holds them all")
    split: Any = key(integer_or_name(), "members for training, validation and test: a seed, or a column of members.csv")
    held_out: float = key(part(), "fraction of the members for validation, and the same fraction for the test")
    query: str = key(one_of("random", "later"), "query points of a member: any of its own, or those of its second half")
    loss: str = key(
        one_of("derivatives", "orbits"),
        "what is learned from: smoothed derivatives, or the orbits by multiple shooting",
    )
    margin: float = key(not_negative(), "margin of the domain around what was observed, as a part of its width")
    inertia: Any = key(None, "where p was not observed, p = inertia · dq/dt: a number, or one for each coordinate")
    columns: dict[str, str] = key(
        None,
        "which column is what, where names do not tell: {q: theta, t: time}; {q: ln prey} is the logarithm of prey",
    )
    units: dict[str, str] = key(None, "units, where the files do not tell them: {q: deg, t: ms}")
    angles: list[str] | None = key(None, "which positions are angles, such as [q]; null: as names and units tell")
    dofs: int | None = key(integer(1).or_null(), "degrees of freedom; null: as many as are named")
    skip_bad: bool = key(None, "go on without members that cannot be read or are unlike the others")
    meta_batch: int = key(integer(1), "members per outer step, at most all of them")
    train_shots: int = key(integer(1), "support points of a member in training, at most half of what it has")
    train_queries: int = key(integer(1), "query points of a member in training, at most half of what it has")
    is_recorded: ClassVar[bool] = True
    """Whether it names files."""


@dataclasses.dataclass
class OptimConfig:
    """The outer loop: a LightningModule and its arguments."""

    _target_: str = MISSING
    max_skipped: int = key(integer(1), "how many meta-batches in a row without a finite gradient stop the run")
    second_order: ClassVar[bool] = False


@dataclasses.dataclass
class AdamConfig(OptimConfig):
    """`optim=adam`."""

    lr: float = key(positive(), "Adam's rate for the network")
    rates_lr: float = key(positive(), "Adam's rate for whatever else is learned")


@dataclasses.dataclass
class LevenbergMarquardtConfig(OptimConfig):
    """`optim=levenberg_marquardt`."""

    damping: float = key(positive(), "initial damping of the second-order steps")
    second_order: ClassVar[bool] = True


@dataclasses.dataclass
class TestConfig:
    """The meta-test."""

    steps: Any = key(integers(0), "gradient steps after which new systems are tested")
    seed: int = key(integer(0), "seed of the test systems; training seeds never reach it")
    n_systems: int = key(integer(1), "how many new systems")
    observed: float = key(part(), "first part of each test recording, as a fraction, from which the rest is predicted")


@dataclasses.dataclass
class TrainerConfig:
    """Arguments of `lightning.Trainer`."""

    _target_: str = MISSING
    max_steps: int = key(integer(1), "outer steps; the default depends on algo")
    task_chunk: int | None = key(
        integer(1).or_null(), "tasks whose gradient is taken at once; null: as many as stay in the cache"
    )
    accelerator: str = key(one_of("cpu", "gpu", "auto"), "what the devices are; auto: a GPU where there is one")
    devices: int = key(integer(1), "how many processes share the tasks")
    strategy: str = key(one_of("auto", "ddp"), "how devices share a run; ddp: each takes a part of the tasks")
    precision: str = key(one_of("32-true", "64-true"), "precision of weights and tasks")
    gradient_clip_val: float | None = key(
        positive().or_null(), "largest norm of the meta-gradient, to which longer ones are clipped; null: no clipping"
    )
    val_check_interval: int = key(integer(1), "outer steps between validations")
    log_every_n_steps: int = key(integer(1), "outer steps between logged values")
    enable_progress_bar: bool = key(None, "show a progress bar")


@dataclasses.dataclass
class LoggerConfig:
    """Where metrics go."""

    _target_: str | None = MISSING


@dataclasses.dataclass
class WandbConfig(LoggerConfig):
    """`logger=wandb`."""

    project: str = key(None, "project in W&B")
    mode: str | None = key(
        one_of(None, "online", "offline"),
        "online or offline; null: online where a key is configured and the server answers",
    )


@dataclasses.dataclass
class Config:
    """The whole configuration. The groups' own schemas are named in the files of `conf/`."""

    shots: Any = key(
        integers(1).or_null(),
        "K, the number of observed (support) points at the meta-test, or a list; null: 25 and 50, with several "
        "degrees of freedom 100 and 200 too",
    )
    inner_steps: int = key(integer(1), "gradient steps of the inner loop in training")
    seed: int = key(integer(0), "seed of the initial weights and the training tasks")
    compile: Any = key(one_of(True, False, "auto"), "whether the step is compiled; auto: in long trainings")
    ckpt_path: str | None = key(None, "test this run folder or checkpoint file without training")
    resume: bool = key(
        None,
        "go on from the last checkpoint in hydra.run.dir, or start anew without one; a sweep in hydra.sweep.dir skips "
        "the jobs that are finished",
    )
    algo: Any = MISSING
    model: Any = MISSING
    system: Any = MISSING
    friction: Any = None
    drive: Any = None
    data: Any = MISSING
    optim: Any = MISSING
    test: TestConfig = dataclasses.field(default_factory=TestConfig)
    trainer: TrainerConfig = MISSING
    logger: Any = MISSING


GROUPS: Mapping[str, str] = {
    "algo": "how a network is adapted to a system",
    "model": "the network",
    "system": "the family of systems",
    "+friction": "what slows the family down; its coefficient is a parameter with a range",
    "+drive": "what pushes the family; amplitude and frequency are parameters with ranges",
    "method": "a named combination of algo and model",
    "experiment": "a named set of changes to the defaults, or a sweep",
    "optim": "the outer loop; levenberg_marquardt is for algo=ridge",
    "logger": "where metrics go",
    "trainer": "where training runs; ddp: on several devices, which share the tasks",
    "hydra/launcher": "where the jobs of a sweep run; without it one by one",
}
"""The config groups that users choose from, and what each is."""


# Where a file in `conf/` names its group's schema, e.g. `- gradient_schema` in conf/algo/maml.yaml.
SCHEMAS: Mapping[str | None, Mapping[str, type]] = {
    None: {"schema": Config},
    "algo": {
        "gradient_schema": GradientAlgoConfig,
        "metasgd_schema": MetaSGDConfig,
        "ridge_schema": RidgeConfig,
        "camel_schema": ContextConfig,
        "cavia_schema": CAVIAConfig,
        "coda_schema": CoDAConfig,
        "svd_schema": SVDConfig,
        "encoder_schema": EncoderConfig,
        "finetune_schema": FineTuneConfig,
        "oracle_schema": OracleConfig,
    },
    "model": {
        "model_schema": ModelConfig,
        "dissipative_schema": DissipativeConfig,
        "parametric_schema": ParametricConfig,
    },
    "optim": {"adam_schema": AdamConfig, "levenberg_marquardt_schema": LevenbergMarquardtConfig},
    "system": {
        "pendulum_schema": PendulumConfig,
        "kepler_schema": KeplerConfig,
        "spring_pendulum_schema": SpringPendulumConfig,
        "double_pendulum_schema": DoublePendulumConfig,
        "chain_schema": ChainConfig,
        "mixture_schema": MixtureConfig,
        "damped_schema": DampedConfig,
    },
    "friction": {"damped_schema": DampedConfig},
    "drive": {"driven_schema": DrivenConfig},
    "data": {"data_schema": DataConfig, "recorded_data_schema": RecordedDataConfig},
    "trainer": {"trainer_schema": TrainerConfig},
    "logger": {"logger_schema": LoggerConfig, "wandb_schema": WandbConfig},
}


OF_CLASS: Mapping[str, type] = {
    "Learner": ScaledConfig,
    "MAML": GradientAlgoConfig,
    "ANIL": GradientAlgoConfig,
    "MetaSGD": MetaSGDConfig,
    "Ridge": RidgeConfig,
    "CAMEL": ContextConfig,
    "CAVIA": CAVIAConfig,
    "CoDA": CoDAConfig,
    "SVD": SVDConfig,
    "FunctionEncoder": EncoderConfig,
    "FineTune": FineTuneConfig,
    "Scratch": FineTuneConfig,
    "Oracle": OracleConfig,
    "HamiltonianNetwork": ModelConfig,
    "Inputs": ModelConfig,
    "NaturalNetwork": NaturalConfig,
    "VectorFieldNetwork": ModelConfig,
    "DissipativeNetwork": DissipativeConfig,
    "ParametricHamiltonian": ParametricConfig,
    "Pendulum": PendulumConfig,
    "Kepler": KeplerConfig,
    "SpringPendulum": SpringPendulumConfig,
    "DoublePendulum": DoublePendulumConfig,
    "Chain": ChainConfig,
    "Mixture": MixtureConfig,
    "Damped": DampedConfig,
    "Driven": DrivenConfig,
}
"""The schema of the arguments of each class that a checkpoint may name."""
