"""`recipes/hrm-sudoku.yaml` for real: its claims hold, and those about solving fail after too little training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOLVING = {"SUDOKU-EXACT", "SUDOKU-HALTS", "SUDOKU-Q-HALT"}
SOUND = {"SUDOKU-SPLIT", "SUDOKU-PROVEN", "SUDOKU-RULES", "SUDOKU-GUESS"}


def verdicts(store: Path, *settings: str) -> tuple[int, dict[str, str], str]:
    """Exit code of the recipe, verdict by contract, and what was printed."""
    command = [sys.executable, "-m", "hrmctl", "pipeline", "recipes/hrm-sudoku.yaml", "--store", str(store)]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    rows = [json.loads(line) for line in (store / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    return done.returncode, {row["contract"]: row["verdict"] for row in rows}, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.longest
def test_the_recipe_proves_its_claims(tmp_path: Path) -> None:
    code, found, printed = verdicts(tmp_path / "store")
    assert found == dict.fromkeys(SOLVING | SOUND, "PASS"), printed
    assert code == 0


@pytest.mark.slow
def test_an_untrained_model_does_not_pass(tmp_path: Path) -> None:
    code, found, printed = verdicts(tmp_path / "store", "vars.steps=2", "vars.augment=0")
    assert found["SUDOKU-EXACT"] == "FAIL", printed
    assert {name: found[name] for name in SOUND} == dict.fromkeys(SOUND, "PASS"), printed
    assert code == 1
