"""Reading training files row by row, in constant memory, with every bad row known by its line."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hrmctl_sandbox.formats import BadFile, BadRow
from hrmctl_sandbox.formats.files import entries

from hrmctl import Problem, StageError
from hrmctl_training.formats import Chat, Row, convert, detect

LONGEST_LINE = 1 << 26
_SHOWN = 10
_START = 1 << 16
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_OBJECT = re.compile(rb"\s*\{\s*[\"}]")


@dataclass
class Faults:
    """The bad rows of one file: the first few as they are shown, the number of all, and a report of all on disk."""

    path: Path
    report: Path | None = None
    count: int = 0
    first: list[Problem] = field(default_factory=list)

    def add(self, line: int, why: str) -> None:
        """Note one."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(Problem(why, str(self.path), line, 1))
        if self.report is not None:
            with self.report.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"line": line, "reason": why}) + "\n")

    def refuse(self, what: str, remedy: str) -> None:
        """Raise StageError with the first of them and their number, where there are any."""
        if self.count:
            raise StageError(*self.first, Problem(f"{self.count} {what} in all", str(self.path), remedy=remedy))


class Reader:
    """The usable rows of one file in order; its bad rows are in `faults`, and `format` is known after the first row.

    The format is that of the first usable row unless it is given, and a row of another format is a bad one.
    """

    def __init__(self, path: Path, form: str, chat: Chat, report: Path | None = None) -> None:
        self.path = path
        self.chat = chat
        self.format = "" if form == "auto" else form
        self.faults = Faults(path, report)
        self.rows = 0

    def __iter__(self) -> Iterator[Row]:
        """Raises StageError where the file cannot be read, or holds no row at all."""
        return (row for row, _ in self.with_entries())

    def with_entries(self) -> Iterator[tuple[Row, Any]]:
        """Each usable row and the object that it was read from. Raises as iteration does."""
        for line, entry in self._entries():
            self.rows += 1
            try:
                yield self._row(line, entry), entry
            except BadRow as error:
                self.faults.add(line, str(error))
        if not self.rows:
            raise StageError(Problem("the data set holds no row", str(self.path), remedy="generate or import it again"))

    def _row(self, line: int, entry: Any) -> Row:
        if isinstance(entry, BadRow):
            raise entry
        if not isinstance(entry, dict):
            raise BadRow("not a JSON object")
        form = self.format or detect(entry)
        row = convert(form, entry, line, self.chat)
        self.format = form
        return row

    def _entries(self) -> Iterator[tuple[int, Any]]:
        with self._opened() as stream:
            start = stream.peek(_START)[:_START]
            if start.startswith(_BOM):
                stream.read(len(_BOM))
            if _is_array(start):
                yield from self._array()
            elif self._is_plain(start):
                self.format = "text"
                yield from _paragraphs(stream)
            else:
                yield from _lines(stream)

    def _is_plain(self, start: bytes) -> bool:
        """Whether it is text and not rows: one broken row at the beginning does not make it text, unless told so."""
        lines = [line for line in start.removeprefix(_BOM).split(b"\n") if line.strip()]
        if self.format == "text":
            return not isinstance(_parsed(lines[0]) if lines else None, dict)
        return not self.format and bool(lines) and not any(_OBJECT.match(line) for line in lines)

    def _array(self) -> Iterator[tuple[int, Any]]:
        try:
            yield from entries(self.path)
        except BadFile as error:
            faults = (Problem(f.message, str(self.path), f.line, 1, f.remedy) for f in error.faults)
            raise StageError(*faults) from error

    @contextmanager
    def _opened(self) -> Iterator[io.BufferedReader]:
        try:
            with self.path.open("rb") as raw:
                zipped = raw.read(2) == _GZIP
                raw.seek(0)
                stream: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
                yield io.BufferedReader(stream, _START)
        except (OSError, EOFError, zlib.error) as error:
            why = getattr(error, "strerror", None) or error
            problem = Problem(f"cannot be read after row {self.rows}: {why}", str(self.path), remedy="get it again")
            raise StageError(problem) from error


def _is_array(start: bytes) -> bool:
    text = start.removeprefix(_BOM).lstrip()
    # A bracket alone begins plain text too, or a bad line.
    return text.startswith(b"[") and text[1:].lstrip()[:1] in (b"{", b"]")


def _lines(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    number = 0
    while raw := stream.readline(LONGEST_LINE):
        number += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, BadRow(f"longer than {LONGEST_LINE >> 20} MiB")
            continue
        yield number, _parsed(raw)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return BadRow(f"not a JSON object on one line ({error})")


def _paragraphs(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Runs of lines between blank ones as rows of plain text."""
    kept: list[bytes] = []
    first = 1
    number = 0
    for number, raw in enumerate(stream, start=1):
        if raw.strip():
            first = first if kept else number
            kept.append(raw)
        elif kept:
            yield first, _decoded(kept)
            kept = []
    if kept:
        yield first, _decoded(kept)


def _decoded(lines: list[bytes]) -> Any:
    try:
        return {"text": b"".join(lines).decode("utf-8")}
    except UnicodeDecodeError as error:
        return BadRow(f"not UTF-8 ({error})")
