"""The published benchmarks as rows by split, for the declared data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrmctl_sandbox.formats import BadRow, CodeTask, read_tasks
from hrmctl_sandbox.formats.files import read
from hrmctl_sandbox.formats.mbpp import mbpp_task

from hrmctl_data.reading import read_faults

Splits = Mapping[str, Sequence[Mapping[str, Any]]]
_MBPP_SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}


def mbpp(path: Path) -> Splits:
    """The rows of the full or the sanitized MBPP file by split (task ids 1-10, 11-510, 511-600, 601-974).

    Raises StageError with the line of each bad row.
    """
    splits: dict[str, list[Mapping[str, Any]]] = {}
    with read_faults():
        for task in read(path, _of_a_split):
            splits.setdefault(_split_of(task), []).append(task.row())
    return splits


def _split_of(task: CodeTask) -> str:
    return next((name for name, ids in _MBPP_SPLITS.items() if task.meta["number"] in ids), "")


def _of_a_split(entry: Mapping[str, Any]) -> CodeTask:
    task = mbpp_task(entry)
    if not _split_of(task):
        raise BadRow(f"task_id {task.meta['number']} is in no split of MBPP (1 to 974); data.jsonl takes any")
    return task


def humaneval(path: Path) -> Splits:
    """The rows of the HumanEval file, plain or gzipped. Raises StageError with the line of each bad row."""
    return _test(path, "humaneval")


def plus(path: Path) -> Splits:
    """The rows of HumanEvalPlus.jsonl or MbppPlus.jsonl; its references are run, in the sandbox. Raises StageError."""
    return _test(path, "evalplus")


def _test(path: Path, shape: str) -> Splits:
    with read_faults():
        return {"test": [task.row() for task in read_tasks(path, shape)]}
