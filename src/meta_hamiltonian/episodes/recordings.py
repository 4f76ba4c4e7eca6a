"""The members of a family that has no formula, as points: read, compared, split and put into a domain."""

import dataclasses
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.basics.random import generator
from meta_hamiltonian.dynamics import Domain, Signal, inputs_at
from meta_hamiltonian.episodes.kinetics import spanned_in
from meta_hamiltonian.episodes.points import Points
from meta_hamiltonian.observations import (
    CanonicalTrajectory,
    Derivatives,
    ObservationError,
    Trajectory,
    canonical,
    signals_of,
    well_known_points,
)
from meta_hamiltonian.observations.advice import in_keys
from meta_hamiltonian.observations.forms import counted, named
from meta_hamiltonian.observations.inertias import Inertias
from meta_hamiltonian.observations.lagrange import find_kinetic_energies
from meta_hamiltonian.observations.members import Member, Members, read_members
from meta_hamiltonian.observations.shape import Asked

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
# So many members are for training before one is for the test, and before one is for validation.
_FEWEST, _FEWEST_BESIDE = 2, 4
# A member is unlike the others from so many of their own deviations on, and by this factor at least.
_UNLIKE, _FACTOR = 5.0, 4.0
# A logarithm of sizes, such as of two members alike, has a deviation of at least so much.
_LEAST_DEVIATION = 0.3
# The box of a coordinate that does not change is this part of its size wide.
_NARROWEST = 1e-9


@dataclasses.dataclass(frozen=True)
class RecordedMember:
    """One member.

    - `observations`: as they were read.
    - `points`: states and rates `[K, 2n]` at the instants where rates are known well.
    - `variance`: that of the errors of each coordinate's rates, 0 where rates were observed.
    - `known`: what `members.csv` says of it.
    - `paths`: the smoothed trajectories that the points are from; none where rates were observed.
    - `signals`: the measured inputs of each trajectory; empty without inputs.
    - `inputs`: those at the points, 0 for a free member of a family that is driven; None for a family that is not.
    """

    name: str
    observations: Derivatives | Sequence[Trajectory]
    points: Points
    variance: Float[Tensor, " state"]
    known: Mapping[str, str]
    paths: Sequence[CanonicalTrajectory] = ()
    signals: tuple[Signal, ...] = ()
    inputs: Float[Tensor, "points inputs"] | None = None

    @property
    def without_momenta(self) -> bool:
        """Whether p was not observed, but is inertia · dq/dt."""
        return not isinstance(self.observations, Derivatives) and self.observations[0].p is None

    def refined(
        self,
        paths: Sequence[CanonicalTrajectory],
        points: Points,
        errors: Float[Tensor, "points state"],
        t: Float[Tensor, " points"],
        which: Int[Tensor, " points"],
    ) -> "RecordedMember":
        """The same member smoothed in another way.

        **Arguments:**

        - `paths`: the smoothed trajectories.
        - `points`: states and rates of these; `errors`: standard deviations of the rates.
        - `t`, `which`: the time of each point, and its trajectory.
        """
        inputs = None if self.inputs is None else self.inputs.new_zeros(len(t), self.inputs.shape[1])
        if self.signals:
            inputs = inputs_at(self.signals, t, which)
        variance = errors.square().mean(0)
        return dataclasses.replace(self, points=points, variance=variance, paths=paths, inputs=inputs)


@dataclasses.dataclass(frozen=True)
class Recordings:
    """A family, in float64.

    - `domain`: what the members for training and validation tell: their extent with a margin, and the units.
    - `train`, `val`, `test`: the members of each split.
    - `inertias`: the mass matrices M of p = M dq/dt.
    - `notes`: how they were read.
    """

    domain: Domain
    train: Sequence[RecordedMember]
    val: Sequence[RecordedMember]
    test: Sequence[RecordedMember]
    inertias: Inertias
    notes: Sequence[str]

    @property
    def without_momenta(self) -> bool:
        """Whether the momenta of the family are p = M dq/dt by definition."""
        return self.train[0].without_momenta

    @property
    def constant_inertia(self) -> bool:
        """Whether the momenta of the family are p = M dq/dt with a constant M, by definition."""
        energies = self.inertias.energies
        return self.without_momenta and (energies is None or energies.typical.constant)

    @property
    def driven(self) -> bool:
        """Whether measured inputs act on members of the family."""
        return self.train[0].inputs is not None

    @property
    def fingerprint(self) -> str:
        """Changes with the data, and with how they are split."""
        content = hashlib.sha256()
        for split in SPLITS:
            for member in getattr(self, split):
                content.update(f"{split} {member.name}".encode())
                content.update(member.points.x.numpy().tobytes())
                if member.inputs is not None:
                    content.update(member.inputs.numpy().tobytes())
        return content.hexdigest()[:16]


