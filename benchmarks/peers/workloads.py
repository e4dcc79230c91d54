"""The programs of the race: published reference solutions, loops among them, and wrong ones."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl_sandbox.formats import read_tasks
from peers.harnesses import Task

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "plugins" / "sandbox"))
import sandbox_mutants
import sandbox_plain

_LOOP_EVERY = 50
_SLOW_SECONDS = 0.5
_RECORDER = """
import copy, json, sys
found = []
for source, entry, tests in json.load(sys.stdin):
    scope = {}
    exec(source, scope)
    function, calls = scope[entry], []
    def record(*arguments):
        kept = copy.deepcopy(list(arguments))
        calls.append((kept, function(*arguments)))
        return calls[-1][1]
    exec(tests, scope)
    scope["check"](record)
    found.append([repr([call[0] for call in calls]), repr([call[1] for call in calls])])
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True)
class Workload:
    """Programs with their problems' ids, what a plain interpreter says of each, and the limit in seconds."""

    name: str
    tasks: dict[str, Task]
    programs: list[tuple[str, str]]
    seconds: float
    expected: list[bool]

    def round(self, number: int, copies: int) -> list[tuple[str, str]]:
        """The programs `copies` times, each made unique by a comment, so that none is graded from memory."""
        return [(name, f"{program}\n# {number}.{copy}\n") for copy in range(copies) for name, program in self.programs]


def human_eval(path: Path) -> list[tuple[Task, str]]:
    """HumanEval's problems and references; evalplus's inputs are those that the tests call the reference with."""
    published = read_tasks(path, "humaneval")
    tests = [task.tests[0].removesuffix(f"\ncheck({task.entry_point})") for task in published]
    programs = [task.program(task.completion) for task in published]
    request = [
        [program, task.entry_point, text] for program, task, text in zip(programs, published, tests, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "-I", "-c", _RECORDER], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    return [
        (Task(task.task_id, task.entry_point, task.trusted, text, True, *known), program)
        for task, text, known, program in zip(published, tests, json.loads(done.stdout), programs, strict=True)
    ]


def mbpp(path: Path) -> list[tuple[Task, str]]:
    """MBPP's problems all of whose tests are `assert f(literals) == literal`, which is what evalplus can take."""
    found = []
    for task in read_tasks(path, "mbpp"):
        calls = [_call(test, task.entry_point) for test in task.tests]
        known = [call for call in calls if call is not None]
        if len(known) == len(calls) and not task.setup:
            inputs, expected = repr([call[0] for call in known]), repr([call[1] for call in known])
            program = task.program(task.completion)
            found.append(
                (Task(task.task_id, task.entry_point, "", "\n".join(task.tests), False, inputs, expected), program)
            )
    return found


def _call(test: str, entry_point: str) -> tuple[list[Any], Any] | None:
    body = ast.parse(test).body
    compare = body[0].test if len(body) == 1 and isinstance(body[0], ast.Assert) else None
    if not isinstance(compare, ast.Compare) or len(compare.ops) != 1 or not isinstance(compare.ops[0], ast.Eq):
        return None
    call = compare.left
    if not isinstance(call, ast.Call) or call.keywords or getattr(call.func, "id", "") != entry_point:
        return None
    try:
        return [ast.literal_eval(item) for item in call.args], ast.literal_eval(compare.comparators[0])
    except ValueError:
        return None


def references(name: str, pairs: list[tuple[Task, str]], seconds: float) -> Workload:
    """The references as they are."""
    return _workload(name, pairs, [program for _, program in pairs], seconds)


def with_loops(name: str, pairs: list[tuple[Task, str]], seconds: float) -> Workload:
    """The references, one in fifty replaced by an endless loop."""
    loops = [
        f"def {task.entry_point}(*arguments):\n    while True: pass\n"
        if number % _LOOP_EVERY == _LOOP_EVERY // 2
        else program
        for number, (task, program) in enumerate(pairs)
    ]
    return _workload(name, pairs, loops, seconds)


def half_wrong(name: str, pairs: list[tuple[Task, str]], seconds: float) -> Workload:
    """The references, every second one replaced by a mutant that a plain interpreter quickly fails, if it has one.

    Prompts with helper functions keep the reference: the judge tests with its own helper (docs/sandbox.md), so that a
    mutant of the helper is no wrong solution to it.
    """
    mutable = [number % 2 == 1 and not task.setup for number, (task, _) in enumerate(pairs)]
    programs = [_wrong(*pair) if wrong else pair[1] for pair, wrong in zip(pairs, mutable, strict=True)]
    return _workload(name, pairs, programs, seconds)


def _wrong(task: Task, program: str) -> str:
    mutants: list[str] = sandbox_mutants.mutants(program, 5, 0)
    for mutant in mutants:
        begun = time.perf_counter()
        if sandbox_plain.passes([task.script(mutant)], 1) == [False] and time.perf_counter() - begun < _SLOW_SECONDS:
            return mutant
    return program


def _workload(name: str, pairs: list[tuple[Task, str]], programs: list[str], seconds: float) -> Workload:
    expected = sandbox_plain.passes(
        [task.script(text) for (task, _), text in zip(pairs, programs, strict=True)], int(seconds)
    )
    named = [(task.id, program) for (task, _), program in zip(pairs, programs, strict=True)]
    return Workload(name, {task.id: task for task, _ in pairs}, named, seconds, expected)
