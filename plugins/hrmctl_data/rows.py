"""Writing dataset artifacts: one JSON object a line, UTF-8. What a row must be is in hrmctl_sandbox.formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hrmctl import StageError
from hrmctl.errors import StoreError
from hrmctl.jsonio import canonical, write_atomic


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a whole JSONL file or nothing; returns the number of rows. Raises StageError where it cannot."""
    lines = [canonical(row) + "\n" for row in rows]
    try:
        write_atomic(path, "".join(lines))
    except StoreError as error:
        raise StageError(*error.problems) from error
    return len(lines)