def load_recordings(
    path: str,
    member: str | None = None,
    split: int | str = 0,
    held_out: float = 0.15,
    margin: float = 0.1,
    inertia: float | Sequence[float] = 1.0,
    asked: Asked = Asked(),  # noqa: B008 (a tuple)
    skip_bad: bool = False,
) -> Recordings:
    """Reads a family.

    **Arguments:**

    - `path`: a folder with a file or a folder a member, or a table with all of them.
    - `member`: in tables of several members, the column that names them.
    - `split`: a seed, or a column of `members.csv` that says train, val or test.
    - `held_out`: with a seed, the part of the members that is for validation, and again as many for the test.
    - `margin`: by how much the domain is wider than what was observed, as a part of its width, on either side.
    - `inertia`: where p was not observed, p = inertia · dq/dt; one number, or one for each coordinate.
    - `asked`: what the names of columns leave open.
    - `skip_bad`: goes on without members that cannot be read or are unlike the others.

    **Raises:** [`ConfigError`][] in one line, which names the members at fault.
    """
    try:
        read = read_members(Path(path), member, asked)
        same = Inertias(_masses(inertia, read.domain.degrees_of_freedom))
        refused, members = dict(read.refused), []
        for one in read.members:
            try:
                members.append(_recorded(one, same))
            except ObservationError as error:
                refused[one.name] = str(error)
    except ObservationError as error:
        raise ConfigError(f"data.path: {in_keys(str(error))}") from error
    refused = {name: in_keys(why) for name, why in refused.items()}
    refused |= _twice(members)
    driven, members = _with_inputs(members)
    refused |= driven
    unlike = _unlike([one for one in members if one.name not in refused])
    for name, words in unlike.items():
        log.warning(f"{name} {words}{' and is left out' if skip_bad else ''}.")
    if refused and not skip_bad:
        name, why = next(iter(refused.items()))
        others = f" (and {named('member', list(refused)[1:])} too)" if len(refused) > 1 else ""
        raise ConfigError(
            f"data.path={path} is not allowed: {name}: {why.rstrip('.')}{others}; "
            "put it right, take it out, or go on without such members with data.skip_bad=true"
        )
    for name, why in refused.items():
        log.warning(f"{name} is left out: {why}.")
    left = {*refused, *unlike} if skip_bad else set(refused)
    members = [one for one in members if one.name not in left]
    parts = _split(members, split, held_out)
    inertias, parts, domain = _with_inertias(parts, same, read.domain, margin)
    return Recordings(domain, **parts, inertias=inertias, notes=_notes(read, parts, inertias))


def _masses(inertia: float | Sequence[float], n: int) -> tuple[float, ...]:
    each = tuple(float(m) for m in inertia) if isinstance(inertia, Sequence) else (float(inertia),) * n
    if len(each) != n or not all(0 < m < np.inf for m in each):
        raise ConfigError(f"data.inertia={inertia} is not allowed: give a finite number above 0, or {n} of them")
    return each


def _recorded(member: Member | RecordedMember, inertias: Inertias) -> RecordedMember:
    seen = member.observations
    if isinstance(seen, Derivatives):
        points = Points(torch.from_numpy(seen.x), torch.from_numpy(seen.dxdt))
        return RecordedMember(member.name, seen, points, torch.zeros_like(points.x[0]), member.known)
    inertia = inertias.of(seen)
    signals, paths = signals_of(seen), [canonical(one, inertia) for one in seen]
    found = well_known_points(paths)
    points, variance = Points(found.x, found.dxdt), found.rate_error.square().mean(0)
    return RecordedMember(member.name, seen, points, variance, member.known, paths, signals, found.inputs(signals))


