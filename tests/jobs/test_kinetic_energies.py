"""A simulated family whose mass matrix depends on the positions, from the command."""

import dataclasses
from unittest import mock

import torch
from command import TINY, train_here

from meta_hamiltonian import load
from meta_hamiltonian.episodes.kinetics import with_kinetic_energies
from meta_hamiltonian.jobs import run as job
from meta_hamiltonian.training.modules import GaussNewtonLoop

FAMILY = ("system=double_pendulum", "algo=ridge", "logger=none", "trainer.max_steps=4", "trainer.val_check_interval=2")


def other_signs(system):
    """As another machine may find them."""
    domain = with_kinetic_energies(system)
    assert domain.kinetic is not None
    sums = tuple(tuple(-value for value in row) for row in domain.kinetic.sums)
    return dataclasses.replace(domain, kinetic=dataclasses.replace(domain.kinetic, sums=sums))


def test_a_training_that_goes_on_elsewhere_keeps_its_features(tmp_path):
    def train(name, *more):
        return train_here(tmp_path / "home", *TINY, *FAMILY, f"hydra.run.dir={tmp_path / name}", *more)

    assert train("whole").code == 0
    assert load(tmp_path / "whole").net.has_kinetic_energies
    step = GaussNewtonLoop.training_step

    def crash(self, batch, batch_idx):
        if self.trainer.global_step == 3:
            raise MemoryError
        return step(self, batch, batch_idx)

    with mock.patch.object(GaussNewtonLoop, "training_step", crash):
        assert train("crashed").code == 1
    with mock.patch.object(job, "with_kinetic_energies", other_signs):
        done = train("crashed", "resume=true")
    assert done.code == 0, done.stderr
    one, other = load(tmp_path / "whole"), load(tmp_path / "crashed")
    assert one.net.domain == other.net.domain
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
