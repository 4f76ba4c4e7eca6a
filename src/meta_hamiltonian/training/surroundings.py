"""What the members of a recorded family have in common, found and not assumed: whether coordinates are logarithms, a
separable law, friction, and a law at all."""

import copy
import dataclasses
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import FRICTION, Domain
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.inference.friction import FIRST, Kinds, choose
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.least_squares import least_squares
from meta_hamiltonian.learners.numerics.linear_head import balanced, balanced_variance, head_problem
from meta_hamiltonian.models import FieldNetwork
from meta_hamiltonian.observations.smoothing import EXPLAINED, INDEPENDENT
from meta_hamiltonian.training.refined import refine

log = logging.getLogger(__name__)

# A law that leaves this part of the squared rates leaves nothing but digits, which are no evidence.
DIGITS = 1e-12
# Rounds in which coarse recordings are smoothed before friction is looked for.
_ROUNDS = 3
# Friction of a family takes energy out of this part of its members at least.
_MOST_MEMBERS = 0.75
# Evidence is clear where its logarithm is larger by this.
_CLEAR = 10.0
# A separable law is as good where it leaves at most so many times the variance that any law does.
_AS_GOOD = 1.5
# What is left of the other half of the rates of a separable law may be an error of features that are still to be
# trained, up to this part.
_NEARLY = 0.15**2
# A law explains rates of splines where it leaves this part of their squares.
_EXPLAINS = 2.5e-3
# Positive quantities that change by less than this part of themselves look as if they had no logarithm.
_CHANGES = 0.01
# A member is a stranger from so many times the error of the median member on, where its error is this part of its
# rates.
_STRANGE, _MATTERS = 5.0, 0.03


def settle_rates(learner: Ridge, data: RecordedDataModule) -> None:
    """Smooths coarse recordings around a first law, before friction is looked for.

    What splines miss between two instants looks like friction: eight pendulums without any, of 26 instants each, were
    given two kinds of it. The law may have viscous friction here, and loses nothing by it.
    """
    if not data.coarse:
        return
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    data.suppose_friction(FIRST)
    for _ in range(_ROUNDS):
        learner.find_prior(data.known)
        refine(learner, data)
    learner.load_state_dict(state)
    data.suppose_friction(())


class Friction(NamedTuple):
    """The friction that the members of a family have together.

    - `kinds`: which.
    - `doubt`: why no law with friction may be right, in words; empty where nothing speaks against it.
    """

    kinds: Kinds
    doubt: str = ""


