"""One job of a sweep, or a single run: whether it is finished, and how it spent its time."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.basics.files import write_text

# How a job is started, and where its metrics go, changes nothing about its results.
_NOT_THE_SAME_JOB = ("resume", "logger")
_FILE = ".finished.json"


class Job:
    """Writes `.finished.json` into the job's folder when everything else is there."""

    def __init__(self, folder: Path, config: DictConfig):
        self.folder = folder
        self.config = config
        values: Any = OmegaConf.to_container(config, resolve=True)
        self._name = digest({key: value for key, value in values.items() if key not in _NOT_THE_SAME_JOB})
        self._began = time.time()
        self._seconds = {"waiting": 0.0, "training": 0.0, "testing": 0.0}
        self._processor_seconds = dict(self._seconds)  # what they would be on a machine that does nothing else

    @contextlib.contextmanager
    def times(self, what: str) -> Iterator[None]:
        """Counts the time inside as waiting, training or testing."""
        start, busy = time.perf_counter(), time.process_time()
        yield
        self._seconds[what] += time.perf_counter() - start
        self._processor_seconds[what] += time.process_time() - busy

    def is_finished(self) -> bool:
        """Whether a job with this configuration has left everything in this folder."""
        return (read_finished(self.folder) or {}).get("config") == self._name

    def finish(self) -> None:
        """Writes `.finished.json`, which marks the folder as complete and says how the time was spent."""
        content = {
            "config": self._name,
            "began": self._began,
            "ended": time.time(),
            "seconds": self._seconds,
            "processor_seconds": self._processor_seconds,
        }
        write_text(self.folder / _FILE, json.dumps(content))


def read_finished(folder: Path) -> dict[str, Any] | None:
    """When the job began and ended, in seconds since the epoch, and its `seconds` and `processor_seconds` of each kind;
    None if unfinished. Jobs of earlier versions have no `processor_seconds`."""
    file = folder / _FILE
    return json.loads(file.read_text()) if file.exists() else None


def digest(values: Mapping[str, Any]) -> str:
    """A hash of plain values: equal values have equal hashes."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
