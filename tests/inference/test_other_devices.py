"""All that a learner makes of observations is computed where the learner is, and the numbers are those of the CPU."""

import copy
import dataclasses
import os
import subprocess
import sys

import elsewhere
import numpy as np
import pytest
import torch
from observed import INERTIA, SYSTEM, learner, points, swing

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.evaluation.coverage import coverage
from meta_hamiltonian.evaluation.identify import identify
from meta_hamiltonian.inference import fit
from meta_hamiltonian.learners.checkpoint import save_adapted
from meta_hamiltonian.models import Adapted, AdaptedSystems
from meta_hamiltonian.observations import Inputs
from meta_hamiltonian.reports.prediction import predict
from meta_hamiltonian.systems import (
    Chain,
    Damped,
    DoublePendulum,
    Driven,
    Duffing,
    HenonHeiles,
    Kepler,
    LotkaVolterra,
    Mixture,
    Spring,
    SpringPendulum,
    TwoBody,
)

OBSERVED = swing("t,q", instants=14, until=3.0, noise=0.01)
DRIVEN = dataclasses.replace(swing(instants=14, until=3.0), inputs=Inputs(np.linspace(0, 4, 9), np.ones((9, 1))))
CASES = {
    "points": ("ridge", points(5, 0.1), {"friction": "none"}),
    "orbit": ("ridge", [OBSERVED], {"how": "orbit", "inertia": INERTIA, "friction": "viscous"}),
    "rates": ("ridge", [DRIVEN], {"how": "derivatives", "friction": "viscous"}),
    "gradient": ("anil", [OBSERVED], {"how": "derivatives", "inertia": INERTIA, "friction": "viscous", "steps": 1}),
}


# PyTorch must know of a device before the first gradient of a process is taken.
IN_A_PROCESS = "TESTS_OF_ELSEWHERE"
ELSEWHERE = pytest.mark.skipif(IN_A_PROCESS not in os.environ, reason="run by test_on_a_device_of_its_own_process")


@pytest.fixture(params=[pytest.param("elsewhere", marks=ELSEWHERE), pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    if request.param == "cuda":
        yield torch.device("cuda", 0)
    else:
        with elsewhere.device() as found:
            yield found


def there(name, device):
    return copy.deepcopy(learner(name)).to(device)


def tensors(found):
    """Every tensor of a fit."""
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        systems = value.systems if isinstance(value, Adapted) else value
        if isinstance(systems, AdaptedSystems):
            yield from (systems.scale, *systems.parameters.values(), *systems.net.parameters())
        elif isinstance(value, torch.Tensor):
            yield value


@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_where_its_learner_is(case, device, tmp_path):
    name, observations, options = CASES[case]
    here, found = fit(learner(name), observations, **options), fit(there(name, device), observations, **options)
    assert {value.device for value in tensors(found)} == {device}
    assert {value.device.type for value in tensors(found.to("cpu"))} == {"cpu"}
    assert (found.how, found.notes, found.warnings) == (here.how, here.notes, here.warnings)
    for value, expected in zip(tensors(found), tensors(here), strict=True):
        torch.testing.assert_close(value.cpu(), expected, rtol=1e-6, atol=1e-6)
    if here.noise.any():  # without noise orbits are followed in many more steps
        one, other = predict(found, 0.1), predict(here, 0.1)
        np.testing.assert_allclose(one.x, other.x, rtol=1e-6, atol=1e-6)
        assert one.bands.keys() == other.bands.keys()
    save_adapted(found.to("cpu").adapted, {}, tmp_path / "adapted.pt", [])
    kept = torch.load(tmp_path / "adapted.pt", weights_only=True)  # with no device to be sent to
    assert {value.device.type for value in kept["parameters"].values()} == {"cpu"}


FAMILIES = {
    "pendulum": SYSTEM,
    "spring": Spring(),
    "duffing": Duffing(),
    "henon_heiles": HenonHeiles(),
    "lotka_volterra": LotkaVolterra(),
    "kepler": Kepler(centre=0.2),  # some states are drawn anew
    "two_body": TwoBody(),
    "double_pendulum": DoublePendulum(),
    "spring_pendulum": SpringPendulum(),
    "chain": Chain(n=3),
    "mixture": Mixture(),
    "damped": Damped(SYSTEM, "quadratic"),
    "driven": Driven(SYSTEM),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_episodes_are_drawn_where_they_are_used(family, device):
    here, found = (
        sample_episodes(FAMILIES[family], range(3, 9), 7, 70, seed=1, noise=0.1, dtype=torch.float64, device=place)
        for place in ("cpu", device)
    )
    for part, expected in ((found.support, here.support), (found.query, here.query)):
        for value, other in ((part.x, expected.x), (part.dxdt, expected.dxdt)):
            assert value.device == device
            torch.testing.assert_close(value.cpu(), other, rtol=1e-13, atol=1e-13)
    assert torch.equal(found.index.cpu(), here.index)


def test_bands_are_checked_where_the_learner_is(device):
    sizes = ([5], [0.05], 2, 0)
    one, other = (list(coverage(of, SYSTEM, *sizes)) for of in (learner("ridge"), there("ridge", device)))
    assert one == other


def test_what_was_learned_is_told_where_the_learner_is(device):
    one, other = (identify(of, SYSTEM, 6) for of in (learner("ridge"), there("ridge", device)))
    assert other.terms == one.terms
    torch.testing.assert_close(other.singular_values, one.singular_values, rtol=1e-6, atol=1e-9)


def test_the_simulated_device_refuses_what_a_gpu_does():
    with elsewhere.device() as device:
        x = torch.ones(3, device=device)
        with pytest.raises(RuntimeError, match="a tensor of the CPU"):
            x + torch.ones(3)
        with pytest.raises(TypeError, match="copy it to the CPU first"):
            x.numpy()
        assert torch.equal((x + 1.0).cpu(), torch.full((3,), 2.0))


@pytest.mark.skipif(IN_A_PROCESS in os.environ, reason="this is that process")
def test_on_a_device_of_its_own_process():
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "-k", "elsewhere", __file__]
    done = subprocess.run(command, env=os.environ | {IN_A_PROCESS: "1"}, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout
    assert "19 passed" in done.stdout
