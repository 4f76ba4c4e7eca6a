"""The outer loop, as LightningModules."""

import logging
import time
from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Bool
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRSchedulerConfig
from torch import Tensor

from meta_hamiltonian.basics.devices import share, sum_over_ranks, world_size
from meta_hamiltonian.basics.exceptions import DivergedError
from meta_hamiltonian.episodes import Episodes
from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.learners import Learner, Ridge
from meta_hamiltonian.learners.checkpoint import HISTORY_KEY, SETTINGS_KEY
from meta_hamiltonian.training.latents import Race, find_columns, is_enough
from meta_hamiltonian.training.levenberg_marquardt import (
    LevenbergMarquardt,
    Unchanged,
    VariableProjection,
    projected_parameters,
)
from meta_hamiltonian.training.refined import refine

log = logging.getLogger(__name__)

_RACE_KEY = "meta_hamiltonian_race"
# L has spare columns until this part of a training is over, and their number may fall until that part is.
_SPARE, _HALF, _SETTLED = 3, 0.5, 0.75
# A law explains rates roughly where it leaves this part of their squares; rounds in which it may correct the rates.
_ROUGHLY, _FIRST_ROUNDS = 2.5e-3, 6


class MetaModule(LightningModule):
    """The logging, validation and saving of every outer loop. Subclasses take the steps."""

    def __init__(self, learner: Learner, settings: Mapping[str, Any], max_skipped: int):
        """**Arguments:**

        - `learner`: what is trained.
        - `settings`: plain values from which the learner can be built again; they go into every checkpoint.
        - `max_skipped`: so many skipped meta-batches in a row stop the run.
        """
        super().__init__()
        self.learner = learner
        self.settings = settings
        self.max_skipped = max_skipped
        self.history: list[dict[str, int | float]] = []  # step, seconds of training so far, validation loss
        self.skipped: Tensor
        self.in_a_row: Tensor
        self.longest_row: Tensor
        for name in ("skipped", "in_a_row", "longest_row"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))

    def count(self, skipped: Bool[Tensor, ""]) -> None:
        """Counts skipped meta-batches, without waiting for the device."""
        self.skipped += skipped
        self.in_a_row.copy_((self.in_a_row + 1) * skipped)
        self.longest_row.copy_(torch.maximum(self.longest_row, self.in_a_row))

    def on_train_start(self) -> None:
        """Starts the clock that the history is told by; a resumed run goes on with its earlier seconds."""
        earlier = self.history[-1]["seconds"] if self.history else 0.0  # of a run that is resumed
        self._began = time.perf_counter() - earlier
        self._start_clock()

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Episodes, batch_idx: int) -> None:
        """Logs the loss, the speed and the skipped meta-batches now and then, and ends the run after its last step.

        **Raises:** [`DivergedError`][] once `max_skipped` meta-batches in a row were skipped.
        """
        step = self.trainer.global_step
        if self.shows(step):
            # Reading the loss waits for the device, so it is read only when it is shown.
            assert isinstance(outputs, Mapping)
            speed = (step - self._clock_step) * len(batch) / (time.perf_counter() - self._clock_time)
            # Reduced here: Lightning's mean over devices takes no account of how many tasks each of them has.
            loss = _mean_over_tasks(outputs["query_loss"], batch)
            tasks_per_second = sum_over_ranks(torch.tensor(speed, device=loss.device))
            self.log("train/query_loss", loss, prog_bar=True, batch_size=len(batch))
            self.log("train/tasks_per_second", tasks_per_second, prog_bar=True, batch_size=len(batch))
            self.log("train/skipped", self.skipped.float(), batch_size=len(batch))
            if self.longest_row >= self.max_skipped:
                raise DivergedError(
                    f"{self.longest_row} meta-batches in a row had no finite gradient (optim.max_skipped="
                    f"{self.max_skipped}): the inner loop diverges; lower algo.lr or optim.lr, or use algo.scale=task"
                )
            self._start_clock()
        if step == self.trainer.max_steps:
            self.trainer.should_stop = True  # Lightning then validates, and saves, after the last step too

    def shows(self, step: int) -> bool:
        """Whether the loss is logged after so many steps."""
        log_every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        return step % log_every == 0 or step == self.trainer.max_steps

    def _start_clock(self) -> None:
        self._clock_step, self._clock_time = self.trainer.global_step, time.perf_counter()

    def validation_step(self, batch: Episodes, batch_idx: int) -> None:
        """Logs the query loss of the held-out tasks, and calibrates the learner."""
        mine = batch[share(len(batch))]
        self.learner.calibrate(self.known(batch))
        # A device has none where fewer members are held out than there are devices.
        loss = self.learner.validation_loss(mine) if len(mine) else mine.query.x.new_zeros(())
        self.log("val/query_loss", _mean_over_tasks(loss, mine), prog_bar=True, batch_size=len(mine))

    def known(self, held_out: Episodes) -> Episodes:
        """The tasks on which the learner is calibrated: the held-out ones, or those that the data module names."""
        data: Any = getattr(self.trainer, "datamodule", None)
        return held_out if data is None else data.calibration(held_out)

    def on_validation_epoch_end(self) -> None:
        """Adds the step, the seconds so far and the validation loss to the history."""
        if self.trainer.sanity_checking:
            return
        seconds = time.perf_counter() - self._began
        loss = self.trainer.callback_metrics["val/query_loss"].item()
        self.history.append({"step": self.trainer.global_step, "seconds": seconds, "loss": loss})

    def on_validation_end(self) -> None:
        """Restarts the clock of the speed, so that validation does not count as training."""
        self._start_clock()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the learner's settings and the history to the checkpoint."""
        checkpoint[SETTINGS_KEY] = dict(self.settings)
        checkpoint[HISTORY_KEY] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the history up again where the checkpoint left it."""
        self.history = checkpoint[HISTORY_KEY]


def _tasks(batch: Episodes) -> Tensor | int:
    """The number of tasks that all devices have together."""
    if world_size() == 1:
        return len(batch)
    # Filled on the device: a number that is sent there would wait for it.
    return sum_over_ranks(torch.full((), len(batch), device=batch.query.x.device))


def _mean_over_tasks(loss: Tensor, batch: Episodes) -> Tensor:
    """The mean over the tasks of all devices, from the mean over this device's."""
    return sum_over_ranks(loss.detach() * len(batch)) / _tasks(batch)


