"""Mass matrices that positions and velocities tell, against those that the recordings were made with."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from mechanisms import double_pendulum, henon_heiles, recorded, spring_pendulum, unequal_springs

from meta_hamiltonian.dynamics import Domain, Inertia
from meta_hamiltonian.dynamics.inertia import Entry, Factor
from meta_hamiltonian.observations import Trajectory
from meta_hamiltonian.observations.inertias import Inertias
from meta_hamiltonian.observations.lagrange import find_kinetic_energies, inertia_of

ONE = Factor.one(2)
ANGLES = Domain.box({"a": (-2, 2), "b": (-2, 2), "p_a": (-2, 2), "p_b": (-2, 2)}, angles=("a", "b"))
POLAR = Domain.box({"r": (0.5, 3), "phi": (-2, 2), "p_r": (-2, 2), "p_phi": (-2, 2)}, angles=("phi",))
LENGTHS = Domain.box({"x1": (-2, 2), "x2": (-2, 2), "p1": (-2, 2), "p2": (-2, 2)})
T = np.linspace(0, 6, 301)
FAMILIES = {
    "double pendulums": (
        double_pendulum,
        ANGLES,
        {Entry(0, 0, ONE), Entry(0, 1, Factor((0, 0), (1, -1))), Entry(1, 1, ONE)},
    ),
    "spring pendulums with friction": (
        spring_pendulum,
        POLAR,
        {Entry(0, 0, ONE), Entry(1, 1, Factor((2, 0), (0, 0)))},
    ),
    "unequal springs": (unequal_springs, LENGTHS, {Entry(0, 0, ONE), Entry(1, 1, ONE)}),
}


@functools.cache
def family(make, columns, noise, members=12, new=4):
    """Mechanisms and their recordings, those for training first."""
    random = np.random.default_rng(5)
    made = [make(random) for _ in range(members + new)]
    seen = [recorded(one, T, noise, random, momenta=columns == "q,p") for one in made]
    if columns == "q":
        seen = [dataclasses.replace(one, v=None) for one in seen]
    return made, [[one] for one in seen]


@functools.cache
def found_in(name, columns, noise):
    """The mass matrices that the members for training tell."""
    make, domain, _ = FAMILIES[name]
    return find_kinetic_energies(family(make, columns, noise)[1][:12], domain, (1.0, 1.0))


def error_of_momenta(inertia, mechanism):
    """The relative error along the true motion, up to the unit of energy, which no motion tells."""
    q, v = mechanism.motion(T)
    p = mechanism.momenta(q, v)
    found = inertia.momenta(torch.from_numpy(q.copy()), torch.from_numpy(v.copy())).numpy()
    factor = (found * p).sum() / (found * found).sum()
    return np.sqrt(np.square(factor * found - p).sum() / np.square(p).sum())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("columns", "noise"), [("q,v", 0.01), ("q", 0.001)])
def test_the_mass_matrices_of_a_family_are_found(name, columns, noise):
    make, _, expected = FAMILIES[name]
    made, seen = family(make, columns, noise)
    energies = found_in(name, columns, noise)
    assert energies is not None
    assert set(energies.entries) == expected
    inertias = Inertias((1.0, 1.0), energies)
    assert np.median([error_of_momenta(inertias.of(own), one) for own, one in zip(seen, made, strict=True)]) < 0.02
    # New members of which a third was observed.
    short = [[dataclasses.replace(one, **first(one)) for one in own] for own in seen[12:]]
    errors = [error_of_momenta(inertias.of(own), one) for own, one in zip(short, made[12:], strict=True)]
    typical = [error_of_momenta(energies.typical, one) for one in made[12:]]
    assert np.median(errors) < 0.03
    # What two members have in common is known before; where masses differ, the recording tells more.
    assert np.median(errors) < max(0.5 * np.median(typical), 0.005)


def first(one):
    count = len(one.t) // 3
    return {name: None if (v := getattr(one, name)) is None else v[:count] for name in ("t", "q", "v", "p")}


@pytest.mark.parametrize("name", ["double pendulums", "spring pendulums with friction"])
def test_recorded_momenta_tell_the_mass_matrices_and_their_unit(name):
    _, _, expected = FAMILIES[name]
    made, seen = family(FAMILIES[name][0], "q,p", 0.01)
    energies = found_in(name, "q,p", 0.01)
    assert energies is not None
    assert energies.recorded
    assert set(energies.entries) == expected
    for own, mechanism in zip(seen[12:], made[12:], strict=True):
        short = [dataclasses.replace(one, **first(one)) for one in own]
        q, _ = mechanism.motion(T)
        found = inertia_of(energies, short).matrix(torch.from_numpy(q)).numpy()
        true = np.stack([mechanism.mass(one) for one in q])
        assert np.linalg.norm(found - true) < 0.05 * np.linalg.norm(true)


@pytest.mark.parametrize("columns", ["q,v", "q", "q,p"])
def test_a_constant_inertia_that_explains_the_members_stays(columns):
    _, seen = family(henon_heiles, columns, 0.01)
    assert find_kinetic_energies(seen, LENGTHS, (1.0, 1.0)) is None


def follows_no_law(random):
    frequencies = random.uniform(0.5, 3.0, (2, 5))
    q = np.stack([sum(np.sin(f * T + 3 * f) for f in row) for row in frequencies], axis=-1)
    v = np.stack([sum(f * np.cos(f * T + 3 * f) for f in row) for row in frequencies], axis=-1)
    return [Trajectory(T, q, None, v, "")]


def test_no_mass_matrix_is_made_up_for_motions_that_follow_no_law(caplog):
    random = np.random.default_rng(0)
    members = [follows_no_law(random) for _ in range(6)]
    caplog.set_level("INFO")
    assert find_kinetic_energies(members, LENGTHS, (1.0, 1.0)) is None
    assert "No mass matrix" in caplog.text


def test_numbers_hold_where_momenta_were_observed():
    inertias = Inertias((2.0, 3.0), found_in("double pendulums", "q,v", 0.01))
    (one,), *_ = family(double_pendulum, "q,v", 0.01)[1]
    assert not inertias.of([one]).constant
    assert inertias.of([dataclasses.replace(one, p=one.v, v=None)]) == Inertia.of((2.0, 3.0), 2)


def test_positions_that_are_integrals_tell_no_mass_matrix():
    """The zero of each is unknown, on which M(q) depends."""
    _, seen = family(double_pendulum, "q,v", 0.01)
    alone = [[dataclasses.replace(one, integrated=True) for one in own] for own in seen]
    assert find_kinetic_energies(alone, ANGLES, (1.0, 1.0)) is None
