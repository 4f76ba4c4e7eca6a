"""Credible bands: what they are made of, and whether they hold the truth."""

import dataclasses

import pytest
import torch
from observed import SYSTEM, learner

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.evaluation.coverage import LEVELS, coverage
from meta_hamiltonian.inference import fit
from meta_hamiltonian.inference.bands import energy_change_samples, field_samples, interval, uncertainty, where_next
from meta_hamiltonian.observations import Derivatives
from meta_hamiltonian.reports.prediction import predict


def test_an_interval_holds_its_share_of_the_samples():
    samples = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).double()
    for level in (0.5, 0.95):
        low, high = interval(samples, level)
        assert ((low <= samples) & (samples <= high)).double().mean().item() == pytest.approx(level, abs=0.01)


def test_predicted_bands_hold_the_truth():
    """Orbits and energies of new systems, from eight noisy points: 95 % bands hold most of what really happens.

    Bands of one orbit fail together, so that many systems are asked.
    """
    n, horizon = 10, 2.0
    tasks = sample_episodes(SYSTEM, n, 8, 1, seed=5, split="bands", dtype=torch.float64, noise=0.02)
    starts = SYSTEM.sample_initial_states(tasks.parameters, seed=5, split="bands")
    inside = {"x": [], "energy": []}
    for i in range(n):
        seen = Derivatives(tasks.support.x[i].numpy(), tasks.support.dxdt[i].numpy())
        found = predict(fit(learner(), seen).starting_from(starts[i]), horizon)
        own = tasks.parameters[i : i + 1]
        truth = SYSTEM.orbit(starts[i : i + 1], own, torch.from_numpy(found.t))[:, 0]
        energy = SYSTEM.hamiltonian(torch.from_numpy(found.x), own)
        for name, true in (("x", truth), ("energy", energy - energy[0])):
            low, high = found.bands[name]
            hold = (low <= true.numpy()) & (true.numpy() <= high)
            inside[name].append(hold[1:].mean())
    assert 0.85 <= sum(inside["x"]) / n <= 1.0
    assert 0.80 <= sum(inside["energy"]) / n <= 1.0


def test_more_observations_make_bands_narrower_and_the_next_one_is_where_they_are_wide():
    tasks = sample_episodes(SYSTEM, 1, 40, 1, seed=1, split="next", dtype=torch.float64, noise=0.05)
    x = SYSTEM.domain.grid(11)
    widths = []
    for k in (4, 40):
        seen = tasks.support.first(k)[0]
        samples = learner().sample(seen.x, seen.dxdt)
        widths.append(uncertainty(samples, x).mean().item())
        following = where_next(samples)
        assert not SYSTEM.domain.outside(following[None]).any()
        assert uncertainty(samples, following[None]).item() >= uncertainty(samples, x).mean().item()
        assert field_samples(samples, x).shape == (200, len(x), 2)
        assert (energy_change_samples(samples, x)[:, 0] == 0).all()
    assert widths[1] < widths[0] / 2


def test_coverage_is_near_what_is_promised():
    covered = list(coverage(learner(), SYSTEM, [6], [0.05], n_systems=40, n_orbits=6))
    shares = {(row.quantity, row.level): row.observed for row in covered}
    assert set(shares) == {(q, level) for q in ("field", "energy", "orbit") for level in LEVELS}
    for quantity in ("field", "energy", "orbit"):
        observed = [shares[quantity, level] for level in LEVELS]
        assert observed == sorted(observed)
    for level in LEVELS:
        assert shares["field", level] == pytest.approx(level, abs=0.15)
    assert shares["orbit", 0.95] > 0.75
    assert {row.n_systems for row in covered} == {40, 6}
    assert set(dataclasses.asdict(covered[0])) == {"shots", "noise", "quantity", "level", "observed", "n_systems"}


def test_a_learner_without_a_posterior_has_no_coverage():
    with pytest.raises(TypeError, match="no posterior"):
        list(coverage(learner("maml"), SYSTEM, [6], [0.0], 2, 1))
