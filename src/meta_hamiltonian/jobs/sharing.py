"""Jobs of a sweep that need the same training train once."""

import contextlib
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
from omegaconf import OmegaConf

from meta_hamiltonian.basics.devices import from_first, rank
from meta_hamiltonian.basics.files import whole_file, write_text
from meta_hamiltonian.jobs.job import Job, digest

log = logging.getLogger(__name__)

# The keys that a trained learner depends on. Jobs that differ only in others, in what is tested, share a training.
_TRAINING_KEYS = ("algo", "model", "system", "friction", "drive", "data", "optim", "trainer", "seed")


def train_once(job: Job, sweep: Path, train: Callable[[Path], None]) -> None:
    """Trains in a folder that all jobs of the sweep with the same training share, and copies the checkpoints.

    The first of them trains and the others wait for it. When it dies, the next one goes on where it was.

    **Arguments:**

    - `job`: its `times` tell how long it trained and waited.
    - `sweep`: the sweep's folder.
    - `train`: leaves `checkpoints/` in the folder that it is given. On several devices all processes call it.
    """
    if rank() != 0:
        while folder := from_first(None):
            train(folder)
        return
    values: Any = OmegaConf.to_container(job.config, resolve=True)
    shared = sweep / ".trainings" / digest({key: values.get(key) for key in _TRAINING_KEYS})
    shared.mkdir(parents=True, exist_ok=True)
    finished = shared / "finished"
    with _turn(job, shared):
        if finished.exists():
            log.info(f"Job {finished.read_text()} of this sweep trained the same learner: its checkpoint is used.")
        else:
            with job.times("training"):
                from_first(shared)
                train(shared)
            write_text(finished, job.folder.name)
    (job.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    for file in (shared / "checkpoints").glob("*.ckpt"):
        with whole_file(job.folder / "checkpoints" / file.name) as unfinished:
            shutil.copyfile(file, unfinished)
    from_first(None)


@contextlib.contextmanager
def _turn(job: Job, shared: Path) -> Iterator[None]:
    """A lock that logs what it waits for; it is released when its holder ends, in whatever way."""
    lock, holder = filelock.FileLock(shared / "lock"), shared / "holder"
    with job.times("waiting"):
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            name = holder.read_text() if holder.exists() else "of this sweep"
            log.info(f"Job {name} is training the same learner: waiting for it.")
            lock.acquire()
    try:
        write_text(holder, f"{job.folder.name} (process {os.getpid()} on {platform.node()})")
        yield
    finally:
        lock.release()
