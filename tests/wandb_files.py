"""Reads an offline W&B run back from its `.wandb` file, a log of protobuf records in LevelDB's format."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, struct.Struct("<IHB")  # checksum, length, kind
_FULL, _LAST = 1, 4
_PATIENCE = 5.0  # seconds


class Run:
    """Name, group, id, configuration, history rows, last values, how metrics are shown, and whether it was closed."""

    def __init__(self, folder: Path):
        (self.file,) = folder.glob("wandb/*run-*/*.wandb")
        # W&B writes in a process of its own, which may need a moment more than the one that was waited for.
        end = time.monotonic() + _PATIENCE
        self._read()
        while not self.closed and time.monotonic() < end:
            time.sleep(0.1)
            self._read()

    def _read(self) -> None:
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        self.closed = False
        for record in _records(self.file.read_bytes()):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.id, self.name, self.group = record.run.run_id, record.run.display_name, record.run.run_group
                self.project, self.kind = record.run.project, record.run.job_type
            elif kind == "config":
                self.config |= {item.key: json.loads(item.value_json) for item in record.config.update}
            elif kind == "history":
                row = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
                self.history.append(row)
            elif kind == "metric":
                self.metrics[record.metric.name or record.metric.glob_name] = record.metric
            elif kind == "exit":
                self.closed = True

    @property
    def last(self) -> dict[str, Any]:
        """The last value of every metric."""
        return {name: value for row in self.history for name, value in row.items()}

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        content = json.loads((self.file.parent / "files" / self.last[f"{name}/path"]).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def _records(data: bytes) -> Iterator[Record]:
    position, parts = _FILE_HEADER, []
    while position + _HEADER.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:  # the rest of a block that no header fits in
            position += left
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        parts.append(data[position : position + length])
        position += length
        if kind in (_FULL, _LAST):
            record = Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record
