"""Which friction a recording supports: the decision by itself, with evidence that is given."""

import numpy as np
import pytest
import torch

from meta_hamiltonian.config.asked import FITS, FRICTIONS, parse_friction
from meta_hamiltonian.dynamics import FRICTION
from meta_hamiltonian.inference.friction import Candidate, choose, correlation_time, shares
from meta_hamiltonian.inference.solution import WAYS

NONE, VISCOUS, QUADRATIC, DRY = (), ("viscous",), ("quadratic",), ("dry",)
BOTH = ("viscous", "dry")


def chosen(evidence, negative=(), expected=NONE):
    """Laws that are not named have poor evidence; those in `negative` would bring energy in."""
    tried = []

    def fit(kinds):
        tried.append(kinds)
        return tuple(kind for kind in kinds if kind not in negative)

    kinds, candidates = choose(fit, lambda laws: [float(evidence.get(law, -1000.0)) for law in laws], expected)
    return kinds, {one.kinds: one.evidence for one in candidates}, tried


@pytest.mark.parametrize("margin", [-50.0, 0.0, 5.9])
@pytest.mark.parametrize("kind", FRICTION)
def test_no_friction_is_kept_unless_the_evidence_against_it_is_strong(kind, margin):
    kinds, candidates, tried = chosen({NONE: 0.0, (kind,): margin})
    assert kinds == NONE
    assert set(candidates) == {NONE, VISCOUS, QUADRATIC, DRY}
    assert max(len(one) for one in tried) == 1, "no pairs are tried where there is none"


@pytest.mark.parametrize("kind", FRICTION)
def test_a_kind_with_strong_evidence_is_taken(kind):
    assert chosen({NONE: 0.0, (kind,): 6.1})[0] == (kind,)


@pytest.mark.parametrize("other", [QUADRATIC, DRY])
def test_viscous_friction_is_preferred_to_others_that_are_close(other):
    assert chosen({NONE: 0.0, VISCOUS: 40.0, other: 45.9})[0] == VISCOUS
    assert chosen({NONE: 0.0, VISCOUS: 40.0, other: 46.1})[0] == other
    # Preferred or not, it must be better than none.
    assert chosen({NONE: 0.0, VISCOUS: 3.0, other: 7.0})[0] == other
    assert chosen({NONE: 0.0, VISCOUS: 3.0, other: 5.0})[0] == NONE


@pytest.mark.parametrize(("margin", "expected"), [(0.0, VISCOUS), (9.9, VISCOUS), (10.1, BOTH)])
def test_a_second_kind_needs_very_strong_evidence(margin, expected):
    kinds, candidates, _ = chosen({NONE: 0.0, VISCOUS: 40.0, BOTH: 40.0 + margin})
    assert kinds == expected
    assert {BOTH, ("viscous", "quadratic")} <= set(candidates)
    assert list(candidates.values()) == sorted(candidates.values(), reverse=True), "the likeliest first"


def test_kinds_that_would_bring_energy_in_are_no_candidates():
    kinds, candidates, _ = chosen({NONE: 0.0, VISCOUS: 99.0, DRY: 50.0, BOTH: 200.0}, negative=("viscous",))
    assert kinds == DRY
    assert not any("viscous" in one for one in candidates)
    assert chosen({NONE: 0.0}, negative=tuple(FRICTION))[0] == NONE


@pytest.mark.parametrize("expected", [VISCOUS, QUADRATIC, BOTH])
def test_what_the_family_has_is_kept_unless_the_evidence_against_it_is_strong(expected):
    """Whether the evidence speaks for none or for another kind."""
    for other in {NONE, VISCOUS, QUADRATIC, DRY} - {expected}:
        assert chosen({expected: 0.0, other: 5.9}, expected=expected)[0] == expected
        assert chosen({expected: 0.0, other: 6.1}, expected=expected)[0] == other
    assert chosen({VISCOUS: 0.0, BOTH: 9.9}, expected=VISCOUS)[0] == VISCOUS
    assert chosen({VISCOUS: 0.0, BOTH: 10.1}, expected=VISCOUS)[0] == BOTH


def test_viscous_friction_is_preferred_to_other_kinds_but_not_to_none():
    assert chosen({DRY: 0.0, QUADRATIC: 10.0, VISCOUS: 7.0}, expected=DRY)[0] == VISCOUS
    assert chosen({DRY: 0.0, NONE: 10.0, VISCOUS: 7.0}, expected=DRY)[0] == NONE


