"""One job on several devices, with a process for each device."""

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from omegaconf import DictConfig
from torch import distributed

# A rank may wait for as long as another job of the sweep trains.
_PATIENCE = timedelta(days=30)
_SECONDS_TO_FAIL = 10.0


def on_all_devices(job: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    """Runs the job in `trainer.devices` processes, of which this one is rank 0, and returns what rank 0 returns.

    Lightning's `ddp` finds these processes as it finds those of any launcher. Lightning's own launcher would start the
    command line again, and in a sweep that is the whole sweep.
    """
    world = config.trainer.devices
    if world == 1:
        return job(config)
    port, hydra = find_free_network_port(), HydraConfig.instance().cfg
    backend = "cpu:gloo,cuda:nccl" if config.trainer.accelerator == "gpu" else "gloo"
    others = torch.multiprocessing.start_processes(  # pyright: ignore[reportPrivateImportUsage]
        _other_rank, (job, config, hydra, world, port, backend), world - 1, join=False, start_method="spawn"
    )
    assert others is not None
    try:
        with _member(0, world, port, backend):
            result = job(config)
        while not others.join():  # one after the other
            pass
        return result
    except RuntimeError as error:
        if type(error) in (RuntimeError, distributed.DistError, distributed.DistBackendError):
            others.join(_SECONDS_TO_FAIL)  # raises what went wrong there, if that broke the connection
        raise
    finally:
        for process in others.processes:
            if process is not None:
                process.kill()


def _other_rank(
    index: int, job: Callable[[DictConfig], Any], config: DictConfig, hydra: Any, world: int, port: int, backend: str
) -> None:
    HydraConfig.instance().cfg = hydra
    with _member(index + 1, world, port, backend):
        job(config)


@contextlib.contextmanager
def _member(rank: int, world: int, port: int, backend: str) -> Iterator[None]:
    own = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in own.items()}
    distributed.init_process_group(backend, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()
        for name in own:
            os.environ.pop(name, None)
