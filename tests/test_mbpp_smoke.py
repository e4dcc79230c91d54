"""`recipes/mbpp-smoke.yaml` on the real file: the claim honestly fails, and the references score what they score."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_smoke_recipe_records_an_honest_fail(tmp_path: Path, shared_data: Path) -> None:
    settings = ["--set", f"vars.mbpp={shared_data / 'mbpp.jsonl'}", "--set", "vars.steps=30"]
    command = [sys.executable, "-m", "hrmctl", "pipeline", "recipes/mbpp-smoke.yaml", "--store", str(tmp_path / "s")]
    done = subprocess.run([*command, *settings], cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "s/ledger.jsonl").read_text().splitlines()]
    found = {row["subject"]: row for row in rows}
    assert (found["smoke"]["verdict"], found["smoke"]["because"]) == ("FAIL", "target")
    assert found["smoke"]["measured"]["p"]["n"] == 500
    assert found["smoke"]["measured"]["p"]["value"] < 0.02
    assert found["claim"]["verdict"] == "UNTESTED"
    (references,) = tmp_path.glob("s/runs/*/evidence/references.samples.*.json")
    problems = json.loads(references.read_text())["payload"]["problems"]
    failing = [problem["id"] for problem in problems if problem["c"] != problem["n"]]
    assert (len(problems), failing) == (500, []), "every reference solution of the test split passes its own tests"
