"""Communication between the processes of one job on several devices; with one process there is none."""

from typing import Any

import torch
from torch import Tensor, distributed


def rank() -> int:
    """The number of this process, from 0 on."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def device_of(accelerator: str) -> torch.device:
    """This process's device of a kind, `cpu` or `gpu`."""
    return torch.device("cuda", rank() % torch.cuda.device_count()) if accelerator == "gpu" else torch.device("cpu")


def share(count: int) -> slice:
    """Which of `count` tasks are this process's."""
    return slice(rank() * count // world_size(), (rank() + 1) * count // world_size())


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of the values of all processes; changes the value in place."""
    if world_size() > 1:
        distributed.all_reduce(value)
    return value


def gather(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks."""
    values = [value] * world_size()
    if world_size() > 1:
        distributed.all_gather_object(values, value)
    return values


def from_first(value: Any) -> Any:
    """The value of the process of rank 0."""
    values = [value]
    if world_size() > 1:
        distributed.broadcast_object_list(values)
    return values[0]
