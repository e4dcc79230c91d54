"""The benchmarks as problems with their reference programs."""

from __future__ import annotations

import ast
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hrmctl_sandbox import Problem

_BESIDE = Path(__file__).resolve().parents[3].parent / "shared" / "data"
_DATA = Path(os.environ.get("HRMCTL_TEST_DATA", _BESIDE))


def data_file(name: str) -> Path:
    """A benchmark's file; skips the test where it is not there."""
    path = _DATA / name
    if not path.is_file():
        pytest.skip(f"no {name} in {_DATA}; set HRMCTL_TEST_DATA")
    return path


def human_eval() -> list[tuple[Problem, str, str]]:
    """HumanEval as (problem, prompt, reference program); helpers of the prompt are trusted setup."""
    with gzip.open(data_file("HumanEval.jsonl.gz"), "rt") as stream:
        rows = [json.loads(line) for line in stream]
    return [
        (
            Problem(row["task_id"], (row["test"],), row["entry_point"], _helpers(row)),
            row["prompt"],
            row["prompt"] + row["canonical_solution"],
        )
        for row in rows
    ]


def _helpers(row: dict[str, Any]) -> str:
    tree = ast.parse(row["prompt"] + "    pass\n")
    kept = [item for item in tree.body if getattr(item, "name", None) != row["entry_point"]]
    return "\n".join(ast.unparse(item) for item in kept)


def mbpp() -> list[tuple[Problem, str]]:
    """MBPP as (problem, reference program)."""
    with data_file("mbpp.jsonl").open() as stream:
        rows = [json.loads(line) for line in stream]
    return [
        (Problem(f"MBPP/{row['task_id']}", tuple(row["test_list"]), None, row["test_setup_code"]), row["code"])
        for row in rows
    ]
