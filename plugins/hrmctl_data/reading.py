"""Reading problem files, JSONL or one JSON array, plain or gzipped, with the line of every bad row."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from hrmctl import Artifact, Problem, StageError
from hrmctl_data.rows import BadRow, checked_row

Convert = Callable[[Mapping[str, Any]], Mapping[str, Any]]
_SHOWN = 20
_GZIP = b"\x1f\x8b"


def read_problems(path: Path, convert: Convert) -> list[dict[str, Any]]:
    """The checked rows of a file, each made by `convert` from one entry.

    Raises StageError with every bad row (the first twenty, and how many more), each with its line,
    and where there is no row at all. `convert` raises BadRow.
    """
    rows: list[dict[str, Any]] = []
    lines: dict[str, int] = {}
    faults: list[Problem] = []
    for line, entry in _entries(path):
        try:
            row = _converted(entry, convert)
            if row["task_id"] in lines:
                raise BadRow(f"task_id '{row['task_id']}' repeats line {lines[row['task_id']]}")
        except BadRow as error:
            faults.append(Problem(str(error), path.name, line, 1))
            continue
        lines[row["task_id"]] = line
        rows.append(row)
    if faults:
        more = len(faults) - _SHOWN
        raise StageError(*faults[:_SHOWN], *([Problem(f"{more} more bad rows", path.name)] if more > 0 else []))
    if not rows:
        raise StageError(Problem("holds no problem", path.name, remedy="give a file with one JSON object a line"))
    return rows


@contextmanager
def faults_of(artifact: Artifact) -> Iterator[None]:
    """Within the block, faults of the artifact's file name it as the user does, not as the store does."""
    try:
        yield
    except StageError as error:
        problems = [replace(p, file=artifact.label) if p.file == artifact.path.name else p for p in error.problems]
        raise StageError(*problems) from error


def _converted(entry: Any, convert: Convert) -> dict[str, Any]:
    if isinstance(entry, BadRow):
        raise entry
    if not isinstance(entry, dict):
        raise BadRow("not a JSON object")
    return checked_row(convert(entry))


def _entries(path: Path) -> Iterator[tuple[int, Any]]:
    """Each entry with the line on which it begins; a `BadRow` in place of one that is not JSON."""
    raw = _bytes(path)
    if raw.lstrip()[:1] == b"[":
        yield from _array(raw, path.name)
        return
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            yield number, _parsed(line)


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(_GZIP) else raw
    except (OSError, EOFError, zlib.error) as error:
        raise StageError(Problem(f"cannot be read: {error}", path.name, remedy="get the file again")) from error
    return raw.removeprefix(b"\xef\xbb\xbf")


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError:
        return BadRow("not UTF-8")
    except JSONDecodeError as error:
        return BadRow(f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return BadRow(f"not JSON: {error}")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _array(raw: bytes, name: str) -> Iterator[tuple[int, Any]]:
    """The elements of one JSON array; a fault in its syntax ends the reading, for what follows has no known start."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StageError(Problem("not UTF-8", name, raw.count(b"\n", 0, error.start) + 1, 1)) from error
    decoder = json.JSONDecoder(parse_constant=_refuse)
    place = _skip(text, text.index("[") + 1)
    line, counted = 1, 0
    mark = ","
    if text[place : place + 1] == "]":
        mark, place = "]", _skip(text, place + 1)
    while mark == ",":
        line, counted = line + text.count("\n", counted, place), place
        try:
            entry, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield line, BadRow(f"not JSON: {getattr(error, 'msg', error)}")
            return
        yield line, entry
        place = _skip(text, place)
        mark = text[place : place + 1]
        place = _skip(text, place + 1)
    if mark != "]":
        yield line, BadRow("not JSON: no ',' or ']' after this element")
    elif text[place:]:
        yield line + text.count("\n", counted, place), BadRow("not JSON: text after the array")


def _skip(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place
