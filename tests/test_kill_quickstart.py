"""`kill -9` at twenty random moments of a shortened quickstart: the final ledger is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
KILLS = 20
SHORT = {"train": 600, "test": 12, "steps-hrm": 12, "steps-gpt2": 12, "steps-gpt2-same": 12, "samples": 2, "k": "[1]"}
TRAININGS = {"data", "hrm", "gpt2", "gpt2-same"}
# What these measure of time and memory differs from run to run.
TIMED = {"QS-SPEED", "QS-MEMORY", "QS-H-4X", "QS-H-SAME"}


def command(store: Path) -> list[str]:
    settings = [item for name, value in SHORT.items() for item in ("--set", f"vars.{name}={value}")]
    return [sys.executable, "-m", "hrmctl", "pipeline", "recipes/quickstart.yaml", "--store", str(store), *settings]


def start(store: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command(store), cwd=ROOT, stdout=output, stderr=output, start_new_session=True)


def ledger(store: Path) -> list[dict[str, Any]]:
    """The verdicts without times, ids, and digests of evidence that tells times."""
    rows = [json.loads(line) for line in (store / "ledger.jsonl").read_text().splitlines()]
    kept = ("contract", "contract_digest", "subject", "kind", "verdict", "because", "subjects", "labels", "attempts")
    return [{k: r[k] for k in kept} | ({} if r["contract"] in TIMED else {"measured": r["measured"]}) for r in rows]


@pytest.mark.slow
@pytest.mark.longest
def test_twenty_kills_leave_the_ledger_as_it_would_have_been(tmp_path: Path) -> None:
    begun = time.monotonic()
    undisturbed = start(tmp_path / "a", tmp_path / "a.log").wait(1200)
    whole = time.monotonic() - begun
    assert undisturbed in (0, 1, 3), (tmp_path / "a.log").read_text()[-3000:]
    rng, kills, finished = random.Random(20261122), 0, 0
    while kills < KILLS or not finished:
        process = start(tmp_path / "b", tmp_path / "b.log")
        try:
            # Short draws kill what starts; some are long enough that the stages behind the trainings are killed too.
            code = process.wait(rng.uniform(0.3, whole / rng.choice((8, 8, 3))) if kills < KILLS else 1200)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        finished += 1
        same_end(tmp_path, code, undisturbed)
        if kills < KILLS:
            shutil.rmtree(tmp_path / "b")
    begun_again = Counter(re.findall(r"^(\S+): started$", (tmp_path / "b.log").read_text(), re.MULTILINE))
    assert {name for name, times in begun_again.items() if times > finished} - TRAININGS


def same_end(folder: Path, code: int, undisturbed: int) -> None:
    """The disturbed run ended like the other, and every verdict follows from its evidence."""
    assert code == undisturbed, (folder / "b.log").read_text()[-3000:]
    assert ledger(folder / "b") == ledger(folder / "a")
    replay = [sys.executable, "-m", "hrmctl", "verify", "--replay", "--store", str(folder / "b")]
    assert subprocess.run(replay).returncode == 0
