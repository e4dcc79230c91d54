"""Reading files of rows, JSONL or one JSON array, plain or gzipped, with the line of every bad row."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from .task import BadRow, CodeTask

Convert = Callable[[Mapping[str, Any]], CodeTask]
SHOWN = 20
# A packed file does not show its size: one of 3 MB may be a bomb of 3 GB.
MOST_BYTES = 1 << 30
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one row; `line` counts from 1, 0 where it is the file as a whole."""

    message: str
    line: int = 0
    remedy: str = ""


class BadFile(ValueError):
    """A file holds bad rows, or none: `faults` are the first twenty and how many more."""

    def __init__(self, name: str, *faults: Fault) -> None:
        more = len(faults) - SHOWN
        self.name = name
        self.faults = (*faults[:SHOWN], *([Fault(f"{more} more bad rows")] if more > 0 else []))
        super().__init__("\n".join(f"{name}:{fault.line}: {fault.message}" for fault in self.faults))


def read(path: Path, convert: Convert) -> list[CodeTask]:
    """The tasks of a file, each made by `convert` from one entry, in order.

    Raises BadFile with every bad row, each with its line, and where there is no row at all. `convert` raises BadRow.
    """
    tasks: list[CodeTask] = []
    lines: dict[str, int] = {}
    faults: list[Fault] = []
    for line, entry in entries(path):
        try:
            task = convert(as_object(entry))
            if task.task_id in lines:
                raise BadRow(f"task_id '{task.task_id}' repeats line {lines[task.task_id]}")
        except BadRow as error:
            faults.append(Fault(str(error), line))
            continue
        lines[task.task_id] = line
        tasks.append(task)
    if faults:
        raise BadFile(path.name, *faults)
    if not tasks:
        raise BadFile(path.name, Fault("holds no problem", remedy="give a file with one JSON object a line"))
    return tasks


def as_object(entry: Any) -> Mapping[str, Any]:
    """The entry as a JSON object. Raises BadRow."""
    if isinstance(entry, BadRow):
        raise entry
    if not isinstance(entry, dict):
        raise BadRow("not a JSON object")
    return entry


def entries(path: Path) -> Iterator[tuple[int, Any]]:
    """Each entry with the line on which it begins; a `BadRow` in place of one that is not JSON. Raises BadFile."""
    raw = _bytes(path)
    if raw.lstrip()[:1] == b"[":
        yield from _array(raw, path.name)
        return
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            yield number, _parsed(line)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            zipped = stream.read(len(_GZIP)) == _GZIP
            stream.seek(0)
            raw = gzip.GzipFile(fileobj=stream).read(MOST_BYTES + 1) if zipped else stream.read()
    except FileNotFoundError as error:
        raise BadFile(path.name, Fault("there is no such file")) from error
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise BadFile(path.name, Fault(f"cannot be read: {why}", remedy="get the file again")) from error
    if zipped and len(raw) > MOST_BYTES:
        raise BadFile(path.name, Fault("unpacks to more than 1 GiB", remedy="unpack it, if it is what it should be"))
    return raw.removeprefix(b"\xef\xbb\xbf")


def _parsed(line: bytes) -> Any:
    try:
        # The inputs of evalplus hold what Python's json writes for infinity; nobody else's rows may.
        strict = None if b'"plus_input"' in line else _refuse
        return json.loads(line.decode("utf-8"), parse_constant=strict)
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
        raise BadFile(name, Fault("not UTF-8", raw.count(b"\n", 0, error.start) + 1)) from error
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
