"""The row format of dataset artifacts: what a row must be, and writing rows as one JSON object a line, UTF-8."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hrmctl import StageError
from hrmctl.errors import StoreError
from hrmctl.jsonio import canonical, write_atomic

_REQUIRED = ("task_id", "prompt", "completion", "entry_point")
_TEXTS = {"text": "", "prefix": "", "setup": "", "source": ""}


class BadRow(ValueError):
    """A row is not a problem; the message says why."""


def checked_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its optional fields filled in. Raises BadRow.

    `task_id`, `prompt`, `completion` and `entry_point` are texts, `tests` a list of at least one piece
    of Python; `text`, `prefix`, `setup` and `source` are texts (default empty), `meta` is a mapping.
    """
    unknown = row.keys() - {*_REQUIRED, *_TEXTS, "tests", "meta"}
    if unknown:
        raise BadRow(f"unknown field '{min(unknown)}'")
    result: dict[str, Any] = {name: text_of(row, name) for name in _REQUIRED}
    result |= {name: text_of(row, name) if name in row else default for name, default in _TEXTS.items()}
    result["tests"] = texts_of(row, "tests")
    result["meta"] = row.get("meta", {})
    if not isinstance(result["meta"], Mapping):
        raise BadRow("field 'meta' is not a mapping")
    _check_code(result)
    return result


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A field that must be text. Raises BadRow."""
    value = row.get(name)
    if value is None:
        raise BadRow(f"no field '{name}'")
    if not isinstance(value, str):
        raise BadRow(f"field '{name}' is not text")
    return value


def texts_of(row: Mapping[str, Any], name: str) -> list[str]:
    """A field that must be a list of at least one text. Raises BadRow."""
    value = row.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise BadRow(f"field '{name}' is not a list of at least one text")
    return value


def _check_code(row: Mapping[str, Any]) -> None:
    """Tests that do not compile fail every program, so they are a fault of the data."""
    if not row["entry_point"].isidentifier():
        raise BadRow(f"entry_point {row['entry_point']!r} is not a name")
    for name, source in [("setup", row["setup"]), *(("tests", test) for test in row["tests"])]:
        parsed(source, f"field '{name}'")


def parsed(source: str, what: str) -> ast.Module:
    """The syntax tree of `source`. Raises BadRow, which calls it `what`, where it is not Python."""
    try:
        # Published programs hold invalid escapes; that is their affair and no warning of ours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadRow(f"{what} is not Python: {getattr(error, 'msg', error)}") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a whole JSONL file or nothing; returns the number of rows. Raises StageError where it cannot."""
    lines = [canonical(row) + "\n" for row in rows]
    try:
        write_atomic(path, "".join(lines))
    except StoreError as error:
        raise StageError(*error.problems) from error
    return len(lines)
