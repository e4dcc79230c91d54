"""The stand-in for `vllm` as tests install it, and what they ask of its processes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

STANDIN = Path(__file__).with_name("vllm_standin.py")


class Standin:
    """An executable `vllm` in a folder, and what it noted."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.path = folder / "vllm"
        self.path.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} "$@"\n')
        self.path.chmod(0o755)
        self.record = folder / "record.jsonl"

    def rows(self, key: str) -> list[dict[str, Any]]:
        rows = map(json.loads, self.record.read_text().splitlines()) if self.record.exists() else ()
        return [row for row in rows if key in row]

    def pids(self) -> list[int]:
        return [pid for row in self.rows("pids") for pid in row["pids"]]


def gone(pids: list[int]) -> bool:
    """Whether none of the processes runs, after a little while at most."""
    assert pids
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(map(runs, pids)):
            return True
        time.sleep(0.02)
    return False


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def settled(standin: Standin, rows: int | None = None) -> int:
    """Wait until the stand-in has noted that many requests, which it does after their last byte; how many it has.

    None waits until those under way are over: none was noted for a while.
    """
    deadline, known, since = time.monotonic() + 10, -1, time.monotonic()
    while time.monotonic() < deadline:
        noted = len(standin.rows("seed"))
        if noted != known:
            known, since = noted, time.monotonic()
        if known >= rows if rows is not None else time.monotonic() - since > 0.3:
            break
        time.sleep(0.02)
    return known
