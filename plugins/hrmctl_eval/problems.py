"""Reading a dataset artifact: one problem a line (docs/data.md)."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl import Problem, StageError
from hrmctl_eval.extract import closed, opens_body, parses

_SHOWN = 10
_TEXTS = ("task_id", "prompt", "prefix", "completion", "entry_point", "setup")
_NEEDED = ("task_id", "prompt")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class CodeProblem:
    """One problem: the model continues `prompt`; `prefix` + completion is the program that `tests` judge."""

    task_id: str
    prompt: str
    prefix: str
    completion: str
    entry_point: str
    setup: str
    tests: tuple[str, ...]

    @property
    def trusted(self) -> str:
        """Source that the judge runs before the tests: `setup`, and the functions that the prefix defines for them.

        Those come with the problem (HumanEval's `poly`, say), so that a completion cannot replace them.
        """
        given = closed(self.prefix) if opens_body(self.prefix) else self.prefix
        body = ast.parse(given).body if parses(given) else []
        helpers = [node for node in body if getattr(node, "name", "") != self.entry_point]
        if not any(isinstance(node, _DEFINITIONS) for node in helpers):
            return self.setup
        return "\n".join([self.setup, *(ast.unparse(node) for node in helpers)]).strip()


def read_problems(path: Path) -> list[CodeProblem]:
    """All problems of a JSONL file, in order.

    Raises StageError with file and line of the first ten rows that are not usable or repeat a task_id.
    """
    found: dict[str, CodeProblem] = {}
    faults: list[Problem] = []
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            row = _parse(raw)
            if isinstance(row, CodeProblem) and row.task_id in found:
                row = f"task_id {row.task_id!r} occurs twice"
            if isinstance(row, CodeProblem):
                found[row.task_id] = row
            else:
                faults.append(Problem(row, str(path), number, 1))
            if len(faults) == _SHOWN:
                break
    if faults:
        raise StageError(*faults)
    if not found:
        raise StageError(Problem("the data set holds no problem", str(path), remedy="generate or import it again"))
    return list(found.values())


def _parse(raw: bytes) -> CodeProblem | str:
    try:
        row = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return f"not a JSON object on one line ({error})"
    if not isinstance(row, dict):
        return "not a JSON object"
    return _fault(row) or CodeProblem(**{name: row.get(name) or "" for name in _TEXTS}, tests=tuple(row["tests"]))


def _fault(row: Mapping[str, Any]) -> str:
    for name in _TEXTS:
        if not isinstance(row.get(name, "") or "", str):
            return f"field {name!r} is not text"
    for name in _NEEDED:
        if not row.get(name):
            return f"field {name!r} is missing or empty"
    tests = row.get("tests")
    if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        return "field 'tests' is not a list of at least one text; without tests nothing can be judged"
    return ""
