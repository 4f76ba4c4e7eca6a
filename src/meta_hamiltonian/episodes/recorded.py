"""Meta-batches of recorded members."""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from meta_hamiltonian.basics.devices import share
from meta_hamiltonian.basics.random import generator
from meta_hamiltonian.dynamics import Terms
from meta_hamiltonian.dynamics.friction import friction_width
from meta_hamiltonian.episodes.outer_steps import OuterSteps
from meta_hamiltonian.episodes.points import Episodes, Points
from meta_hamiltonian.episodes.recordings import RecordedMember, Recordings
from meta_hamiltonian.observations import CanonicalTrajectory

QUERIES = ("random", "later")
# Points of a member at validation, and where heads of the family are compared, each in its two sets.
_MOST = 200


class RecordedBatches(Dataset[Episodes]):
    """Meta-batch b of the members for training, a function of `(seed, b)` alone; with several devices, this one's part.

    The points of a member are drawn anew for every meta-batch: support and query from all of them, or from its first
    half and from its second one.
    """

    def __init__(
        self,
        members: Sequence[RecordedMember],
        meta_batch: int,
        shots: int,
        queries: int,
        later: bool,
        seed: int,
        dtype: torch.dtype,
    ):
        self.members = members
        self.points = [one.points for one in members]
        self.shots, self.queries, self.later, self.seed, self.dtype = shots, queries, later, seed, dtype
        self.meta_batch = min(meta_batch, len(members))
        self.share = share(self.meta_batch)

    def __getitem__(self, index: int) -> Episodes:
        random = generator(self.seed, "recorded", index)
        picks = random.choice(len(self.members), self.meta_batch, replace=False, shuffle=False).tolist()
        seeds = random.integers(2**31, size=self.meta_batch).tolist()
        mine = list(zip(picks, seeds, strict=True))[self.share]
        pairs = []
        for pick, seed in mine:
            points = self.points[pick]
            order = torch.from_numpy(generator(seed, "points").permutation(len(points.x)))
            pairs.append(_halves(points, order, self.later, self.shots, self.queries))
        episodes = _together(pairs, [self.members[pick].variance for pick, _ in mine]).to(self.dtype)
        return dataclasses.replace(episodes, index=torch.tensor(picks[self.share]))


def _as_kept(member: RecordedMember, kept: Mapping[str, Any]) -> RecordedMember:
    paths = [CanonicalTrajectory(**path) for path in kept["paths"]]
    own = {name: kept[name] for name in ("variance", "inputs")}
    return dataclasses.replace(member, points=Points(**kept["points"]), paths=paths, **own)


