"""`kill -9` at any moment costs time and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.plugins.eval.attempt import PARAMS
from tests.plugins.eval.helpers import evaluate, observed, rows_of, without_times


def _killed(folder: Path, file: str, rows: int, root: Path) -> int:
    """Run an attempt and kill it once `file` has so many rows; returns the rows that it left."""
    path = folder / "scratch" / "task-0" / file
    environment = {**os.environ, "PYTHONPATH": f"{root / 'plugins'}{os.pathsep}{root}"}
    command = [sys.executable, "-m", "tests.plugins.eval.attempt", str(folder)]
    with subprocess.Popen(command, env=environment, cwd=root, start_new_session=True) as process:
        while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= rows):
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    return path.read_bytes().count(b"\n")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize(("file", "rows"), [("generated.jsonl", 1), ("generated.jsonl", 6), ("judged.jsonl", 17)])
def test_a_killed_attempt_is_continued_to_the_same_result(file: str, rows: int, tmp_path: Path, root: Path) -> None:
    undisturbed, _ = evaluate(tmp_path / "undisturbed", PARAMS)
    folder = tmp_path / "killed"
    left = _killed(folder, file, rows, root)
    assert left >= rows
    result, _ = evaluate(folder, PARAMS)
    assert without_times(rows_of(result)) == without_times(rows_of(undisturbed))
    assert observed(result)["samples"].payload == observed(undisturbed)["samples"].payload
