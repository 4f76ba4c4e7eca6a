"""Which classes a checkpoint may name."""

import sys
import types

import pytest

from meta_hamiltonian.basics.registry import register, registered
from meta_hamiltonian.learners import MAML
from meta_hamiltonian.systems import Pendulum


@pytest.mark.parametrize("target", ["meta_hamiltonian.systems.Pendulum", "meta_hamiltonian.systems.pendulum.Pendulum"])
def test_a_class_is_found_where_it_is_and_where_it_is_passed_on(target):
    assert registered(target) is Pendulum
    assert registered("meta_hamiltonian.learners.MAML") is MAML


@pytest.mark.parametrize("target", ["Pendulum", "", "os.system", "meta_hamiltonian.systems.NoSuch", "other.Pendulum"])
def test_any_other_name_is_none(target):
    assert registered(target) is None


def test_a_class_of_ones_own_is_found_after_it_was_registered():
    module = types.ModuleType("somebodys_families")
    exec("class Own:\n    pass\n", module.__dict__)  # noqa: S102
    own = module.__dict__["Own"]
    assert registered("somebodys_families.Own") is None
    assert register(own) is own
    assert registered("somebodys_families.Own") is own
    assert "somebodys_families" not in sys.modules, "nothing was imported"
