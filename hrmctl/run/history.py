"""What a stage has reported, kept beside its checkpoints, so that a killed run loses no row of its curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrmctl.jsonio import write_atomic
from hrmctl.run.record import whole_rows


class History:
    """The rows that this and earlier attempts of a stage reported. A row is written before it is sent.

    A stage that reports a step before it saves the checkpoint of that step has every row of its past here.
    """

    def __init__(self, path: Path):
        self._path = path
        self.earlier: list[dict[str, Any]] = whole_rows(path)
        self._continued = bool(self.earlier)
        if path.exists():
            # A row that a kill left half written would spoil the one after it.
            self._rewrite(self.earlier)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; the first one of an attempt drops the rows of the steps that the attempt repeats."""
        if self._continued:
            self._rewrite([old for old in self.earlier if old["done"] < row["done"]])
            self._continued = False
        with self._path.open("a") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        write_atomic(self._path, "".join(json.dumps(row) + "\n" for row in rows))
