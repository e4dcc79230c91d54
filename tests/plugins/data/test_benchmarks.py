"""MBPP and HumanEval rows become problem rows that say the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hrmctl_data.benchmarks import humaneval, mbpp
from hrmctl_sandbox.formats import BadRow, checked
from hrmctl_sandbox.formats.humaneval import humaneval_task
from hrmctl_sandbox.formats.mbpp import entry_point_of, mbpp_task

from hrmctl import StageError

FULL = {
    "task_id": 12,
    "text": "Add one.",
    "code": "def g(x):\r\n  return x + 1\r\n\r\n",
    "test_setup_code": "y = 1\r\nz = 2",
    "test_list": ["assert g(1) == 2", "assert g(y) == 2"],
    "challenge_test_list": [],
}
SANITIZED = {
    "task_id": 13,
    "prompt": "Add one.",
    "code": "def g(x): return x + 1",
    "source_file": "x",
    "test_imports": ["import math", "import re"],
    "test_list": ["assert g(1) == 2"],
}
HUMAN = {
    "task_id": "HumanEval/0",
    "prompt": 'def h():\n    """No."""\n\n\ndef g(x):\n    """Add one."""\n',
    "entry_point": "g",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}


def test_a_row_of_the_full_set() -> None:
    row = mbpp_task(FULL).row()
    assert row == {
        "task_id": "mbpp/12",
        "text": "Add one.",
        "prompt": '"""\nAdd one.\nassert g(1) == 2\n"""\n',
        "prefix": "",
        "completion": "def g(x):\n  return x + 1\n",
        "entry_point": "g",
        "setup": "y = 1\nz = 2",
        "tests": ["assert g(1) == 2", "assert g(y) == 2"],
        "source": "mbpp",
        "meta": {"number": 12},
    }
    assert checked(row) == mbpp_task(FULL)


def test_a_row_of_the_sanitized_set() -> None:
    task = mbpp_task(SANITIZED)
    assert (task.text, task.setup, task.task_id) == ("Add one.", "import math\nimport re", "mbpp/13")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_id": "12"}, "'task_id' is not an integer"),
        ({"task_id": True}, "'task_id' is not an integer"),
        ({"text": 3}, "'text' is not text"),
        ({"code": None}, "no field 'code'"),
        ({"test_list": []}, "'test_list' is not a list"),
        ({"test_list": "assert"}, "'test_list' is not a list"),
        ({"code": "def g(:"}, "is not Python"),
        ({"code": "def other(): pass"}, "calls no function that the code defines"),
    ],
)
def test_bad_rows_of_mbpp(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRow, match=message):
        mbpp_task({**FULL, **change})


def test_the_entry_point_is_the_outermost_call() -> None:
    code = "class Pair: pass\ndef longest(a): pass"
    assert entry_point_of(code, "assert longest([Pair(1, 2)]) == 1") == "longest"
    assert entry_point_of(code, "assert set(longest([Pair(1, 2)])) == {1}") == "longest"


def test_task_ids_outside_of_mbpp(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({**FULL, "task_id": 975}))
    with pytest.raises(StageError, match=r"m.jsonl:1:1: task_id 975 is in no split of MBPP"):
        mbpp(tmp_path / "m.jsonl")


def test_the_bounds_of_the_splits(tmp_path: Path) -> None:
    numbers = (1, 10, 11, 510, 511, 600, 601, 974)
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps({**FULL, "task_id": n}) for n in numbers))
    found = {split: [row["meta"]["number"] for row in rows] for split, rows in mbpp(tmp_path / "m.jsonl").items()}
    assert found == {"prompt": [1, 10], "test": [11, 510], "validation": [511, 600], "train": [601, 974]}


def test_a_row_of_humaneval() -> None:
    task = humaneval_task(HUMAN)
    assert task.prompt == task.prefix == HUMAN["prompt"]
    assert (task.completion, task.text) == ("    return x + 1\n", "Add one.")
    assert task.tests == (HUMAN["test"] + "\ncheck(g)",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "def g(x:\n"}, "'prompt', completed by a body, is not Python"),
        ({"entry_point": "k"}, "has no function 'k'"),
        ({"test": None}, "no field 'test'"),
    ],
)
def test_bad_rows_of_humaneval(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRow, match=message):
        humaneval_task({**HUMAN, **change})


def run_all(rows: list[Any]) -> str:
    """Run each reference on its tests in one process of its own; what went wrong, if anything."""
    programs = ["\n".join([row["prefix"] + row["completion"], row["setup"], *row["tests"]]) for row in rows]
    code = "import json, sys\nfor program in json.load(sys.stdin): exec(program, {'__name__': 'm'})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stderr


def test_real_references_pass_as_assembled(shared_data: Path) -> None:
    full = {row["meta"]["number"]: row for row in mbpp(shared_data / "mbpp.jsonl")["test"]}
    sanitized = {row["meta"]["number"]: row for row in mbpp(shared_data / "sanitized-mbpp.json")["test"]}
    human = humaneval(shared_data / "HumanEval.jsonl.gz")["test"]
    assert full[367]["setup"].startswith("root = Node(1)")
    assert sanitized[82]["setup"] == "import math"
    assert run_all([*(full[n] for n in range(11, 31)), full[367], sanitized[82], *human[:40]]) == ""
