"""Rows of any other shape, by a mapping of the fields of a task to theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .task import BadRow, CodeTask, checked

FIELDS = ("task_id", "prompt", "completion", "entry_point", "tests", "text", "prefix", "setup", "source", "cases")


def mapped_task(entry: Mapping[str, Any], fields: Mapping[str, str]) -> CodeTask:
    """The task of a row: `fields` says for a field of hrmctl's shape which field of the row it is.

    A number as `task_id` becomes text and one text as `tests` a list; `completion` may be left out, and `cases` may say
    input and output instead of stdin and stdout. Fields of the row that are not named are left out. Raises BadRow.
    """
    unknown = fields.keys() - set(FIELDS)
    if unknown:
        raise BadRow(f"'{min(unknown)}' is no field of a task; those are {', '.join(FIELDS)}")
    for name, theirs in fields.items():
        if theirs not in entry:
            raise BadRow(f"no field '{theirs}', which is to be '{name}'")
    row: dict[str, Any] = {"completion": "", **{name: entry[theirs] for name, theirs in fields.items()}}
    if isinstance(row.get("task_id"), int) and not isinstance(row["task_id"], bool):
        row["task_id"] = str(row["task_id"])
    if isinstance(row.get("tests"), str):
        row["tests"] = [row["tests"]]
    if "cases" in row:
        row.setdefault("entry_point", "")
    if isinstance(row.get("cases"), list):
        row["cases"] = [_case(case) for case in row["cases"]]
    return checked(row)


def _case(case: Any) -> Any:
    if isinstance(case, Mapping) and "stdin" not in case:
        return {"stdin": case.get("input"), "stdout": case.get("output")}
    return case
