"""The mass matrices of a family: from recorded momenta, or by the Euler–Lagrange equations without them."""

import dataclasses
import logging
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Domain, Inertia, KineticEnergies
from meta_hamiltonian.observations.euler_lagrange import Equations, Motion, Terms, library, traces_of
from meta_hamiltonian.observations.forms import Derivatives, Trajectory
from meta_hamiltonian.observations.recorded_momenta import Momenta
from meta_hamiltonian.observations.smoothing import EXPLAINED
from meta_hamiltonian.observations.term_selection import Selection

log = logging.getLogger(__name__)

# Rounds of expectation and maximisation, and of the fit of a member, whose errors depend on its coefficients.
_ROUNDS, _ROUNDS_OF_MEMBER = 40, 4


def find_kinetic_energies(
    members: Sequence[Derivatives | Sequence[Trajectory]], domain: Domain, inertia: Sequence[float]
) -> KineticEnergies | None:
    """The mass matrices of members, if no constant one does.

    Where momenta were recorded, p = M(q) dq/dt is linear in the coefficients of M. Where they were not, the
    Euler–Lagrange equations are linear in those of M and of V, and the matrices are looked for if those of
    p = inertia · dq/dt are wrong.

    Terms of the mass matrix and of the potential are products of lengths and waves of angles. Each member has a
    coefficient of its own for each term. Where a constant inertia explains all members (and some potential, where
    momenta were not recorded), nothing else is looked for. Otherwise terms of the mass matrix are added one by one,
    beside all those of the potential, the one with the largest evidence first, until the errors of what was observed
    explain what is left. Then terms that the evidence does not ask for are left out, one by one.

    **Arguments:**

    - `members`: what was observed of each.
    - `domain`: the coordinates; the box is not used.
    - `inertia`: the one that is assumed, a number for each coordinate, where momenta were not recorded.

    **Returns:** None where a constant inertia explains the members, where no mass matrix does, or where some momenta
    were recorded and others were not.
    """
    if any(one.kind == "logarithm" for one in domain.coordinates):
        return None
    without = [own for own in members if not isinstance(own, Derivatives) and own[0].p is None]
    if not without:
        return _of_momenta(members, domain)
    return _of_motions(without, domain, inertia) if len(without) == len(members) else None


def _of_momenta(members: Sequence[Derivatives | Sequence[Trajectory]], domain: Domain) -> KineticEnergies | None:
    momenta = [Momenta.of(own) for own in members]
    if (every := library(domain, [one.q for one in momenta])) is None:
        return None
    every = Terms(every.entries, (), 1)
    fixed = torch.zeros(every.number, dtype=torch.float64)
    fixed[-1] = 1.0
    return _chosen(momenta, every, fixed, lambda found, constant: found.unexplained(constant))


def _of_motions(
    members: Sequence[Sequence[Trajectory]], domain: Domain, inertia: Sequence[float]
) -> KineticEnergies | None:
    if any(one.inputs is not None or one.integrated for own in members for one in own):
        return None  # other forces act, or the zero of each position is unknown
    motions = [Motion.of(own) for own in members]
    positions = [one.q for one in motions]
    if (every := library(domain, positions)) is None:
        return None
    traces = traces_of(every.entries, positions, _sizes(motions))
    fixed = torch.cat([traces, traces.new_zeros(every.number - len(traces))])
    return _chosen(motions, every, fixed, lambda found, constant: found.left_by(constant, inertia))


def _sizes(motions: Sequence[Motion | Momenta]) -> Float[Tensor, " n"]:
    return torch.stack([one.v.square().mean(0) for one in motions]).mean(0).sqrt()


def _chosen(
    motions: Sequence[Motion | Momenta],
    every: Terms,
    fixed: Float[Tensor, " terms"],
    left_by_constant: Callable[[Selection, list[int]], float],
) -> KineticEnergies | None:
    """The mass matrices of the terms that the members need, with c·θ = 1; None where that is a constant one."""
    sizes = _sizes(motions)
    if not (sizes > 0).all():
        return None
    found = Selection(every, (one.equations(every, sizes) for one in motions), fixed)
    diagonal = [k for k, one in enumerate(every.entries) if one.i == one.j and one.factor.constant]
    others = list(range(len(every.entries), every.number))
    if left_by_constant(found, [*diagonal, *others]) <= EXPLAINED:
        return None
    chosen = found.without_needless(found.with_needed([*diagonal, *others]))
    unexplained = found.unexplained(chosen)
    entries = [every.entries[k] for k in chosen if k < len(every.entries)]
    potential = [
        every.potential[k - len(every.entries)] for k in chosen if 0 <= k - len(every.entries) < len(every.potential)
    ]
    if unexplained > EXPLAINED or not entries:
        log.info(f"No mass matrix that was tried explains the members (χ² {unexplained:.3g}).")
        return None
    terms = Terms(tuple(entries), tuple(potential), every.beside)
    equations = [one.equations(terms, sizes) for one in motions]
    energies = dataclasses.replace(_distribution(terms, equations, fixed[chosen]), error=found.missed(chosen))
    own = [energies.inertia(_member(energies, one)) for one in equations]
    if not all((torch.linalg.eigvalsh(m.matrix(one.q)) > 0).all() for m, one in zip(own, motions, strict=True)):
        log.info("The mass matrix that explains the members is not positive, and is not used.")
        return None
    return energies


