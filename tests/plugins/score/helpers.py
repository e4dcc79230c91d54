"""Problems and samples made here, and the command run in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hrmctl.cli import run


def human(number: int, name: str, sign: str) -> dict[str, Any]:
    """A row of HumanEval's shape: apply `sign` to two numbers."""
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def {name}(a, b):\n    """{name} them"""\n',
        "entry_point": name,
        "canonical_solution": f"    return a {sign} b\n",
        "test": f"def check(f):\n    assert f(7, 2) == 7 {sign} 2\n    assert f(0, 5) == 0 {sign} 5\n",
    }


HUMAN = [human(number, name, sign) for number, (name, sign) in enumerate((("add", "+"), ("less", "-"), ("mul", "*")))]
MBPP = [
    {
        "task_id": number,
        "text": f"Add {number}.",
        "code": f"def g(x):\n  return x + {number}\n",
        "test_setup_code": "",
        "test_list": [f"assert g(1) == {1 + number}", f"assert g(2) == {2 + number}"],
        "challenge_test_list": [],
    }
    for number in (11, 12)
]
REFERENCES = [{"task_id": row["task_id"], "completion": row["canonical_solution"]} for row in HUMAN]


def write(path: Path, rows: Sequence[Any]) -> Path:
    """The rows as JSONL; texts as they are."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass
class Run:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """What it printed as JSON."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Desk:
    """Runs `hrmctl score` in a folder with the problems `p.jsonl` and the samples `s.jsonl`."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def score(self, problems: Sequence[Any], samples: Sequence[Any] | Path, *options: str | Path) -> Run:
        """Score the samples, one program at a time."""
        given = samples if isinstance(samples, Path) else write(self.folder / "s.jsonl", samples)
        place = write(self.folder / "p.jsonl", problems)
        code = run(["score", str(place), str(given), "--workers", "1", *map(str, options)])
        return Run(code, *self.capture.readouterr())

    @property
    def results(self) -> list[dict[str, Any]]:
        """The rows of the results file."""
        return rows_of(self.folder / "s.jsonl_results.jsonl")

    @property
    def wrote_nothing(self) -> bool:
        """Whether there is but what was given."""
        return {path.name for path in self.folder.iterdir()} <= {"s.jsonl", "p.jsonl", "samples"}