def _with_inertias(
    parts: dict[str, list[RecordedMember]], same: Inertias, shape: Domain, margin: float
) -> tuple[Inertias, dict[str, list[RecordedMember]], Domain]:
    """The mass matrices of a family, its members with the momenta of these where none were observed, and its domain."""

    def known(parts: dict[str, list[RecordedMember]]) -> list[RecordedMember]:
        return [*parts["train"], *parts["val"]]

    domain = _domain(shape, [one.points.x for one in known(parts)], margin)
    energies = find_kinetic_energies([one.observations for one in known(parts)], domain, same.numbers)
    if energies is None:
        return same, parts, domain
    inertias, others, box = Inertias(same.numbers, energies), parts, domain
    if not energies.recorded:
        others = {name: [_recorded(one, inertias) for one in own] for name, own in parts.items()}
        box = _domain(shape, [one.points.x for one in known(others)], margin)
    if (spanned := spanned_in(box, energies)) is None:
        return same, parts, domain
    if energies.recorded:
        return inertias, parts, dataclasses.replace(box, kinetic=spanned)
    n = box.degrees_of_freedom
    momenta = (dataclasses.replace(one, unit="") for one in box.coordinates[n:])  # motions tell no unit of energy
    return inertias, others, dataclasses.replace(box, coordinates=(*box.coordinates[:n], *momenta), kinetic=spanned)


def _with_inputs(members: Sequence[RecordedMember]) -> tuple[dict[str, str], list[RecordedMember]]:
    """Members with another number of inputs than most, in words; and all members, the free ones with inputs that are 0
    where others are driven."""
    counts = Counter(one.inputs.shape[1] for one in members if one.inputs is not None)
    if not counts:
        return {}, list(members)
    (most, _), *_ = counts.most_common(1)
    refused, found = {}, []
    for one in members:
        inputs = one.points.x.new_zeros(len(one.points.x), most) if one.inputs is None else one.inputs
        if inputs.shape[1] != most:
            refused[one.name] = f"it has {counted(inputs.shape[1], 'measured input')}, and most members have {most}"
        found.append(dataclasses.replace(one, inputs=inputs))
    return refused, found


def _twice(members: Sequence[RecordedMember]) -> dict[str, str]:
    """Members that hold the same observations as an earlier one."""
    first: dict[bytes, str] = {}
    found = {}
    for one in members:
        content = hashlib.sha256(one.points.x.numpy().tobytes()).digest()
        if content in first:
            found[one.name] = f"it holds the same observations as {first[content]}"
        first.setdefault(content, one.name)
    return found


def _unlike(members: Sequence[RecordedMember]) -> dict[str, str]:
    """Members whose size or pace is far from those of the others, in words with a number.

    Compared are the logarithms of how far each coordinate moves and of its rates, with median and median deviation.
    """
    if len(members) < 4:
        return {}
    names = [f"{what} of {c}" for what in ("the extent", "the rate") for c in ("q", "p")]
    logs = torch.stack([_logs(one.points) for one in members])
    middle = logs.median(0).values
    deviation = ((logs - middle).abs().median(0).values / 0.6745).clamp_min(_LEAST_DEVIATION)
    away = (logs - middle) / deviation
    found = {}
    for one, own, by in zip(members, away, (logs - middle).exp(), strict=True):
        i = int(own.abs().argmax())
        if own[i].abs() > _UNLIKE and max(by[i], 1 / by[i]) > _FACTOR:
            found[one.name] = (
                f"is unlike the other members: {names[i]} is {by[i]:.2g} times that of the median, "
                f"{own[i].abs():.0f} deviations away: other units, or no member of the family"
            )
    return found


def _logs(points: Points) -> Float[Tensor, " 4"]:
    halves = [*points.x.chunk(2, dim=-1), *points.dxdt.chunk(2, dim=-1)]
    return torch.stack([half.std(0).norm() for half in halves]).clamp_min(1e-300).log()


