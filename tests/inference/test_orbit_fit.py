"""The orbit fit by itself: the head and the start that make orbits meet what was observed."""

import pytest
import torch
from observed import INERTIA, PARAMETERS, SYSTEM, learner, swing

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference import orbit_fit
from meta_hamiltonian.inference.orbit_fit import fit_orbits
from meta_hamiltonian.observations import canonical, well_known_points


def fitted(trajectory):
    path = canonical(trajectory, INERTIA)
    points = Points(*well_known_points([path])[:2])
    adapted = learner().adapt(points.x, points.dxdt)
    return path, fit_orbits(learner(), adapted.systems, points, [path])


def test_exact_orbits_are_met():
    path, found = fitted(swing(instants=60))
    orbit = found.adapted.rollout(found.starts, path.t)[:, 0]
    torch.testing.assert_close(orbit, path.observed, rtol=0, atol=1e-4)
    x = SYSTEM.domain.grid(9)
    true = SYSTEM.field(x, PARAMETERS)
    assert (found.adapted.field(x) - true).square().mean() < 1e-7 * true.square().mean()


def test_orbits_that_ran_away_are_no_fit(monkeypatch):
    """Though their numbers are finite: no covariance could be had of them."""
    original = orbit_fit.shoot

    def far_away(*arguments):
        shot = original(*arguments)
        return shot._replace(nodes=shot.nodes * 1e40, cost=1e185)

    monkeypatch.setattr(orbit_fit, "shoot", far_away)
    with pytest.raises(orbit_fit.NoOrbitError, match="no orbit of the adapted system could be followed"):
        fitted(swing(instants=60))


def test_it_is_better_than_its_beginning_and_knows_its_error():
    """On noisy positions and momenta, where derivatives of splines are rough."""
    trajectory = swing(noise=0.03, instants=60, seed=2)
    path, found = fitted(trajectory)
    true = SYSTEM.orbit(torch.tensor([[1.5, 0.0]]).double(), PARAMETERS, path.t)[:, 0]
    after = (found.adapted.rollout(found.starts, path.t)[:, 0] - true).square().mean(0).sqrt()
    noise = (path.observed - true).square().mean(0).sqrt()
    assert (after < 0.5 * noise).all(), "it averages over the noise"
    spread = found.end_samples.std(0)
    error = (found.end - true[-1]).abs()
    assert (error < 4 * spread).all()
    assert (spread < noise).all()
