"""`recipes/acceptance-models.yaml` for real, with standard input closed: what it measures, and what it leaves open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MEASURED = {"AC-001", "AC-002", "AC-003", "AC-004", "AC-009", "AC-014"}


def close_stdin() -> None:
    os.close(0)


@pytest.mark.slow
def test_the_proxies_are_measured_and_no_claim_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hrmctl", "pipeline", "recipes/acceptance-models.yaml", "--store", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, preexec_fn=close_stdin)
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    proxies = {row["contract"]: row["verdict"] for row in rows if row["subject"] == "proxy"}
    claims = {row["contract"]: row["verdict"] for row in rows if row["subject"] == "claim"}
    assert claims.keys() == MEASURED
    assert proxies == dict.fromkeys(MEASURED, "PASS"), done.stdout + done.stderr
    assert set(claims.values()) == {"UNTESTED", "BLOCKED"}
    assert done.returncode == 3
