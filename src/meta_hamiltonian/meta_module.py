"""The outer loop, as a LightningModule."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRSchedulerConfig
from torch import Tensor

from meta_hamiltonian.checkpoint import SETTINGS_KEY
from meta_hamiltonian.episodes import Episodes
from meta_hamiltonian.learners import Learner


class MetaModule(LightningModule):
    """Meta-trains a learner: Adam on equation (4), its rate falling to zero on a cosine.

    **Arguments:**

    - `learner`: what is trained.
    - `lr`: Adam's rate for the network.
    - `rates_lr`: Adam's rate for everything else that the learner learns, such as the logarithms of the inner rates.
    - `settings`: plain values from which the learner can be built again; they go into every checkpoint.
    """

    def __init__(self, learner: Learner, lr: float, rates_lr: float, settings: Mapping[str, Any]):
        super().__init__()
        self.learner = learner
        self.lr = lr
        self.rates_lr = rates_lr
        self.settings = settings

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        network = list(self.learner.net.parameters())
        groups: list[dict[str, Any]] = [{"params": network, "lr": self.lr}]
        others = [p for name, p in self.learner.named_parameters() if not name.startswith("net.")]
        if others:
            groups.append({"params": others, "lr": self.rates_lr})
        optimizer = torch.optim.Adam(groups)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def training_step(self, batch: Episodes, batch_idx: int) -> Tensor:
        return self.learner.meta_loss(batch)

    def on_train_start(self) -> None:
        self._start_clock()

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Episodes, batch_idx: int) -> None:
        step = self.trainer.global_step
        log_every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if step % log_every == 0 or step == self.trainer.max_steps:
            # Reading the loss waits for the device, so it is read only when it is shown.
            assert isinstance(outputs, Mapping)
            speed = (step - self._clock_step) * len(batch) / (time.perf_counter() - self._clock_time)
            self.log("train/query_loss", outputs["loss"], prog_bar=True, batch_size=len(batch))
            self.log("train/tasks_per_second", round(speed, 1), prog_bar=True, batch_size=len(batch))
            self._start_clock()
        if step == self.trainer.max_steps:
            self.trainer.should_stop = True  # Lightning then validates, and saves, after the last step too

    def _start_clock(self) -> None:
        self._clock_step, self._clock_time = self.trainer.global_step, time.perf_counter()

    def validation_step(self, batch: Episodes, batch_idx: int) -> None:
        with torch.enable_grad():  # the inner loop differentiates
            loss = self.learner.meta_loss(batch).detach()
        self.log("val/query_loss", loss, prog_bar=True, batch_size=len(batch))

    def on_validation_end(self) -> None:
        if not self.trainer.sanity_checking:
            self._start_clock()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[SETTINGS_KEY] = dict(self.settings)
