"""Families with friction, and driven ones, through the command."""

import pytest
import torch
from command import OF_A_RUN, TINY, results, rows, run, train_here

from meta_hamiltonian.learners.checkpoint import load_trained
from meta_hamiltonian.models import DissipativeNetwork, HamiltonianNetwork
from meta_hamiltonian.systems import Damped, Driven, Pendulum, Spring

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def anil(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "anil"
    run(folder, "+friction=viscous", "friction.high=0.2", "algo=anil", "logger=none")
    return folder


def test_a_family_with_friction_trains_and_its_name_says_so(anil):
    assert {(row["system"], row["model"], row["algo"]) for row in results(anil)} == {
        ("pendulum+viscous", "hnn", "anil")
    }
    trained = load_trained(anil)
    assert isinstance(trained.system, Damped)
    assert isinstance(trained.system.system, Pendulum)
    assert trained.system.parameter_ranges[-1] == (0.0, 0.2)
    net = trained.learner.net
    assert isinstance(net, DissipativeNetwork)
    assert (net.friction, net.damped) == ("viscous", 1)
    parameters = trained.system.sample_parameters(1, 0)
    x = trained.system.sample_states(parameters, 0, ("x",), range(1), 30)[0]
    adapted = trained.learner.adapt(x, trained.system.field(x, parameters))
    assert adapted.field(x).isfinite().all()
    assert adapted.energy(x).isfinite().all()


def test_it_is_tested_again_only_as_what_it_was_trained_for(anil, tmp_path):
    run(tmp_path / "again", f"ckpt_path={anil}", "+friction=viscous", "system=pendulum", "logger=none")
    assert results(tmp_path / "again") == results(anil)
    for other in ("+friction=dry", "+drive=sine", "system=spring"):
        refused = train_here(tmp_path / "home", *TINY, f"ckpt_path={anil}", other, f"hydra.run.dir={tmp_path}/no")
        assert refused.code == 1
        assert f"{other} is not allowed with ckpt_path: it was trained with system=pendulum+viscous" in refused.stderr


def test_friction_and_a_drive_together(tmp_path):
    run(
        tmp_path / "both", "system=spring", "+friction=quadratic", "+drive=sine", "algo=ridge", "logger=none",
        "algo.rank=4", "model.width=6", "shots=10", "trainer.max_steps=2", "test.n_systems=1", figures=OF_A_RUN,
    )  # fmt: skip
    assert {row["system"] for row in results(tmp_path / "both")} == {"spring+quadratic+sine"}
    trained = load_trained(tmp_path / "both")
    assert isinstance(trained.system, Driven)
    assert isinstance(trained.system.system, Damped)
    assert isinstance(trained.system.system.system, Spring)
    assert isinstance(trained.learner.net, DissipativeNetwork)
    assert (trained.learner.net.damped, trained.learner.net.state_dim) == (1, 4)


def test_a_driven_family_conserves_its_energy_and_keeps_the_network(tmp_path):
    small = ("logger=none", "shots=10", "inner_steps=1", "test.n_systems=1", "test.steps=0")
    run(tmp_path / "drive", "system=spring", "+drive=sine", "algo=maml", *small)
    assert type(load_trained(tmp_path / "drive").learner.net) is HamiltonianNetwork


def test_jobs_of_a_sweep_over_frictions_train_for_themselves(tmp_path):
    tiny = [key for key in TINY if not key.startswith("model.")]
    what = ["+friction=viscous,dry", "algo=oracle", "logger=none", "shots=10", "test.n_systems=2"]
    where = f"hydra.sweep.dir={tmp_path}/sweep"
    done = train_here(tmp_path / "home", "-m", *tiny, *what, where, figures=("comparison",))
    assert done.code == 0, done.stderr
    table = rows(tmp_path / "sweep" / "summary.csv")
    assert [row["system"] for row in table] == ["pendulum+viscous", "pendulum+dry"]
    assert all(float(row["field_rel_median"]) < 1e-12 for row in table)
    assert (tmp_path / "sweep" / "figures" / "comparison.png").exists()


def test_a_range_that_is_none_is_refused_in_one_line(tmp_path):
    refused = train_here(tmp_path / "home", *TINY, "+friction=dry", "friction.low=1", f"hydra.run.dir={tmp_path}/no")
    assert refused.code == 1
    assert "high=0.3 is not allowed with low=1" in refused.stderr


def test_the_oracle_never_finds_a_friction_that_brings_energy_in():
    """Not even where the observations say so."""
    from meta_hamiltonian.learners import Oracle
    from meta_hamiltonian.models import ParametricHamiltonian

    system = Damped(Spring())
    parameters = torch.tensor([[1.0, 2.0, 0.0, -0.2]], dtype=torch.float64)
    x = system.domain.draw(0, ("x",), range(1), 20)[0]
    adapted = Oracle(ParametricHamiltonian(system)).double().adapt(x, system.field(x, parameters))
    assert -1e-9 <= adapted.parameters["physical"][-1].item() < 1e-3
