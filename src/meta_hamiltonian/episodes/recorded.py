"""Meta-batches of recorded members."""

from collections.abc import Sequence

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from meta_hamiltonian.basics.devices import share
from meta_hamiltonian.basics.random import generator
from meta_hamiltonian.episodes.outer_steps import OuterSteps
from meta_hamiltonian.episodes.points import Episodes, Points
from meta_hamiltonian.episodes.recordings import RecordedMember, Recordings

QUERIES = ("random", "later")
# Points of a member at validation, and where heads of the family are compared, each in its two sets.
_MOST = 200


class RecordedBatches(Dataset[Episodes]):
    """Meta-batch b of the members for training, a function of `(seed, b)` alone; on several devices this one's part.

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
            points = self.members[pick].points
            order = torch.from_numpy(generator(seed, "points").permutation(len(points.x)))
            pairs.append(_halves(points, order, self.later, self.shots, self.queries))
        return _together(pairs).to(self.dtype)


def _halves(points: Points, order: Tensor, later: bool, shots: int, queries: int) -> tuple[Points, Points]:
    """Support and query of one member, points in this order: at most so many each, and at most half of them."""
    count = len(points.x)
    half = max(1, count // 2)
    if later:  # the same random order inside each part
        first, rest = order[order < half], order[order >= half]
    else:
        first, rest = order[:half], order[half:]
    if not len(rest):
        rest = first
    return tuple(Points(points.x[i], points.dxdt[i]) for i in (first[:shots], rest[:queries]))  # pyright: ignore


def _together(pairs: Sequence[tuple[Points, Points]]) -> Episodes:
    return Episodes(Points.of_tasks([s for s, _ in pairs]), Points.of_tasks([q for _, q in pairs]))


def episodes_of(members: Sequence[RecordedMember], later: bool, dtype: torch.dtype) -> Episodes:
    """The same members as fixed tasks, their points evenly chosen: every other one is for the query."""
    pairs = []
    for one in members:
        points = one.points
        count = len(points.x)
        even = torch.arange(0, count, max(1, count // (2 * _MOST)))
        order = even if later else torch.cat([even[::2], even[1::2]])
        chosen = Points(points.x[order], points.dxdt[order])
        pairs.append(_halves(chosen, torch.arange(len(order)), later, len(order), len(order)))
    return _together(pairs).to(dtype)


class RecordedDataModule(LightningDataModule):
    """Meta-batches of recorded members, and those for validation.

    **Arguments:**

    - `recordings`: the family.
    - `meta_batch`: members an outer step, at most all of them.
    - `train_shots`, `train_queries`: points of a member in each support and query set, at most half of what it has.
    - `query`: `"random"`: support and query are any of a member's points; `"later"`: of its first and second half.
    - `num_workers`: processes that prepare meta-batches; the data are the same with any number.
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
        num_workers: int,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.num_workers = num_workers
        later = query == "later"
        self.batches = RecordedBatches(recordings.train, meta_batch, train_shots, train_queries, later, seed, dtype)
        # With too few members for any to be held out, those of the training have to do.
        self.held_out = episodes_of(recordings.val or recordings.train, later, dtype)
        self.known = episodes_of([*recordings.train, *recordings.val], later, dtype)

    def train_dataloader(self) -> DataLoader[Episodes]:
        """One meta-batch for each outer step; a resumed run gets those that are left."""
        trainer = self.trainer
        assert trainer is not None, "a Trainer asks for this"
        return DataLoader(
            self.batches,
            batch_size=None,
            sampler=OuterSteps(trainer),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> DataLoader[Episodes]:
        """The members for validation as a single batch."""
        return DataLoader([self.held_out], batch_size=None)  # pyright: ignore[reportArgumentType]

    def calibration(self, held_out: Episodes) -> Episodes:
        """All members but those of the test: few are held out, and a covariance needs many."""
        return self.known.to(held_out.query.x.device)