def inertia_of(energies: KineticEnergies, observations: Derivatives | Sequence[Trajectory]) -> Inertia:
    """The mass matrix of a member, from what was observed of it and from what is known of its family."""
    terms = Terms(energies.entries, energies.potential)
    if energies.recorded:
        motion = Momenta.of(observations)
        terms = terms._replace(beside=1)
    else:
        assert not isinstance(observations, Derivatives), "states and rates have momenta"
        motion = Motion.of(observations)
    alike = torch.ones_like(motion.v[0])  # each row counts by its own error
    return energies.inertia(_member(energies, motion.equations(terms, alike)))


def _distribution(terms: Terms, equations: Sequence[Equations], fixed: Float[Tensor, " terms"]) -> KineticEnergies:
    """How the coefficients of the members are distributed, by expectation and maximisation."""
    found = Selection(terms, equations, fixed)
    own, _ = found.solve(list(range(terms.number)))
    middle = own.median(0).values
    mean = middle / (fixed @ middle)
    size = (own - mean).abs().median(0).values + 1e-3 * mean.abs() + 1e-6 / found.scales
    factor = torch.diag(size)
    energies = _energies(terms, fixed, mean, factor)
    for _ in range(_ROUNDS):
        fits = [_fit(energies, one) for one in equations]
        thetas = torch.stack([theta for theta, _ in fits])
        mean = thetas.mean(0)
        spread = (thetas - mean).mT @ (thetas - mean) / len(fits) + torch.stack([one for _, one in fits]).mean(0)
        values, vectors = torch.linalg.eigh(spread * found.scales * found.scales[:, None])
        factor = vectors * values.clamp_min(0.0).sqrt() / found.scales[:, None]
        energies = _energies(terms, fixed, mean, factor)
    return energies


def _energies(terms: Terms, fixed: Tensor, mean: Tensor, factor: Tensor) -> KineticEnergies:
    columns = factor[:, factor.abs().amax(0) > 0]
    return KineticEnergies(
        terms.entries, terms.potential, tuple(fixed.tolist()), tuple(mean.tolist()), tuple(map(tuple, columns.tolist()))
    )


def _member(energies: KineticEnergies, equations: Equations) -> Float[Tensor, " terms"]:
    """The likeliest coefficients of a member."""
    return _fit(energies, equations)[0]


def _fit(energies: KineticEnergies, equations: Equations) -> tuple[Tensor, Tensor]:
    """The likeliest coefficients of a member, and their covariance."""
    mean, fixed = (torch.tensor(one, dtype=torch.float64) for one in (energies.mean, energies.fixed))
    factor = torch.tensor(energies.factor, dtype=torch.float64)
    # Directions in which c·θ stays what it is.
    along = fixed @ factor
    if along.norm() > 0:
        _, _, basis = torch.linalg.svd(along[None])
        factor = factor @ basis[1:].mT
    theta, count = mean, len(equations.rows)
    tell = equations.independent / count
    more, covariance = 1.0, factor @ factor.mT
    for _ in range(_ROUNDS_OF_MEMBER):
        weight = (equations.variance(theta) * more).clamp_min(1e-300).rsqrt()[:, None]
        rows = weight * equations.rows
        design = rows @ factor
        precision = tell * design.mT @ design + torch.eye(design.shape[1], dtype=design.dtype)
        z = torch.linalg.solve(precision, -tell * design.mT @ (rows @ mean))
        theta = mean + factor @ z
        covariance = factor @ torch.linalg.solve(precision, factor.mT)
        left = (equations.rows @ theta).square() / equations.variance(theta).clamp_min(1e-300)
        more = max(left.mean().item(), 1.0)
    return theta, covariance
