"""From observations to one system, by the functions themselves."""

import numpy as np
import pytest
import torch
from observed import INERTIA, PARAMETERS, SYSTEM, learner, orbit, points, swing

from meta_hamiltonian.inference import fit
from meta_hamiltonian.learners import Oracle
from meta_hamiltonian.models import ParametricHamiltonian
from meta_hamiltonian.observations import Derivatives, ObservationError

LATER = torch.linspace(10, 15, 51, dtype=torch.float64)


def error_later(found):
    """Over the five time units after the observations, of the amplitude."""
    predicted = found.adapted.rollout(found.start, LATER - LATER[0])
    true = orbit((1.5, 0.0), torch.cat([torch.zeros(1).double(), LATER]))[1:]
    return ((predicted - true).abs().amax(0) / true.abs().amax(0)).max().item()


def test_points_are_what_the_learner_adapts_to():
    seen = points()
    found = fit(learner(), seen)
    alone = learner().adapt(torch.from_numpy(seen.x), torch.from_numpy(seen.dxdt))
    x = SYSTEM.domain.grid(11)
    assert torch.equal(found.adapted.field(x), alone.field(x))
    assert (found.how, found.start_time, found.held_out, found.warnings) == ("derivatives", 0.0, {}, [])
    assert torch.equal(found.start, torch.from_numpy(seen.x[-1]))
    assert found.residual < 1e-6 < 0.1 < found.residual_before


@pytest.mark.parametrize("how", ["derivatives", "orbit"])
@pytest.mark.parametrize("columns", ["t,q,p", "t,q,v", "t,q"])
def test_a_trajectory_predicts_how_it_goes_on(columns, how):
    found = fit(learner(), [swing(columns)], how, INERTIA)
    assert found.how == how
    assert found.start_time == 10.0
    assert error_later(found) < 0.01
    assert any("p was not observed" in note for note in found.notes) == ("p" not in columns)


def test_auto_takes_the_way_that_predicts_the_end_better():
    found = fit(learner(), [swing("t,q", noise=0.01, instants=50)], "auto", INERTIA)
    assert found.how == min(found.held_out, key=found.held_out.__getitem__)
    assert set(found.held_out) == {"derivatives", "orbit"}
    assert found.samples is not None
    assert error_later(found) < 0.2


def test_several_trajectories_are_fitted_together():
    both = [swing(x0=(1.0, 0.0), until=4.0, instants=50), swing(x0=(-2.0, 1.0), until=4.0, instants=50)]
    found = fit(learner(), both, "orbit")
    x = SYSTEM.domain.grid(11)
    true = SYSTEM.field(x, PARAMETERS)
    assert (found.adapted.field(x) - true).square().mean() < 1e-6 * true.square().mean()


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_a_learner_without_a_posterior_says_that_there_are_no_bands(name):
    found = fit(learner(name), points())
    assert found.samples is None
    assert any("no credible bands" in note for note in found.notes)


def test_the_true_law_has_no_head_for_an_orbit_fit():
    oracle = Oracle(ParametricHamiltonian(SYSTEM))
    assert fit(oracle, [swing()]).how == "derivatives"
    with pytest.raises(ValueError, match="use fit=derivatives"):
        fit(oracle, [swing()], "orbit")


def test_states_outside_the_domain_are_told_and_turns_are_not():
    x = np.array([[7.0, 1.0], [1.0, 2.0], [0.0, 25.0]])
    dxdt = SYSTEM.field(torch.from_numpy(x), PARAMETERS).numpy()
    (warning,) = fit(learner(), Derivatives(x, dxdt)).warnings
    assert warning.startswith("1 of 3 observed states lie outside the domain that the learner was trained in (q from")


def test_a_system_of_another_family_is_told():
    x = SYSTEM.domain.draw(0, ("other",), range(1), 40)[0].numpy()
    other = Derivatives(x, np.stack([x[:, 1], 3 * np.sin(2 * x[:, 0]) + x[:, 0]], axis=1))
    (warning,) = fit(learner(), other, validation_loss=1e-14).warnings
    assert "this system is unlike them" in warning
    (warning,) = fit(learner("maml"), other, validation_loss=0.5).warnings
    assert "the learner is not trained well enough" in warning
    assert fit(learner(), points(), validation_loss=1e-14).warnings == []


@pytest.mark.parametrize(
    ("observations", "how", "inertia", "error", "message"),
    [
        (points(), "magic", 1.0, ValueError, "fit='magic'.*auto, derivatives, orbit"),
        (points(), "orbit", 1.0, ObservationError, "needs a trajectory"),
        ([swing()], "auto", 0.0, ValueError, "inertia must be a finite number above 0"),
        ([swing()], "auto", float("nan"), ValueError, "inertia must be a finite number above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(observations, how, inertia, error, message):
    with pytest.raises(error, match=message):
        fit(learner(), observations, how, inertia)


def test_few_instants_are_fitted_by_their_derivatives():
    found = fit(learner(), [swing(instants=7, until=1.0)])
    assert found.how == "derivatives"
    assert any("too few to compare fits" in note for note in found.notes)


def test_a_prediction_may_start_elsewhere():
    x = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = fit(learner(), points(10, noise=0.05)).starting_from(x)
    assert (found.start_time, found.start.tolist()) == (0.0, [1.0, 0.5])
    assert found.start_samples is not None
    assert torch.equal(found.start_samples, x.expand(200, 2))


@pytest.mark.parametrize(("factor", "notes", "warnings"), [(1.0, 0, 0), (2.0, 1, 0), (10.0, 1, 1)])
def test_bands_that_were_widened_say_so(factor, notes, warnings):
    of_recordings = learner()
    of_recordings.band_factor.fill_(factor)
    found = fit(of_recordings, [swing(instants=7, until=1.0)])
    assert sum("Bands are widened by the factor" in note for note in found.notes) == notes
    assert sum("do not trust the bands" in warning for warning in found.warnings) == warnings
