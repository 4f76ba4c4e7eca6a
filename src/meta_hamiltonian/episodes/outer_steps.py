"""Which meta-batches a training asks for."""

from collections.abc import Iterator

from lightning import Trainer
from torch.utils.data import Sampler


class OuterSteps(Sampler[int]):
    """One pass, a meta-batch an outer step; a resumed run goes on where it stopped."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.trainer.global_step, self.trainer.max_steps))

    def __len__(self) -> int:
        return self.trainer.max_steps  # Lightning counts from the first step of the run, not of the process
