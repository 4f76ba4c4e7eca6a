"""Which trainings are long enough to be compiled."""

import pytest
from test_config import composed

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
    assert is_earned(composed(*overrides)) is expected
