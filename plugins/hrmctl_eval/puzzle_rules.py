"""Whether an answer solves a puzzle, by the puzzle's rules and never by comparison with a reference.

Shares no code with what generates the puzzles, so that neither can hide a fault of the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from hrmctl import Problem, StageError

OPEN = "."
"""A cell that the answer may write into, in puzzles of every kind."""
PASSED, WRONG_LENGTH, BAD_SYMBOL = "passed", "wrong_length", "bad_symbol"
CHANGED_GIVEN, BREAKS_RULES = "changed_given", "breaks_rules"
NO_PATH, NOT_SHORTEST = "no_path", "not_shortest"
_BOX_ROWS = {4: 2, 6: 2, 9: 3}
_WALL, _START, _GOAL, _MARK = "#SGo"
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class PuzzleTask:
    """One puzzle and its reference solution, one character a cell; `source` names the rules."""

    task_id: str
    source: str
    prompt: str
    completion: str

    def outcome(self, answer: str) -> str:
        """`passed`, or what is wrong with the answer first of: length, givens, symbols, rules."""
        rules = _RULES[self.source]
        if len(answer) != len(self.prompt):
            return WRONG_LENGTH
        pairs = list(zip(self.prompt, answer, strict=True))
        if any(cell not in (OPEN, said) for cell, said in pairs):
            return CHANGED_GIVEN
        if not {said for cell, said in pairs if cell == OPEN} <= rules.symbols(self.prompt):
            return BAD_SYMBOL
        return rules.judge(self.prompt, answer)


def judge_sudoku(prompt: str, answer: str) -> str:
    """Every row, column and box holds each digit once; length, symbols and givens are right."""
    size = isqrt(len(answer))
    height = _BOX_ROWS[size]
    width = size // height
    units: dict[tuple[str, int], set[str]] = {}
    for cell, digit in enumerate(answer):
        row, column = divmod(cell, size)
        for unit in (("row", row), ("column", column), ("box", row // height * height + column // width)):
            units.setdefault(unit, set()).add(digit)
    return PASSED if all(len(digits) == size for digits in units.values()) else BREAKS_RULES


def judge_maze(prompt: str, answer: str) -> str:
    """The marked cells are those of a shortest path from start to goal, no more; the rest is as it was."""
    size = isqrt(len(prompt))
    marks = {cell for cell, sign in enumerate(answer) if sign == _MARK}
    ends = prompt.index(_START), prompt.index(_GOAL)
    walked = _distance(marks | set(ends), *ends, size)
    if walked is None:
        return NO_PATH
    shortest = _distance({cell for cell, sign in enumerate(prompt) if sign != _WALL}, *ends, size)
    return PASSED if walked == shortest and len(marks) == walked - 1 else NOT_SHORTEST


def _distance(cells: set[int], start: int, goal: int, size: int) -> int | None:
    """Steps between neighbouring cells from start to goal; None where there is no way."""
    reached, edge, steps = {start}, {start}, 0
    while edge and goal not in edge:
        edge = {n for cell in edge for n in _neighbours(cell, size) if n in cells} - reached
        reached |= edge
        steps += 1
    return steps if edge else None


def _neighbours(cell: int, size: int) -> set[int]:
    row, column = divmod(cell, size)
    around = {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)}
    return {r * size + c for r, c in around if 0 <= r < size and 0 <= c < size}


@dataclass(frozen=True, slots=True)
class _Rules:
    """What an open cell may hold, the judge of answers that are right so far, and what is wrong with a puzzle."""

    symbols: Callable[[str], set[str]]
    judge: Callable[[str, str], str]
    fault: Callable[[str], str]


def _digits(prompt: str) -> set[str]:
    return {str(digit) for digit in range(1, isqrt(len(prompt)) + 1)}


def _fault_of_sudoku(prompt: str) -> str:
    if len(prompt) not in {size * size for size in _BOX_ROWS}:
        return f"a sudoku has 16, 36 or 81 cells, this one {len(prompt)}"
    strange = set(prompt) - _digits(prompt) - {OPEN}
    return f"{min(strange)!r} is neither a digit of this size nor '.'" if strange else ""


def _fault_of_maze(prompt: str) -> str:
    if not prompt or isqrt(len(prompt)) ** 2 != len(prompt):
        return f"a maze is square, and {len(prompt)} cells are no square"
    strange = set(prompt) - {_WALL, OPEN, _START, _GOAL}
    if strange:
        return f"{min(strange)!r} is none of the signs # . S G"
    return "" if prompt.count(_START) == prompt.count(_GOAL) == 1 else "a maze has one S and one G"


_RULES: Mapping[str, _Rules] = {
    "sudoku": _Rules(_digits, judge_sudoku, _fault_of_sudoku),
    "maze": _Rules(lambda _: {OPEN, _MARK}, judge_maze, _fault_of_maze),
}


def read_puzzles(path: Path) -> list[PuzzleTask]:
    """All puzzles of a JSONL file, in order. Raises StageError with file and line of the first that are not usable."""
    found: list[PuzzleTask] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        task = _parsed(line)
        if isinstance(task, PuzzleTask) and task.task_id in seen:
            task = f"task_id {task.task_id} occurs twice"
        if isinstance(task, str):
            problems.append(Problem(task, str(path), number, 1))
            if len(problems) == _SHOWN:
                break
        else:
            seen.add(task.task_id)
            found.append(task)
    if problems:
        raise StageError(*problems)
    if not found:
        raise StageError(Problem("the data set holds no puzzle", str(path), remedy="generate it again"))
    return found


def _parsed(line: bytes) -> PuzzleTask | str:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not a JSON object on one line ({error})"
    if not isinstance(row, dict):
        return "not a JSON object"
    texts = [row.get(key) for key in ("task_id", "source", "prompt", "completion")]
    if not all(isinstance(text, str) and text for text in texts):
        return "task_id, source, prompt and completion must all be there, as text"
    task = PuzzleTask(*map(str, texts))
    if task.source not in _RULES:
        return f"no rules for puzzles of source {task.source!r}; known are {', '.join(sorted(_RULES))}"
    if len(task.completion) != len(task.prompt):
        return f"the completion has {len(task.completion)} cells, the prompt {len(task.prompt)}"
    return _RULES[task.source].fault(task.prompt) or task
