"""The width of bands, checked on forecasts whose errors are known."""

import math

import pytest
import torch

from meta_hamiltonian.dynamics import Inertia
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.episodes.recordings import RecordedMember
from meta_hamiltonian.evaluation import calibration
from meta_hamiltonian.evaluation.calibration import band_factor
from meta_hamiltonian.evaluation.coverage import LEVELS
from meta_hamiltonian.evaluation.halves import Forecast, Halves
from meta_hamiltonian.inference.widened import MOST
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.observations import ObservationError
from meta_hamiltonian.observations.inertias import Inertias
from meta_hamiltonian.systems import Spring


def found(errors, monkeypatch, instants=4000, bands=True, held_out=0):
    """The factor for members whose errors have these sizes in units of the predicted ones; None cannot be predicted.

    The first `held_out` of them are not those of the training.
    """
    asked = []
    generator = torch.Generator().manual_seed(0)

    def forecast(_learner, member, observed, *_):
        asked.append((observed, member.name))
        size = errors[int(member.name)]
        if isinstance(size, dict):
            size = size[observed]
        if size is None:
            raise ObservationError("it is too short")
        count = instants if int(member.name) % 2 else instants // 10
        rest = size * torch.randn(count, 2, dtype=torch.float64, generator=generator)
        rest[::7, 0] = math.nan  # nothing was observed there
        width = torch.full_like(rest, 1.96)
        ends = [(-width, width) for _ in LEVELS] if bands else []
        halves = Halves([], torch.arange(count + 1).double(), rest, torch.ones(2).double(), Inertia.of(1.0, 1))
        return Forecast(member.name, "learned", halves, torch.zeros_like(rest), ends, 0.0, [], False, 0.0)

    monkeypatch.setattr(calibration, "forecast", forecast)
    x = torch.zeros(1, 2, dtype=torch.float64)
    members = [RecordedMember(str(i), [], Points(x, x), torch.zeros_like(x[0]), {}) for i in range(len(errors))]
    learner = Ridge(HamiltonianNetwork(width=4, depth=1, domain=Spring().domain))
    factor = band_factor(learner, members[:held_out], members[held_out:], Inertias((1.0,)), None)
    names = [name for observed, name in asked if observed == 0.5]
    assert [name for observed, name in asked if observed == 0.25] == names
    return factor, names


@pytest.mark.parametrize(("size", "factor"), [(0.5, 1.0), (1.0, 1.0), (2.0, 2.0)])
def test_the_factor_is_that_of_the_errors_and_at_least_1(size, factor, monkeypatch):
    assert found([size] * 4, monkeypatch)[0] == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize(("half", "quarter"), [(1.0, 3.0), (3.0, 1.0), (3.0, None)])
def test_the_larger_factor_counts_of_halves_and_quarters_that_are_observed(half, quarter, monkeypatch):
    """A quarter may be too short to be fitted."""
    assert found([{0.5: half, 0.25: quarter}] * 4, monkeypatch)[0] == pytest.approx(3.0, rel=0.05)


def test_members_count_alike_however_long_they_are(monkeypatch):
    """One of four members errs: 95 % of all errors are held where 80 % of its own are."""
    one, _ = found([1e-3, 4.0, 1e-3, 1e-3], monkeypatch)
    other, _ = found([4.0, 1e-3, 1e-3, 1e-3], monkeypatch)
    assert one == pytest.approx(4 * 1.2816 / 1.96, rel=0.06)
    assert other == pytest.approx(one, rel=0.15)


def test_members_that_cannot_be_predicted_do_not_count(monkeypatch):
    assert found([None, 3.0, None], monkeypatch)[0] == pytest.approx(3.0, rel=0.05)
    assert found([None, None], monkeypatch)[0] == 1.0


def test_lost_forecasts_leave_the_factor_finite(monkeypatch):
    assert found([1e300, 1.0], monkeypatch)[0] == MOST


@pytest.mark.parametrize("missing", ["bands", "observations"])
def test_forecasts_without_bands_or_later_observations_do_not_count(missing, monkeypatch):
    assert found([math.nan if missing == "observations" else 3.0], monkeypatch, bands=missing != "bands")[0] == 1.0


def test_a_few_of_many_members_are_predicted(monkeypatch):
    _, asked = found([1.0] * 50, monkeypatch, instants=20)
    assert asked == ["0", "8", "16", "25", "33", "41"]


def test_members_that_were_held_out_are_predicted_first(monkeypatch):
    _, asked = found([1.0] * 50, monkeypatch, instants=20, held_out=4)
    assert asked == ["0", "1", "2", "3", "4", "27"]
    _, asked = found([1.0] * 50, monkeypatch, instants=20, held_out=12)
    assert asked == ["0", "2", "4", "6", "8", "10"]