def test_expected_friction_that_would_bring_energy_in_is_none():
    kinds, candidates, _ = chosen({NONE: 0.0, VISCOUS: 99.0, DRY: 5.0}, negative=("viscous",), expected=VISCOUS)
    assert kinds == NONE
    assert set(candidates) == {NONE, QUADRATIC, DRY}


def test_friction_is_given_as_text():
    assert parse_friction("auto") is None
    assert parse_friction("none") == ()
    assert parse_friction("dry") == ("dry",)
    assert parse_friction("dry+viscous") == ("viscous", "dry"), "in one order, however they are given"
    assert parse_friction("dry+quadratic+viscous") == tuple(FRICTION)


@pytest.mark.parametrize("text", ["", "sticky", "viscous+none", "viscous+viscous", "auto+dry", "viscous,dry", "Dry"])
def test_what_is_no_friction_is_refused_and_what_is_allowed_is_said(text):
    with pytest.raises(ValueError, match=r"auto, none, viscous, quadratic, dry, or join kinds") as error:
        parse_friction(text)
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)


def candidates(evidence):
    return [Candidate(kinds, value) for kinds, value in evidence.items()]


@pytest.mark.parametrize("count", [1, 3, 200])
@pytest.mark.parametrize("seed", range(4))
def test_shares_add_up(count, seed):
    values = np.random.default_rng(seed).normal(scale=8, size=5)
    found = shares(candidates(dict(zip([NONE, VISCOUS, QUADRATIC, DRY, BOTH], values, strict=True))), count)
    assert sum(found.values()) == count
    assert all(n > 0 for n in found.values())


def test_shares_are_those_of_the_probabilities():
    """Twice a log evidence 2 log 3 above that of none, and 6 less for friction at all, is thrice as likely."""
    found = shares(candidates({VISCOUS: 6 + 2 * np.log(3), NONE: 0.0, QUADRATIC: -200.0}), 200)
    assert found == {VISCOUS: 150, NONE: 50}
    assert shares(candidates({VISCOUS: 500.0, NONE: 0.0}), 200) == {VISCOUS: 200}
    # What decides between two laws also shares between them.
    assert shares(candidates({VISCOUS: 40.0, DRY: 46.0}), 200) == {VISCOUS: 100, DRY: 100}
    assert shares(candidates({VISCOUS: 40.0, BOTH: 50.0}), 200) == {VISCOUS: 100, BOTH: 100}
    # What is expected needs no evidence, and none does.
    assert shares(candidates({VISCOUS: 40.0, NONE: 46.0}), 200, VISCOUS) == {VISCOUS: 100, NONE: 100}
    assert shares(candidates({DRY: 40.0, VISCOUS: 46.0}), 200, DRY) == {DRY: 100, VISCOUS: 100}


@pytest.mark.parametrize("count", [100, 1000, 5000])
def test_white_noise_goes_together_for_one_instant(count):
    """Seldom two in a row of few correlate by chance."""
    generator = np.random.default_rng(0)
    found = [correlation_time(torch.from_numpy(generator.normal(size=count))) for _ in range(40)]
    assert np.mean(found) == pytest.approx(1.0, abs=0.15)
    assert np.quantile(found, 0.85) < 1.3
    assert (min(found), np.median(found)) == (1.0, 1.0)


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.9])
def test_noise_that_remembers_goes_together_as_long_as_it_remembers(rho):
    generator = np.random.default_rng(1)
    times = []
    for _ in range(10):
        steps = generator.normal(size=8000)
        noise = np.zeros_like(steps)
        for i in range(1, len(steps)):
            noise[i] = rho * noise[i - 1] + steps[i]
        times.append(correlation_time(torch.from_numpy(noise)))
    assert np.mean(times) == pytest.approx((1 + rho) / (1 - rho), rel=0.2)


def test_gaps_units_and_offsets_do_not_matter_and_few_residuals_are_independent():
    noise = torch.from_numpy(np.random.default_rng(2).normal(size=400)).cumsum(0) * 0.1
    noise = noise - noise.mean()
    expected = correlation_time(noise)
    assert expected > 5
    assert correlation_time(1e-6 * noise) == pytest.approx(expected)
    with_gaps = torch.cat([torch.full((50,), torch.nan), noise, torch.full((3,), torch.nan)])
    assert correlation_time(with_gaps) == pytest.approx(expected)
    assert correlation_time(noise + 7) == pytest.approx(expected)
    assert correlation_time(noise[:5]) == 1.0
    assert correlation_time(torch.zeros(100, dtype=torch.float64)) == 1.0


def test_what_may_be_asked_is_what_there_is():
    assert tuple(FRICTION) == FRICTIONS
    assert ("auto", *WAYS) == FITS