class AdamLoop(MetaModule):
    """Adam on equation (4), its rate falling to zero on a cosine.

    A meta-batch whose gradient is not finite, since an inner loop diverged, is skipped: weights and moments stay as
    they were. The gradient that all devices share decides whether it is skipped, so that all of them agree, and it
    decides on the device, so that no step waits for the answer.
    """

    def __init__(
        self,
        learner: Learner,
        settings: Mapping[str, Any],
        max_skipped: int,
        lr: float,
        rates_lr: float,
    ):
        """**Arguments** beside those of [`MetaModule`][]:

        - `lr`: Adam's rate for the network.
        - `rates_lr`: Adam's rate for everything else that the learner learns, such as the inner rates.
        """
        super().__init__(learner, settings, max_skipped)
        self.lr = lr
        self.rates_lr = rates_lr

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with one rate for the network and one for all else; both fall to zero on a cosine."""
        network = list(self.learner.net.parameters())
        groups: list[dict[str, Any]] = [{"params": network, "lr": self.lr}]
        others = [p for name, p in self.learner.named_parameters() if not name.startswith("net.")]
        if others:
            groups.append({"params": others, "lr": self.rates_lr})
        optimizer = torch.optim.Adam(groups, fused=True)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def training_step(self, batch: Episodes, batch_idx: int) -> Mapping[str, Tensor]:
        """Equation (4), weighted so that the mean over devices is the mean over all tasks."""
        loss = self.learner.meta_loss(batch)
        # Gradients are averaged over devices, which need not have as many tasks.
        mine = loss if world_size() == 1 else loss * (len(batch) * world_size() / _tasks(batch))
        return {"loss": mine, "query_loss": loss.detach()}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the norm of the gradient, and lets Adam skip the step where it is not finite."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(p.grad for p in parameters if p.grad is not None)
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        skipped = ~norm.isfinite()
        # The fused optimizers' own way to skip a step without waiting for the device (that of torch.amp.GradScaler).
        optimizer.found_inf = skipped.float()  # pyright: ignore[reportAttributeAccessIssue]
        self.count(skipped)


class GaussNewtonLoop(MetaModule):
    """Levenberg-Marquardt steps on the projected least-squares problem of each meta-batch, for `algo=ridge`."""

    def __init__(self, learner: Learner, settings: Mapping[str, Any], max_skipped: int, damping: float):
        """**Arguments** beside those of [`MetaModule`][]:

        - `damping`: the initial μ.
        """
        super().__init__(learner, settings, max_skipped)
        if not learner.solves_for_head:
            raise TypeError(
                f"Levenberg-Marquardt needs a learner that solves for its head, not {type(learner).__name__}"
            )
        self.automatic_optimization = False
        self.damping = damping
        self._race: Race | None = None
        self._unfinished: dict[str, Any] | None = None  # a race that a resumed run goes on with
        self._loss: Tensor | None = None

    @property
    def solver(self) -> Ridge:
        """The learner; not an attribute, which would save its weights twice."""
        return cast(Ridge, self.learner)

    @property
    def _recorded(self) -> RecordedDataModule | None:
        data: Any = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, RecordedDataModule) else None

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Levenberg-Marquardt for the shared weights; the length of its steps falls to zero on a cosine."""
        optimizer = LevenbergMarquardt(projected_parameters(self.solver).values(), self.damping)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def on_train_start(self) -> None:
        """Where the members were recorded, begins with the heads that recordings determine for the body as it is.

        Splines may be wrong by percents, and hidden units fit their errors. A law without hidden units that explains
        the rates roughly may therefore correct them first, before it has to explain them well.
        """
        super().on_train_start()
        if self.solver.finds_latents and not self.solver.net.latents:
            if self.trainer.global_step == 0 or self._unfinished is not None:
                self._race = Race(self.solver, self.damping)
            if self._race is not None and self._unfinished is not None:
                self._race.load(self._unfinished)
        data = self._recorded
        if self.trainer.global_step > 0 or data is None:
            return
        device = self.solver.log_noise.device
        for _ in range(_FIRST_ROUNDS):
            self.solver.find_prior(data.known.to(device), _ROUGHLY)
            if self.solver.uses_body or not refine(self.solver, data):
                break
        self.solver.find_prior(data.known.to(device))

    def training_step(self, batch: Episodes, batch_idx: int) -> Mapping[str, Tensor]:
        """Takes one Levenberg-Marquardt step, and counts it as skipped where the loss is not finite."""
        batch = self.learner.scaled(batch)
        problem = VariableProjection(self.solver, batch)
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        if self._race is not None:
            self._race.step(batch, optimizer.param_groups[0]["lr"])
        # A law without hidden units is not trained: its loss is computed where it is shown.
        fixed = self._recorded is not None and not self.solver.uses_body
        known = self._loss if fixed and not self.shows(self.trainer.global_step + 1) else None
        self._loss = loss = optimizer.step(lambda: problem if known is None else Unchanged(known))
        if problem.z is not None:
            self.solver.standardise(problem.z)
        if self._race is not None and is_enough(loss):
            log.info(f"Latents: none (the loss is {loss.item():.2g} without).")
            self._race = None
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.CosineAnnealingLR)
        scheduler.step()
        self.count(~loss.isfinite())
        return {"loss": loss, "query_loss": loss}

    def validation_step(self, batch: Episodes, batch_idx: int) -> None:
        """Logs and calibrates.

        Before, in the first three quarters of a training, the rates of recorded members are smoothed anew around the
        law. For simulated ones the number of unknowns of a head is found, in the first half with spare ones.
        """
        progress = self.trainer.global_step / self.trainer.max_steps
        data = self._recorded
        if data is not None:
            if 0 < progress <= _SETTLED and refine(self.solver, data):
                batch = data.held_out.to(batch.query.x.device)
                if not self.solver.uses_body:
                    self.solver.find_prior(self.known(batch))
        elif self.solver.finds_rank and (self._race is not None or progress <= _SETTLED):
            spare = _SPARE if self._race is not None or progress < _HALF else 0
            if self.solver.net.latents:
                find_columns(self.solver, batch, spare)
            else:
                self.solver.find_rank(batch, spare)
        if self._race is not None:
            optimizer = self.optimizers()
            assert isinstance(optimizer, LightningOptimizer)
            self._race.decide(batch, cast(LevenbergMarquardt, optimizer.optimizer), _SPARE)
            self._race = None
        super().validation_step(batch, batch_idx)
        if data is not None:
            # As rates get better, heads have to follow them more closely.
            self.solver.log_noise.copy_(self.solver.noise.log())
            if data.friction:
                found = self.solver.free_coefficients(self.known(batch))
                self.solver.friction.estimate(data.friction, found[:, : len(data.friction)])
        self.log("val/rank", float(self.solver.rank), batch_size=len(batch), sync_dist=True)
        if self.solver.net.latents:
            self.log("val/latents", float(self.solver.net.latents), batch_size=len(batch), sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the race between numbers of latents, where it is not decided yet."""
        super().on_save_checkpoint(checkpoint)
        if self._race is not None:
            checkpoint[_RACE_KEY] = self._race.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up an undecided race again."""
        super().on_load_checkpoint(checkpoint)
        self._unfinished = checkpoint.get(_RACE_KEY)
