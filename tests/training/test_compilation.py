"""Which trainings are long enough to be compiled."""

import pytest
from composing import composed
from omegaconf import OmegaConf

from meta_hamiltonian.learners.checkpoint import build_learner
from meta_hamiltonian.training.compilation import is_earned


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], True),
        (["algo=anil"], True),
        (["algo=metasgd"], True),
        (["experiment=quick"], False),
        (["trainer.max_steps=100"], False),
        (["trainer.max_steps=100", "data.meta_batch=1000"], True),
        (["model.width=16"], False),
        (["algo.backend=learn2learn"], False),
    ],
)
def test_a_training_is_compiled_where_it_is_long(overrides, expected):
    config = composed(*overrides, "compile=false")
    learner = build_learner({group: OmegaConf.to_container(config[group], resolve=True) for group in GROUPS})
    points = (config.data.train_shots + config.data.train_queries) / 2
    assert is_earned(learner, points, config.data.meta_batch, config.trainer.max_steps) is expected


GROUPS = ("system", "model", "algo")
