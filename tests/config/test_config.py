"""Which configurations are allowed, and what is said of the others."""

import pathlib

import pytest
from composing import changed, composed
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from meta_hamiltonian.config import ConfigError, check
from meta_hamiltonian.dynamics.friction import FRICTION


@pytest.mark.parametrize("algo", ["maml", "anil"])
@pytest.mark.parametrize("model", ["hnn", "mlp"])
def test_every_choice_is_allowed_as_it_is(algo, model):
    check(composed(f"algo={algo}", f"model={model}"))


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_every_logger_is_allowed(logger):
    check(composed(f"logger={logger}"))


@pytest.mark.parametrize(
    "algo",
    [
        "camel",
        "cavia",
        "coda",
        "encoder",
        "fomaml",
        "metasgd",
        "oracle",
        "pretrain",
        "ridge",
        "scratch",
        "svd",
    ],
)
def test_every_algorithm_is_allowed_as_it_is(algo):
    check(composed(f"algo={algo}"))


CONF = pathlib.Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("file", sorted((CONF / "method").rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_method_is_allowed(file):
    check(composed(f"method={file.relative_to(CONF / 'method').with_suffix('')}"))


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_is_allowed(file):
    check(composed(f"experiment={file.stem}"))


@pytest.mark.parametrize("algo", ["maml", "anil"])
def test_the_posters_methods_are_the_plain_algorithms(algo):
    config = composed(f"method={algo}")
    assert (config.algo.scale, config.algo.learn_lr, config.algo.first_order) == ("none", False, False)
    assert config.algo.inner_steps == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algo=scratch", "optim=levenberg_marquardt"], "optim=levenberg_marquardt .*algo=ridge"),
        (["algo=ridge", "trainer.precision=32-true"], "64-true"),
        (["algo=maml", "model=parametric"], "model=parametric .*algo=oracle"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check(composed(*overrides))


def test_the_protocol_is_the_default():
    config = composed()
    assert (config.data.tasks, config.data.train_shots, config.data.train_queries) == (10_000, 50, 50)
    assert (config.shots, config.inner_steps) == (None, 5)  # K = 25, 50 for one degree of freedom: tests/jobs
    assert (OmegaConf.to_container(config.test.steps), config.test.n_systems) == ([0, 1, 5, 10, 50], 100)
    assert config.system.gravity == 1.0


def test_the_plain_algorithm_is_two_keys_away():
    config = composed("algo.scale=none", "algo.learn_lr=false")
    check(config)
    assert (config.algo.scale, config.algo.learn_lr) == ("none", False)


@pytest.mark.parametrize(
    "override",
    [
        "shots=1",
        "shots=[1,2,3]",
        "inner_steps=1",
        "data.tasks=null",
        "data.tasks=16",
        "data.num_workers=2",
        "test.steps=0",
        "test.steps=[0]",
        "algo.lr=1e-5",
        "algo.first_order=true",
        "logger.mode=offline",
        "trainer.precision=64-true",
        "system.gravity=9.81",
    ],
)
def test_values_at_the_edge_of_their_ranges_are_allowed(override):
    check(changed(override))


@pytest.mark.parametrize(
    "override", ["system=spring", "system=duffing", "+friction=dry", "+drive=sine", "model=dissipative"]
)
def test_every_family_is_allowed(override):
    check(composed(override))


def test_changing_a_key_is_what_composing_with_it_gives():
    overrides = ["shots=[1,2,3]", "data.tasks=null", "algo.lr=inf", "logger.mode=offline"]
    assert changed(*overrides) == composed(*overrides)


REFUSED = {
    "shots=0": "shots=0",
    "shots=[25,0]": r"shots=\[25, 0\]",
    "shots=[25,25]": "different",
    "shots=[]": "shots",
    "shots=many": "shots=many",
    "shots=2.5": "shots=2.5",
    "shots=true": "shots",
    "inner_steps=0": "inner_steps=0",
    "inner_steps=-1": "inner_steps=-1",
    "seed=-1": "seed=-1",
    "data.tasks=-5": "data.tasks=-5 .*null",
    "data.tasks=0": "data.tasks=0",
    "data.meta_batch=0": "data.meta_batch=0",
    "data.meta_batch=10001": "at most data.tasks=10000",
    "data.train_shots=0": "data.train_shots=0",
    "data.train_queries=0": "data.train_queries=0",
    "data.val_tasks=0": "data.val_tasks=0",
    "data.num_workers=-1": "data.num_workers=-1",
    "algo.lr=0": "algo.lr=0",
    "algo.lr=-0.1": "algo.lr=-0.1",
    "algo.lr=inf": "algo.lr=inf",
    "algo.lr=nan": "algo.lr=nan",
    "algo.scale=batch": "algo.scale=batch .*none, task",
    "algo.backend=jax": "algo.backend=jax .*vectorized, learn2learn",
    "optim.lr=0": "optim.lr=0",
    "optim.rates_lr=-1": "optim.rates_lr=-1",
    "model.width=0": "model.width=0",
    "model.depth=0": "model.depth=0",
    "model.activation=relu": "model.activation=relu .*tanh, softplus, sin, silu",
    "system.gravity=0": "system.gravity=0",
    "test.steps=-1": "test.steps=-1",
    "test.n_systems=0": "test.n_systems=0",
    "test.seed=-1": "test.seed=-1",
    "trainer.max_steps=0": "trainer.max_steps=0",
    "data.noise=-0.1": "data.noise=-0.1",
    "trainer.devices=0": "trainer.devices=0",
    "trainer.precision=16": "trainer.precision=16 .*32-true, 64-true",
    "trainer.val_check_interval=0": "trainer.val_check_interval=0",
    "trainer.log_every_n_steps=0": "trainer.log_every_n_steps=0",
    "trainer.gradient_clip_val=0": "trainer.gradient_clip_val=0",
    "logger.mode=dryrun": "logger.mode=dryrun .*null, online, offline",
}


@pytest.mark.parametrize(("override", "message"), REFUSED.items(), ids=REFUSED)
def test_a_value_out_of_range_is_refused_by_name_in_one_line(override, message):
    config = changed(override)
    with pytest.raises(ConfigError, match=message) as refusal:
        check(config)
    text = str(refusal.value)
    assert "\n" not in text
    assert "is not allowed: give" in text or "at most" in text


@pytest.mark.parametrize("override", ["model.width=wide", "no_such_key=1", "algo=sgd", "algo.learn_lr=maybe"])
def test_wrong_types_and_names_are_refused_by_hydra(override):
    with pytest.raises(ConfigCompositionException):
        composed(override)


AROUND = {
    ("+friction=viscous", "friction.low=-0.1"): "friction.low=-0.1",
    ("+friction=viscous", "friction.high=0"): "friction.high=0",
    ("+friction=dry", "friction.width=0"): "friction.width=0",
    ("+friction=dry", "friction.friction=wet"): "friction.friction=wet .*viscous, quadratic, dry",
    ("+drive=sine", "drive.slowest=0"): "drive.slowest=0",
    ("model=dissipative", "model.friction=wet"): "model.friction=wet .*viscous, quadratic, dry, null",
    ("model=dissipative", "model.friction_width=0"): "model.friction_width=0",
}


@pytest.mark.parametrize(("overrides", "message"), AROUND.items(), ids=[given[1] for given in AROUND])
def test_a_range_of_what_is_around_a_family_is_refused_by_name(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check(composed(*overrides))


def test_friction_without_a_plus_says_how_it_is_written():
    with pytest.raises(ConfigCompositionException, match=r"use \+friction=viscous"):
        composed("friction=viscous")


def test_the_kinds_of_friction_are_those_that_there_are():
    files = {file.stem for file in (CONF / "friction").glob("*.yaml")}
    assert files == set(FRICTION)
    for kind in FRICTION:
        assert composed(f"+friction={kind}").friction.friction == kind
        check(composed("model=dissipative", f"model.friction={kind}"))