def find_friction(learner: Ridge, data: RecordedDataModule) -> Friction:
    """Which friction the members of a family have together, by what the best distribution of heads leaves.

    No friction, each kind alone and a second one are compared ([`choose`][meta_hamiltonian.inference.friction.choose]),
    with coefficients for each member. The features are those of the body before training: they are smooth, and no
    conservative combination of them explains that an orbit shrinks. Each coefficient costs ½ log N (Schwarz). Friction
    takes energy out: what would bring energy in for many members is an error of their rates, or tells that no law of
    this kind is theirs, if the evidence is strong.

    **Returns:** what was found, whose kinds the data module then assumes.
    """
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    rates = learner.scaled(data.known).points.dxdt
    digits = DIGITS * rates.square().mean()
    # As many as tell something by themselves, of each member.
    rows = data.known.points.counts.double().clamp(max=INDEPENDENT) * (rates.shape[-1] // 2)

    tried: dict[Kinds, tuple[Kinds, float]] = {}

    def fitted(kinds: Kinds) -> tuple[Kinds, float]:
        """The kinds that take energy out, and the evidence of all."""
        data.suppose_friction(kinds)
        noise = learner.find_prior(data.known).noise + digits
        evidence = -rows.sum().item() * noise.log().item() - len(kinds) * rows.log().sum().item()
        log.info(f"Friction {_said(kinds)}: evidence {evidence:.4g}, error {noise.sqrt():.2g}.")
        if not kinds:
            return kinds, evidence
        d = learner.free_coefficients(data.known)[:, : len(kinds)]  # gains of inputs come after them
        takes = (d > 0).double().mean(0) >= _MOST_MEMBERS
        return tuple(kind for kind, good in zip(kinds, takes.tolist(), strict=True) if good), evidence

    def left(kinds: Kinds) -> Kinds:
        if kinds not in tried:
            tried[kinds] = fitted(kinds)
        fewer, _ = tried[kinds]
        return kinds if fewer == kinds else left(fewer)

    best, _ = choose(left, lambda laws: [tried[kinds][1] for kinds in laws])
    learner.load_state_dict(state)
    data.suppose_friction(best)
    log.info(f"The members have friction: {_said(best)}." if best else "The members conserve energy.")
    of_one_kind = [(takes_out, evidence) for kinds, (takes_out, evidence) in tried.items() if len(kinds) == 1]
    against = max((evidence - tried[best][1] for takes_out, evidence in of_one_kind if not takes_out), default=0.0)
    if against <= _CLEAR:
        return Friction(best)
    return Friction(
        best,
        f"The recordings are explained better by friction that brings energy in (the log evidence is {against:.0f} "
        "larger), which no friction does: their members are driven or excite themselves, or their law has terms that "
        "were not found; do not trust their orbits.",
    )


def _said(kinds: Kinds) -> str:
    return " + ".join(kinds) or "none"


def find_logarithms(build: Callable[[Domain], Ridge], data: RecordedDataModule) -> Domain | None:
    """The domain with its coordinates taken for logarithms of positive quantities, where that is the simpler law.

    That is where every coordinate is a number without a unit, and where their exponentials explain the members, which
    the coordinates and their products do not, and which higher powers do less well.

    **Arguments:** `build`: gives a learner for a domain.

    **Returns:** None where they are as they were read.
    """
    domain = data.recordings.domain
    if any(one.kind != "length" or one.unit for one in domain.coordinates) or min(domain.half_widths) < _CHANGES:
        return None
    as_logarithms = (dataclasses.replace(one, kind="logarithm") for one in domain.coordinates)
    try:
        other = dataclasses.replace(domain, coordinates=tuple(as_logarithms))
    except ValueError:  # they are too large for logarithms
        return None
    data.suppose_friction(FIRST)
    left = []
    for one, powers in ((domain, False), (other, False), (domain, True)):
        learner = build(one)
        noise = learner.find_prior(data.known, _EXPLAINS, powers).noise.item()
        left.append(math.inf if learner.uses_body else noise)
    data.suppose_friction(())
    by_products, by_exponentials, by_powers = left
    if by_products < math.inf or by_exponentials >= by_powers:
        return None
    log.info("q and p are taken for logarithms of positive quantities: their exponentials explain the members.")
    return other


def is_separated(net: FieldNetwork, data: RecordedDataModule) -> bool:
    """Whether the energy is T + V(q) for p = M dq/dt: by definition, with a constant M where momenta were not observed,
    or with one whose kinetic energies the network has."""
    return data.recordings.constant_inertia or net.has_kinetic_energies


def find_separation(learner: Ridge, data: RecordedDataModule) -> bool:
    """Separates the body where H = T(p) + V(q) explains the members as well, by its best heads before training.

    It does where it leaves little more than any H does, or no more than the errors of the rates explain. One half of
    the rates is enough: where dq/dt = ∂H/∂p is a function of p alone, or dp/dt one of q alone, H has no other form,
    and the other half is only hard to approximate before training. Where momenta were not observed,
    p = M dq/dt leaves no other law: ∂H/∂p = M⁻¹p makes H = p·M⁻¹p / 2 + V(q).

    Where hidden units see positions and momenta together, members that see different parts of the domain say little
    about each other; a function of positions alone, or of momenta alone, is known wherever one member has been. Nine
    recordings of predators and their prey tell the law of a tenth if the body is separated, and do not otherwise.

    **Returns:** whether the body was separated.
    """
    if learner.net.separable_features is None:
        return False
    if is_separated(learner.net, data):
        learner.net.separate()
        return True
    state, together = copy.deepcopy(learner.state_dict()), copy.deepcopy(learner)
    learner.net.separate()
    data.suppose_friction(FIRST)  # each law may have it: it is looked for afterwards
    separate, mixed = (_left(one, data) for one in (copy.deepcopy(learner), together))
    of_halves = torch.minimum(separate, _left_of_halves(learner, data))
    data.suppose_friction(())
    errors = _errors_of_halves(learner, data).to(mixed)

    def explains(left: Tensor, of_any: Tensor, of_errors: Tensor) -> Tensor:
        # A law that may mix q and p explains errors of the rates, too.
        return left <= torch.maximum(_AS_GOOD * of_any, of_errors)

    whole = explains(separate.mean(), mixed.mean(), errors.mean())
    half = explains(of_halves, mixed, errors).any() & (separate <= _NEARLY).all()
    as_good = bool(whole | half)
    words = [" and ".join(f"{error:.2g}" for error in one.sqrt().tolist()) for one in (separate, mixed)]
    log.info(f"H = T(p) + V(q) leaves the errors {words[0]} of dq/dt and dp/dt, any H {words[1]}.")
    if not as_good:
        learner.load_state_dict(state)
    return as_good


def _left(learner: Ridge, data: RecordedDataModule) -> Float[Tensor, " 2"]:
    """The variance of dq/dt and of dp/dt that the best heads of the family leave, for the body as it is."""
    noise = learner.find_prior(data.known).noise
    points = learner.scaled(data.known).points
    features, targets = (part.double() for part in learner.centred(points))
    design = features @ learner.prior_factor.detach().double()
    halves = _by_halves(targets - design @ least_squares(design, targets), points).square().mean((0, 2, 3))
    # The noise is without the part that so many unknowns fit by chance.
    return halves * noise / halves.mean()


def _left_of_halves(learner: Ridge, data: RecordedDataModule) -> Float[Tensor, " 2"]:
    """The variance of dq/dt that a function of p alone leaves, and of dp/dt one of q alone, simple ones of each member;
    infinite where there are not enough rates to tell."""
    points = learner.scaled(data.known).points
    features, targets = (balanced(learner.net, part).double() for part in head_problem(learner.net, points))
    plain, separable = learner.net.plain_features, learner.net.separable_features
    assert plain is not None
    assert separable is not None
    halves = []
    for half in (0, 1):
        rows, rates = (_by_halves(part, points)[:, half] for part in (features[..., plain & separable], targets))
        rows = rows[..., rows.any(0).any(0)]
        free = points.counts.double() * points.x.shape[-1] / 2 - rows.shape[-1]
        left = (rates - rows @ least_squares(rows, rates)).square().sum()
        told = free.clamp_min(0).sum()
        halves.append(torch.where(told > 0, left / told, torch.inf))
    return torch.stack(halves)


def _by_halves(rows: Float[Tensor, "tasks rows columns"], points: Points) -> Float[Tensor, "tasks 2 half columns"]:
    """The rows of dq/dt, and those of dp/dt."""
    return rows.unflatten(1, (-1, 2, points.x.shape[-1] // 2)).transpose(1, 2).flatten(2, 3)


def _errors_of_halves(learner: Ridge, data: RecordedDataModule) -> Float[Tensor, " 2"]:
    """The variance that a law may leave of dq/dt and of dp/dt because of the errors of states and rates."""
    variance = learner.scaled(data.known).variance
    if variance is None:
        return torch.zeros(2)
    return EXPLAINED * balanced_variance(learner.net, variance).unflatten(-1, (2, -1)).mean((0, 2))


def errors_of(learner: Ridge, data: RecordedDataModule) -> float:
    """The same for all rates."""
    return _errors_of_halves(learner, data).mean().item()


def find_lawless(learner: Ridge, data: RecordedDataModule) -> dict[str, float]:
    """Members that no sum of simple terms and friction explains, where such sums explain the others: driven ones.

    Each member is fitted by itself, so that one that is driven cannot spoil the law of the others, which it would where
    they are few. A member with no more rates than there are terms cannot be judged, since such sums explain anything;
    nor is one whose rates are known so badly that their errors explain what is left.

    **Returns:** by name, how many times the error of the median member theirs is.
    """
    plain = learner.net.plain_features
    if plain is None:
        return {}
    data.suppose_friction(tuple(FRICTION))
    known = rescaled(data.known)
    points = known.points
    features, targets = (balanced(learner.net, part).double() for part in head_problem(learner.net, points))
    data.suppose_friction(())
    features = features[..., plain]
    left = targets - features @ least_squares(features, targets)
    numbers = points.counts * points.x.shape[-1]
    assert points.free is not None
    assert known.variance is not None
    errors = balanced_variance(learner.net, known.variance).mean(-1)
    free = numbers - features.shape[-1] - points.free.shape[-1]
    variance = left.square().sum((1, 2)) / torch.where(free > 0, free, torch.nan)
    found = _far(data, (variance / targets.square().sum((1, 2)) * numbers).sqrt())
    explained = dict(zip(data.known_names, (variance <= EXPLAINED * errors).tolist(), strict=True))
    return {name: ratio for name, ratio in found.items() if not explained[name]}


def find_strangers(learner: Ridge, data: RecordedDataModule) -> dict[str, float]:
    """Members that the best law of the family fits far worse than the others, such as those of another family.

    **Returns:** by name, how many times the error of the median member theirs is.
    """
    learner.find_prior(data.known)
    with torch.no_grad():
        losses = learner.task_losses(learner.scaled(data.known))
    return _far(data, (losses / learner.net.state_dim).sqrt())


def _far(data: RecordedDataModule, errors: Float[Tensor, " members"]) -> dict[str, float]:
    """The members whose errors are far above that of the median one; those whose errors are not known are none."""
    typical = errors.nanmedian().item()
    times = (errors / max(typical, torch.finfo(errors.dtype).tiny)).tolist()
    return {
        name: ratio
        for name, ratio, error in zip(data.known_names, times, errors.tolist(), strict=True)
        if ratio > _STRANGE and error > _MATTERS
    }
