"""Streams meta-batches of episodes to Lightning."""

import functools

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from meta_hamiltonian.basics.devices import share
from meta_hamiltonian.basics.random import generator
from meta_hamiltonian.episodes import Episodes, sample_episodes
from meta_hamiltonian.episodes.outer_steps import OuterSteps
from meta_hamiltonian.systems import SimulatedSystem

# Streams are drawn on a GPU from so many points of a meta-batch on: the thousand small kernels of a draw take as long
# as a CPU core does for that many.
_FOR_A_GPU = 50_000


class MetaBatches(Dataset[Episodes]):
    """Meta-batch b of the training split, a function of `(seed, b)` alone; with several devices, this one's part."""

    def __init__(
        self,
        system: SimulatedSystem,
        meta_batch: int,
        tasks: int | None,
        shots: int,
        queries: int,
        seed: int,
        noise: float = 0.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        """**Arguments** beside those of [`EpisodeDataModule`][]: `device`, where the fixed set and its
        batches lie, and where large meta-batches of a stream are drawn."""
        for_a_gpu = tasks is None and meta_batch * (shots + queries) >= _FOR_A_GPU
        drawn = device if for_a_gpu and torch.device(device).type == "cuda" else "cpu"
        self.sample = functools.partial(
            sample_episodes, system, support=shots, query=queries, seed=seed, noise=noise, dtype=dtype, device=drawn
        )
        self.meta_batch = meta_batch
        self.seed = seed
        self.share = share(meta_batch)  # here: a worker process knows nothing of devices
        # The fixed set is small (16 MB for the protocol's 10,000 tasks): it is drawn once.
        self.episodes = None if tasks is None else self.sample(tasks).to(device)

    def __getitem__(self, index: int) -> Episodes:
        mine = self.share
        if self.episodes is None:  # an endless stream: every meta-batch has new tasks
            return self.sample(range(index * self.meta_batch, (index + 1) * self.meta_batch)[mine])
        picks = generator(self.seed, "train", "meta-batch", index).choice(
            len(self.episodes), self.meta_batch, replace=False, shuffle=False
        )
        # From pageable memory the few numbers are staged at once, and nothing waits for the device.
        chosen = torch.from_numpy(picks[mine]).to(self.episodes.support.x.device, non_blocking=True)
        return self.episodes[chosen]


class EpisodeDataModule(LightningDataModule):
    """Meta-batches for training and one fixed batch of held-out tasks for validation.

    **Arguments:**

    - `system`: the family that the tasks are drawn from.
    - `meta_batch`: tasks per outer step.
    - `tasks`: size of the fixed training set; None for an endless stream of new tasks.
    - `train_shots`, `train_queries`: points in each support and query set.
    - `val_tasks`: held-out tasks.
    - `num_workers`: processes that prepare meta-batches; the data are the same with any number.
    - `seed`: every draw depends on it.
    - `noise`: that of the support sets, see [`sample_episodes`][].
    - `dtype`: of the episodes.
    """

    def __init__(
        self,
        system: SimulatedSystem,
        meta_batch: int,
        tasks: int | None,
        train_shots: int,
        train_queries: int,
        val_tasks: int,
        num_workers: int,
        seed: int,
        noise: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.num_workers = num_workers
        self.training_tasks = tasks
        self.make_train = functools.partial(
            MetaBatches, system, meta_batch, tasks, train_shots, train_queries, seed, noise, dtype
        )
        self.make_val = functools.partial(
            sample_episodes, system, val_tasks, train_shots, train_queries, seed, "val", dtype, noise
        )

    def train_dataloader(self) -> DataLoader[Episodes]:
        """One meta-batch for each outer step; a resumed run gets those that are left."""
        trainer = self.trainer
        assert trainer is not None, "a Trainer asks for this"
        # Drawn once, the fixed set stays where it is used; worker processes have no device.
        device = "cpu" if self.num_workers else trainer.strategy.root_device
        return DataLoader(
            self.make_train(device=device),
            batch_size=None,
            sampler=OuterSteps(trainer),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> DataLoader[Episodes]:
        """The held-out tasks as a single batch, the same at every validation."""
        return DataLoader([self.make_val()], batch_size=None)  # pyright: ignore[reportArgumentType]

    def calibration(self, held_out: Episodes) -> Episodes:
        """The tasks that tell what a family is like: the held-out ones."""
        return held_out
