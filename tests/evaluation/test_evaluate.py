import dataclasses
import math

import numpy as np
import pytest
import torch

from meta_hamiltonian.evaluation import evaluate, make_test_set, measure
from meta_hamiltonian.evaluation.results import COLUMNS
from meta_hamiltonian.learners import ANIL, MAML
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum

SYSTEM = Pendulum()
SHOTS, STEPS = [5, 12], [0, 1, 4]


@pytest.fixture(scope="module")
def systems():
    """An even number of systems, whose median lies between two of them."""
    return make_test_set(SYSTEM, n_systems=4, shots=12, seed=0)


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=8, depth=2, input_scale=SYSTEM.state_box)
    return MAML(net, lr=0.05, inner_steps=2, learn_lr=True, scale="task")


@pytest.fixture(scope="module")
def results(learner, systems):
    return list(evaluate(learner, systems, SHOTS, STEPS))


def test_there_is_a_row_for_every_k_and_number_of_steps_in_order(results):
    expected = [(5, 0), (5, 1), (5, 4), (12, 0), (12, 1), (12, 4)]
    assert [(result.shots, result.steps) for result in results] == expected
    assert [(row["shots"], row["steps"]) for row in (result.figures() for result in results)] == expected


def test_every_row_is_the_learner_after_that_many_steps_on_the_first_k_points(results, learner, systems):
    for result in results:
        for i in range(4):
            x, dxdt = systems.support.x[i, : result.shots], systems.support.dxdt[i, : result.shots]
            alone = learner.adapt(x, dxdt, result.steps)
            torch.testing.assert_close(
                result.adapted[i].field(systems.grid[i]), alone.field(systems.grid[i]), rtol=1e-9, atol=1e-9
            )
            error = (alone.field(systems.grid[i]) - systems.grid_field[i]).square().sum(-1).mean()
            torch.testing.assert_close(result.errors.field_mse[i], error, rtol=1e-9, atol=0)


def test_without_steps_k_does_not_matter_to_an_unscaled_learner(systems):
    learner = ANIL(HamiltonianNetwork(width=4, depth=1))
    five, twelve = evaluate(learner, systems, SHOTS, [0])
    assert torch.equal(five.errors.field_mse, twelve.errors.field_mse)
    assert torch.equal(five.errors.state_mse, twelve.errors.state_mse)


def test_the_figures_are_means_and_medians_over_the_systems(results):
    for result in results:
        figures = result.figures()
        for name in ("field_mse", "state_mse", "energy_mse"):
            values = getattr(result.errors, name).numpy()
            assert figures[f"{name}_mean"] == pytest.approx(np.mean(values), rel=1e-12)
            assert figures[f"{name}_median"] == pytest.approx(np.median(values), rel=1e-12)
            assert len(set(values)) == 4
        assert figures["field_rel_median"] == pytest.approx(np.median(result.errors.field_rel.numpy()), rel=1e-12)
        assert figures["n_systems"] == 4


def test_diverged_orbits_are_counted(adapted_to, results, systems):
    def second_and_third_run_away(x, parameters):
        runaway = torch.isin(parameters[..., :1], systems.parameters[1:3, 0])
        return torch.where(runaway, x**3 + 10, SYSTEM.field(x, parameters))

    errors = measure([adapted_to(SYSTEM, systems.parameters, second_and_third_run_away)], systems)[0]
    figures = dataclasses.replace(results[0], errors=errors).figures()
    assert figures["n_diverged"] == 2
    assert type(figures["n_diverged"]) is int


def test_the_figures_fill_the_columns_that_are_measured(results):
    """The others say where a row comes from."""
    assert list(results[0].figures()) == list(COLUMNS)[6:]
    assert all(math.isfinite(value) for result in results for value in result.figures().values())


def test_adapting_for_more_steps_includes_the_time_of_fewer(results):
    seconds = [result.adapt_seconds for result in results]
    assert seconds[0] <= seconds[1] <= seconds[2]
    assert seconds[3] <= seconds[4] <= seconds[5]
