"""Mass matrices that depend on the positions, in the domain of a family."""

import dataclasses
import logging

import torch

from meta_hamiltonian.dynamics import Domain, KineticEnergies
from meta_hamiltonian.episodes.sampled import sample_episodes
from meta_hamiltonian.observations import Derivatives
from meta_hamiltonian.observations.lagrange import find_kinetic_energies
from meta_hamiltonian.systems import SimulatedSystem

log = logging.getLogger(__name__)

# Members whose momenta tell the mass matrices of a family, and points of each.
_MEMBERS, _POINTS = 60, 50


def spanned_in(domain: Domain, energies: KineticEnergies) -> KineticEnergies | None:
    """The same with matrices whose kinetic energies span those of the members in the domain; None, which the log says,
    where the typical matrix is not positive in all of it."""
    found = energies.spanned(domain.grid(), torch.tensor(domain.half_widths, dtype=torch.float64))
    if found is None:
        log.info("The mass matrix that explains the members is not positive in the whole domain, and is not used.")
    return found


def with_kinetic_energies(system: SimulatedSystem) -> Domain:
    """The domain of a family, with the mass matrices of its members where these depend on the positions.

    They are found from states and rates of some members, whose momenta are p = M(q) dq/dt, as those of a family of
    recordings are. A network that is linear in its head then has the kinetic energies of the family among its features,
    and need not learn them.
    """
    episodes = sample_episodes(system, _MEMBERS, _POINTS, 1, seed=0, split="inertia", dtype=torch.float64)
    states = zip(episodes.support.x.numpy(), episodes.support.dxdt.numpy(), strict=True)
    members = [Derivatives(x, dxdt) for x, dxdt in states]
    domain = system.domain
    energies = find_kinetic_energies(members, domain, (1.0,) * domain.degrees_of_freedom)
    spanned = None if energies is None else spanned_in(domain, energies)
    if spanned is None:
        return domain
    typical = spanned.typical.words(domain.names[: domain.degrees_of_freedom])
    log.info(f"p is M(q) dq/dt, where the typical member has {typical}.")
    return dataclasses.replace(domain, kinetic=spanned)