def _halves(points: Points, order: Tensor, later: bool, shots: int, queries: int) -> tuple[Points, Points]:
    """Support and query of one member, points in this order: at most so many each, and at most half of them."""

    def chosen(i: Tensor) -> Points:
        return Points(points.x[i], points.dxdt[i], None, None if points.free is None else points.free[i])

    half = max(1, len(order) // 2)
    if later:  # the same random order inside each part
        middle = order.sort().values[half] if len(order) > 1 else order[0] + 1
        first, rest = order[order < middle], order[order >= middle]
    else:
        first, rest = order[:half], order[half:]
    if not len(rest):
        rest = first
    return chosen(first[:shots]), chosen(rest[:queries])


def _together(pairs: Sequence[tuple[Points, Points]], variances: Sequence[Float[Tensor, " state"]]) -> Episodes:
    support, query = (Points.of_tasks(list(part)) for part in zip(*pairs, strict=True))
    return Episodes(support, query, None, torch.stack(list(variances)).to(support.x))


def episodes_of(
    members: Sequence[RecordedMember], later: bool, dtype: torch.dtype, friction: Sequence[str] = ()
) -> Episodes:
    """The same members as fixed tasks, their points evenly chosen: every other one is for the query."""
    pairs = []
    for one in members:
        points = with_forces(one, friction)
        count = len(points.x)
        even = torch.arange(0, count, max(1, count // (2 * _MOST)))
        order = even if later else torch.cat([even[::2], even[1::2]])
        pairs.append(_halves(points, order, later, len(order), len(order)))
    return _together(pairs, [one.variance for one in members]).to(dtype)


def with_forces(member: RecordedMember, kinds: Sequence[str]) -> Points:
    """The points of a member, on which friction of these kinds and its inputs act, each as strongly as its own."""
    points, n = member.points, member.points.x.shape[1] // 2
    v = points.dxdt[:, :n]
    terms = Terms(tuple(kinds), friction_width(v), member.inputs)
    if not terms.count(n):
        return points
    forces = terms.columns(v)
    return dataclasses.replace(points, free=torch.cat([torch.zeros_like(forces), forces], dim=1))


class RecordedDataModule(LightningDataModule):
    """Meta-batches of recorded members, and those for validation.

    **Arguments:**

    - `recordings`: the family.
    - `meta_batch`: members an outer step, at most all of them.
    - `train_shots`, `train_queries`: points of a member in each support and query set, at most half of what it has.
    - `query`: `"random"`: support and query are any of a member's points; `"later"`: of its first and second half.
    - `seed`: every draw depends on it.
    - `dtype`: of the episodes.
    """

    def __init__(
        self,
        recordings: Recordings,
        meta_batch: int,
        train_shots: int,
        train_queries: int,
        query: str,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.later = later = query == "later"
        self.recordings, self.dtype = recordings, dtype
        self.make_batches = functools.partial(
            RecordedBatches,
            meta_batch=meta_batch,
            shots=train_shots,
            queries=train_queries,
            later=later,
            seed=seed,
            dtype=dtype,
        )
        self.batches = self.make_batches(recordings.train)
        self.suppose_friction(())

    def suppose_friction(self, kinds: tuple[str, ...]) -> None:
        """Lets each member have friction of these kinds from here on, with coefficients of its own."""
        self.friction = kinds
        train, val = self.recordings.train, self.recordings.val
        # With too few members for any to be held out, those of the training have to do.
        self.held_out = episodes_of(val or train, self.later, self.dtype, kinds)
        self.known = episodes_of([*train, *val], self.later, self.dtype, kinds)
        self.batches.members = train
        self.batches.points = [with_forces(one, kinds) for one in train]

    @property
    def training_tasks(self) -> int:
        """How many members there are to train on."""
        return len(self.recordings.train)

    @property
    def known_names(self) -> list[str]:
        """The names of the members of `known`."""
        return [one.name for one in (*self.recordings.train, *self.recordings.val)]

    @property
    def coarse(self) -> bool:
        """Whether splines miss what happens between the instants of some recordings."""
        return any(path.coarse for one in (*self.recordings.train, *self.recordings.val) for path in one.paths)

    def leave_out(self, names: Collection[str]) -> None:
        """Goes on without these members."""
        train, val = (
            [one for one in part if one.name not in names] for part in (self.recordings.train, self.recordings.val)
        )
        self.recordings = dataclasses.replace(self.recordings, train=train, val=val)
        self.batches = self.make_batches(train)
        self.suppose_friction(self.friction)

    def replace(self, members: Mapping[str, RecordedMember]) -> None:
        """Goes on with other points of these members, by name."""
        train, val = (
            [members.get(one.name, one) for one in part] for part in (self.recordings.train, self.recordings.val)
        )
        self.recordings = dataclasses.replace(self.recordings, train=train, val=val)
        self.suppose_friction(self.friction)

    def train_dataloader(self) -> DataLoader[Episodes]:
        """One meta-batch for each outer step; a resumed run gets those that are left."""
        trainer = self.trainer
        assert trainer is not None, "a Trainer asks for this"
        return DataLoader(
            self.batches,
            batch_size=None,
            sampler=OuterSteps(trainer),
        )

    def state_dict(self) -> dict[str, Any]:
        """The points of the members as they are by now, and the smoothed trajectories that they are from."""
        members = (*self.recordings.train, *self.recordings.val)
        return {
            one.name: {
                "points": dataclasses.asdict(one.points),
                "variance": one.variance,
                "inputs": one.inputs,
                "paths": [dataclasses.asdict(path) for path in one.paths],
            }
            for one in members
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on with points of an earlier process."""
        members = (*self.recordings.train, *self.recordings.val)
        self.replace({one.name: _as_kept(one, state_dict[one.name]) for one in members})

    def val_dataloader(self) -> DataLoader[Episodes]:
        """The members for validation as a single batch."""
        return DataLoader([self.held_out], batch_size=None)  # pyright: ignore[reportArgumentType]

    def calibration(self, held_out: Episodes) -> Episodes:
        """All members but those of the test: few are held out, and a covariance needs many."""
        return self.known.to(held_out.query.x.device)
