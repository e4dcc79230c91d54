"""Killing `hrmctl score` ends its judges and their programs, however long those might still run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .helpers import HUMAN, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
_PATIENCE_SECONDS = 20.0


def stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the state of a process that is gone is X."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X"] + ["0"] * 20


def alive(process: int) -> bool:
    """Whether a process is there and no zombie: whoever adopts it need not collect it."""
    return stat(process)[0] not in "XZ"


def descendants(process: int) -> list[int]:
    """The children of a process, and theirs."""
    try:
        children = [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(deeper for child in children for deeper in descendants(child))]


def until(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true before long."""
    patience = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > patience:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("completion", "test"),
    [
        ("    while True: pass\n", HUMAN[0]["test"]),
        ("    return 1\n", "def check(f):\n    while f(1, 1): pass\n"),
    ],
    ids=["the program loops", "the tests loop"],
)
def test_judges_end_when_their_parent_is_killed(tmp_path: Path, completion: str, test: str) -> None:
    problems = write(tmp_path / "p.jsonl", [{**HUMAN[0], "test": test}])
    sample = {"task_id": "HumanEval/0", "completion": completion}
    samples = write(tmp_path / "s.jsonl", [sample, {**sample, "completion": completion + "# another\n"}])
    command = [sys.executable, "-m", "hrmctl", "score", str(problems), str(samples), "--workers", "1"]
    limits = ["--cpu-seconds", "600", "--wall-seconds", "6000"]
    parent = subprocess.Popen([*command, *limits], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    family: list[int] = []

    def looping() -> bool:
        # Judge, zygote, the first process of its namespace, and the programs: the one that runs has used the processor.
        family[:] = descendants(parent.pid)
        return len(family) > 3 and int(stat(family[-2])[11]) + int(stat(family[-1])[11]) > 20

    try:
        assert until(looping)
        parent.kill()
        parent.wait()
        assert until(lambda: not any(alive(process) for process in family))
    finally:
        parent.kill()
        for process in filter(alive, family):
            os.kill(process, signal.SIGKILL)
