"""The progress bar of the meta-training."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, whose steps are outer steps, with the losses and the speed in few words."""

    def init_validation_tqdm(self) -> Tqdm:
        """A bar that is never shown."""
        return Tqdm(disable=True)  # it takes a fraction of a second

    def init_train_tqdm(self) -> Tqdm:
        """The bar of the meta-training: the share that is done, the steps, the time left and the metrics."""
        bar = super().init_train_tqdm()
        bar.bar_format = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        return bar

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Makes the bar as long as the meta-training, in outer steps."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.reset(trainer.max_steps)
        self.train_progress_bar.set_description("Meta-training")

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The losses and the speed, under short names and with few digits."""
        metrics = super().get_metrics(trainer, pl_module)
        names = {
            "train/tasks_per_second": "tasks/s",
            "train/query_loss": "query loss",
            "val/query_loss": "validation",
        }
        return {names[name]: _short(float(value)) for name, value in metrics.items() if name in names}  # pyright: ignore


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
