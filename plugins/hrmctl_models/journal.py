"""Append-only JSONL files in the scratch folder, from which a killed attempt is continued."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hrmctl import StageError

_SYNC_SECONDS = 1.0


class Journal:
    """A file of JSON rows: `rows` are those that earlier attempts left, `append` adds one.

    A row is with the operating system when `append` returns, so that the death of the process loses
    none; at least once a second it is on the disk, so that the death of the machine loses little. A torn
    last line is dropped, and so is everything after the first line that is not whole.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._recover()
        except OSError as error:
            raise self._cannot(error) from error
        self._synced = time.monotonic()

    def _recover(self) -> None:
        with os.fdopen(os.dup(self._handle), "rb") as stream:
            good = 0
            for line in stream:
                row = _row(line)
                if row is None:
                    break
                self.rows.append(row)
                good += len(line)
        os.ftruncate(self._handle, good)
        os.lseek(self._handle, good, os.SEEK_SET)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row. Raises StageError where the disk refuses."""
        try:
            self._write(json.dumps(row, allow_nan=False).encode() + b"\n")
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                self.sync()
        except OSError as error:
            raise self._cannot(error) from error

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._handle, data) :]

    def sync(self) -> None:
        """Put every row on the disk."""
        os.fsync(self._handle)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Put every row on the disk and add no more."""
        self.sync()
        os.close(self._handle)

    def _cannot(self, error: OSError) -> StageError:
        return StageError(f"cannot write {self.path}: {error.strerror or error}; free space and run again")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _row(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
