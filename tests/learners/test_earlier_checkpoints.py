"""Checkpoints and adapted systems of the version before the rooms still load, with the same results."""

import json
from pathlib import Path

import pytest
import torch

from meta_hamiltonian import load, load_adapted
from meta_hamiltonian.learners import ANIL, MAML, Ridge
from meta_hamiltonian.learners.checkpoint import load_trained
from meta_hamiltonian.systems import Pendulum

DATA = Path(__file__).parents[1] / "data"
EXPECTED = json.loads((DATA / "expected.json").read_text())
X, DXDT, AT = (torch.tensor(EXPECTED[name], dtype=torch.float64) for name in ("x", "dxdt", "at"))


def check(adapted, name):
    expected = {what: torch.tensor(values, dtype=torch.float64) for what, values in EXPECTED[name].items()}
    torch.testing.assert_close(adapted.field(AT), expected["field"], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(adapted.energy(AT), expected["energy"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("name", "kind"), [("maml", MAML), ("anil", ANIL), ("ridge", Ridge)])
def test_a_learner_of_the_earlier_version_adapts_as_it_did(name, kind):
    learner = load(DATA / f"{name}.ckpt")
    assert type(learner) is kind
    assert learner.net.domain == Pendulum.domain, "its checkpoint names the family only"
    check(learner.adapt(X, DXDT), name)


def test_an_adapted_system_of_the_earlier_version_is_what_it_was():
    check(load_adapted(DATA / "adapted.pt"), "adapted")


def test_its_history_and_family_are_there_too():
    trained = load_trained(DATA / "ridge.ckpt")
    assert isinstance(trained.system, Pendulum)
    assert trained.validation_loss is not None
    assert 0 < trained.validation_loss < 1e-10
    assert len(trained.history) == 12
