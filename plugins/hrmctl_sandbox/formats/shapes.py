"""Which reader a row needs: by the shape that is demanded, or by the row's own fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import bigcodebench, evalplus, humaneval, livecodebench, mapping, mbpp
from .expected import References
from .files import read
from .task import BadRow, CodeTask, checked

Convert = Callable[[Mapping[str, Any]], CodeTask]
SHAPES = (
    *("auto", "hrmctl", "mbpp", "humaneval", "evalplus", "livecodebench", "bigcodebench", "bigcodebench-instruct"),
)


def read_tasks(
    path: Path | str, shape: str = "auto", fields: Mapping[str, str] | None = None, solved: bool = True
) -> list[CodeTask]:
    """The tasks of a published file of one of SHAPES, or of any file where `fields` maps a task's fields to its own.

    Rows in hrmctl's own shape need no `completion` where they are not to be `solved`: who judges samples uses none.

    Raises BadFile with the line of every bad row, ValueError for an unknown shape, and SandboxUnavailable where the
    references of evalplus's own files cannot be run.
    """
    path = Path(path)
    with References() as references:
        if fields:
            return read(path, partial(mapping.mapped_task, fields=fields))
        converters = _converters(references) | ({} if solved else {"hrmctl": _unsolved})
        converters |= {"auto": lambda entry: converters[shape_of(entry)](entry)}
        if shape not in converters:
            raise ValueError(f"unknown shape '{shape}'; there are {', '.join(SHAPES)}")
        return read(path, converters[shape])


def _unsolved(entry: Mapping[str, Any]) -> CodeTask:
    return checked({"completion": "", **entry})


def _converters(references: References) -> dict[str, Convert]:
    released = partial(evalplus.released_task, answers=references.answers)

    def plus(entry: Mapping[str, Any]) -> CodeTask:
        return released(entry) if "base_input" in entry else evalplus.hub_task(entry)

    known: dict[str, Convert] = {
        "hrmctl": checked,
        "mbpp": mbpp.mbpp_task,
        "humaneval": humaneval.humaneval_task,
        "evalplus": plus,
        "livecodebench": livecodebench.livecodebench_task,
        "bigcodebench": bigcodebench.complete_task,
        "bigcodebench-instruct": bigcodebench.instruct_task,
    }
    return known


def shape_of(entry: Mapping[str, Any]) -> str:
    """The shape of a row by its fields. Raises BadRow where they tell nothing."""
    if "test_list" in entry and "test" in entry:
        return "evalplus"
    for field, shape in _TELLING:
        if field in entry:
            return shape
    if "canonical_solution" in entry:
        return "evalplus" if "import numpy as np" in str(entry.get("test")) else "humaneval"
    fields = ", ".join(f"'{field}' ({shape})" for field, shape in _TELLING)
    raise BadRow(
        f"has none of the fields {fields}, 'canonical_solution' (humaneval); map its fields to those of a task"
    )


_TELLING = (
    ("tests", "hrmctl"),
    ("cases", "hrmctl"),
    ("test_list", "mbpp"),
    ("base_input", "evalplus"),
    ("question_content", "livecodebench"),
    ("complete_prompt", "bigcodebench"),
)
