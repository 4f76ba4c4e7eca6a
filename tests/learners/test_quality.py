import dataclasses

import pytest

from meta_hamiltonian.dynamics import KineticEnergies
from meta_hamiltonian.dynamics.inertia import Entry, Factor
from meta_hamiltonian.learners import MAML, Ridge
from meta_hamiltonian.learners.checkpoint import Trained
from meta_hamiltonian.learners.quality import quality
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.systems import Kepler, Pendulum, Recorded


def trained(learner, system, loss):
    return Trained(learner, system, {}, [{"step": 3, "seconds": 1.0, "loss": loss}])


@pytest.mark.parametrize("system", [Kepler(centre=1.0), Pendulum()])
def test_a_learner_whose_members_may_differ_inside_the_law_is_told_of_latents(system):
    heads_alone = Ridge(NaturalNetwork(domain=system.domain, state_dim=system.domain.state_dim), rank=3)
    warning = quality(trained(heads_alone, system, 0.5)).warning
    assert "3 steps" in warning
    assert "algo.latents=auto" in warning
    assert quality(trained(heads_alone, system, 1e-6)).warning is None


def test_a_learner_that_takes_no_latents_is_not_told_of_them():
    system = Pendulum()
    learner = MAML(NaturalNetwork(domain=system.domain), scale="task")
    warning = quality(trained(learner, system, 0.5)).warning
    assert "train it for longer" in warning
    assert "latents" not in warning


@pytest.mark.parametrize(("inertia", "told"), [([1.0, 1.0], True), (None, False)])
def test_a_learner_of_recordings_without_momenta_is_told_what_was_assumed(inertia, told):
    domain = Kepler().domain
    learner = Ridge(NaturalNetwork(domain=domain, state_dim=domain.state_dim), rank=3, scale="task")
    settings = {"recordings": {"inertia": inertia}}
    found = quality(Trained(learner, Recorded(), settings, found_history()))
    assert found is not None
    assert ("data.inertia" in found.warning) == told
    energies = KineticEnergies((Entry(0, 0, Factor.one(2)),), (), (1.0,), (1.0,), ((0.1,),))
    learner.net.domain = dataclasses.replace(domain, kinetic=energies)
    assert "data.inertia" not in quality(Trained(learner, Recorded(), settings, found_history())).warning


def found_history():
    return [{"step": 3, "seconds": 1.0, "loss": 0.5}]
