"""The published reference solutions, fed as samples, score what they truly score."""

from __future__ import annotations

from pathlib import Path

import pytest
from hrmctl_data.benchmarks import humaneval, mbpp
from hrmctl_eval.params import EvalParams
from hrmctl_eval.stage import run

from hrmctl.testing import make_context
from tests.plugins.eval.helpers import dataset, observed, rows_of

FAILING: dict[str, str] = {}
"""References of the 500 MBPP test problems that fail their own asserts, with their outcome: none does."""


@pytest.mark.slow
def test_references_of_mbpp_and_humaneval(shared_data: Path, tmp_path: Path) -> None:
    tasks = (
        dataset(tmp_path / "mbpp.jsonl", mbpp(shared_data / "mbpp.jsonl")["test"], "mbpp@test"),
        dataset(tmp_path / "humaneval.jsonl", humaneval(shared_data / "HumanEval.jsonl.gz")["test"], "humaneval@test"),
    )
    result = run(EvalParams(source="references"), {"tasks": tasks}, make_context(tmp_path, threads=2))
    rows = rows_of(result)
    assert len(rows) == 500 + 164
    failing = {row["task_id"]: row["outcome"] for row in rows if row["outcome"] != "passed"}
    assert failing == FAILING, [row for row in rows if row["task_id"] in failing]
    assert observed(result)["syntax_rate"].payload["value"] == 1
