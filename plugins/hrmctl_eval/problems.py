"""Reading a dataset artifact: one problem a line (docs/data.md)."""

from __future__ import annotations

from pathlib import Path

from hrmctl_sandbox.formats import BadFile, CodeTask, read_tasks

from hrmctl import Problem, StageError


def read_problems(path: Path) -> list[CodeTask]:
    """All problems of a JSONL file, in order.

    Raises StageError with file and line of the first rows that are not usable, repeat a task_id or have no prompt.
    """
    try:
        tasks = read_tasks(path, "hrmctl")
    except BadFile as error:
        raise StageError(
            *(Problem(f.message, str(path), f.line, 1 if f.line else 0, f.remedy) for f in error.faults)
        ) from error
    silent = [task.task_id for task in tasks if not task.prompt]
    if silent:
        raise StageError(Problem(f"{silent[0]} has an empty prompt; there is nothing to continue", str(path)))
    return tasks


def reads_input(task: CodeTask) -> bool:
    """Whether the answer is a whole program that reads standard input, rather than a function that tests call."""
    return bool(task.cases)
