"""How a training is saved: whole checkpoints, one every minute, and one when it is told to stop."""

import io
import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from meta_hamiltonian.basics.exceptions import StoppedError
from meta_hamiltonian.basics.files import whole_file

log = logging.getLogger(__name__)

_SECONDS = 60.0
# SIGTERM is what schedulers send before they take a machine away; submitit asks Slurm for SIGUSR2 ahead of it.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints replace earlier ones only when they are complete.

    Lightning's own are written in the folder for temporary files first, and copied from there if that is on another
    disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes the checkpoint next to `path`, and renames it once it is whole."""
        content = io.BytesIO()  # a full disk then is an OSError, not one of torch's
        torch.save(checkpoint, content)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_bytes(content.getbuffer())


def checkpoints(folder: Path) -> list[Callback]:
    """Keep the learner with the smallest validation loss as `best.ckpt`, and the latest one as `last.ckpt`."""
    return [BestCheckpoint(folder), LastCheckpoint(folder / "last.ckpt")]


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, which would forget the best loss where a folder has moved before a resume."""

    def __init__(self, folder: Path):
        super().__init__(
            folder,
            filename="best",
            monitor="val/query_loss",
            enable_version_counter=False,  # a resumed run replaces its own
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the best loss so far; its file is looked for in the folder of this run."""
        assert self.dirpath is not None
        here = {"dirpath": self.dirpath}
        if state_dict["best_model_path"]:
            path = str(Path(self.dirpath) / "best.ckpt")
            here |= {"best_model_path": path, "kth_best_model_path": path}
            here |= {"best_k_models": {path: state_dict["best_model_score"]}}
        super().load_state_dict(state_dict | here)


class LastCheckpoint(Checkpoint):
    """Saves `path` after each validation, every minute in between, and on SIGTERM or SIGUSR2.

    A signal ends the training after the step in which it arrived, in the way of whoever listened before: submitit
    queues the job again. Without a listener, a [`StoppedError`][] is raised.

    Lightning's `ModelCheckpoint` with `save_last` would copy the last of the best ones, and with a time interval saves
    nothing where the LightningModule takes the steps of its optimizer itself.
    """

    def __init__(self, path: Path):
        self.path = path
        self._saved = 0.0
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of the saves, and listens to the signals."""
        self._saved = time.monotonic()
        if threading.current_thread() is threading.main_thread():  # where alone Python lets one listen
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Saves once a minute has passed, and ends the training after a signal, unless a due validation does both."""
        interval = trainer.val_check_batch
        assert isinstance(interval, int), "validations are counted in steps"
        if trainer.global_step % interval == 0 or trainer.global_step >= trainer.max_steps:
            return  # a validation follows, which a training that goes on from here would leave out
        stop = self._on_any_device(trainer, self._received is not None)
        if stop or self._on_any_device(trainer, time.monotonic() - self._saved > _SECONDS):
            self._save(trainer)
        if stop:
            self._stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, and ends the training if a signal has arrived."""
        self._save(trainer)
        if trainer.global_step < trainer.max_steps and self._on_any_device(trainer, self._received is not None):
            self._stop(trainer)

    def _on_any_device(self, trainer: Trainer, decision: bool) -> bool:
        return trainer.strategy.reduce_boolean_decision(decision, all=False)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()

    def _stop(self, trainer: Trainer) -> None:
        number = self._received or signal.SIGTERM
        requeue = self._before.get(signal.SIGUSR2)
        text = f"stopped by {signal.Signals(number).name} after step {trainer.global_step}, saved in {self.path}"
        if callable(requeue) and trainer.is_global_zero:
            log.info(f"{text}; the job is queued again.")
            requeue(number, None)
        raise StoppedError(f"{text}; go on with resume=true and the same folder")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hands the signals back to whoever listened before."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Hands the signals back also when an error ends the training."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