def _split(members: Sequence[RecordedMember], split: int | str, held_out: float) -> dict[str, list[RecordedMember]]:
    if isinstance(split, str):
        return _by_column(members, split)
    if len(members) < 2:
        raise ConfigError(
            f"data.path is not allowed: a family needs at least 2 members, and {len(members)} can be used; "
            "record more members"
        )
    order = generator(split, "members").permutation(len(members)).tolist()
    # Two members are for training before any are for the test, and four before any are for validation: other points
    # of the members of the training do for that.
    tested = min(max(1, round(held_out * len(members))), len(members) - _FEWEST) if held_out > 0 else 0
    validated = tested if len(members) - 2 * tested >= _FEWEST_BESIDE else 0
    shuffled = [members[i] for i in order]
    val, test, train = shuffled[:validated], shuffled[validated : validated + tested], shuffled[validated + tested :]
    return {"train": _in_order(train, members), "val": _in_order(val, members), "test": _in_order(test, members)}


def _in_order(some: Sequence[RecordedMember], members: Sequence[RecordedMember]) -> list[RecordedMember]:
    chosen = {one.name for one in some}
    return [one for one in members if one.name in chosen]


def _by_column(members: Sequence[RecordedMember], column: str) -> dict[str, list[RecordedMember]]:
    parts: dict[str, list[RecordedMember]] = {name: [] for name in SPLITS}
    for one in members:
        if (value := one.known.get(column)) not in parts:
            said = "has no such column" if value is None else f"says {value!r}"
            raise ConfigError(
                f"data.split={column} is not allowed: members.csv {said} for {one.name}; give train, val or test"
            )
        parts[value].append(one)
    if not parts["train"]:
        raise ConfigError(f"data.split={column} is not allowed: members.csv names no member for training")
    return parts


def _domain(shape: Domain, states: Sequence[Float[Tensor, "_ state"]], margin: float) -> Domain:
    """The box around the states, with a margin.

    Around 0 in momenta of either sign: there the square of a momentum in units of the box is that of the momentum
    itself, and energies need no linear term beside it.
    """
    x = torch.cat(list(states))
    low, high = x.amin(0), x.amax(0)
    size = x.abs().amax(0)
    wide = margin * (high - low).maximum(_NARROWEST * torch.where(size > 0, size, 1.0))
    low, high = low - wide, high + wide
    momenta = torch.tensor(
        [i >= shape.degrees_of_freedom and c.kind == "length" for i, c in enumerate(shape.coordinates)]
    )
    most = torch.where(momenta & (low < 0) & (high > 0), torch.maximum(-low, high), torch.nan)
    low, high = torch.where(most.isnan(), low, -most), torch.where(most.isnan(), high, most)
    ends = zip(shape.coordinates, low.tolist(), high.tolist(), strict=True)
    return dataclasses.replace(shape, coordinates=tuple(dataclasses.replace(c, low=a, high=b) for c, a, b in ends))


def _notes(read: Members, parts: Mapping[str, Sequence[RecordedMember]], inertias: Inertias) -> list[str]:
    counts = ", ".join(f"{len(parts[name])} for {words}" for name, words in _WORDS.items())
    notes = [*read.notes, f"members: {counts}"]
    n, energies = read.domain.degrees_of_freedom, inertias.energies
    typical = None if energies is None else energies.typical.words(read.domain.names[:n])
    if energies is not None and energies.recorded:
        notes.append(f"p is M(q) dq/dt, where the typical member has {typical}")
    elif energies is not None:
        notes.append(
            "p was not observed, and no constant inertia explains the accelerations: it is M(q) dq/dt, where the "
            f"typical member has {typical}; the unit of energy is twice the kinetic energy that members have on average"
        )
    elif parts["train"][0].without_momenta:
        m = ", ".join(f"{one:g}" for one in dict.fromkeys(inertias.numbers))
        notes.append(f"p was not observed: it is {m} · dq/dt, so energies are in units of that inertia")
    members = [one for name in SPLITS for one in parts[name]]
    if driven := [one for one in members if one.signals]:
        notes.append(
            f"{counted(len(driven), 'member')} of {len(members)} {'is' if len(driven) == 1 else 'are'} driven by "
            "measured inputs; each of them has gains of its own"
        )
    return notes


_WORDS = {"train": "training", "val": "validation", "test": "the test"}
