"""Training documents, one at a time and in constant memory: JSONL rows of any usual shape, or plain text."""

from __future__ import annotations

import gzip
import io
import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from hrmctl import Artifact, Context, Problem, StageError

Format = Literal["auto", "jsonl", "lines", "paragraphs"]
LONGEST_LINE = 1 << 26
PARAGRAPH_LINES = 100
_SHOWN = 20
_SHOWN_CHARACTERS = 200
_REPORT_EVERY = 1000
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
# A completion follows its prompt here, so that n-grams across the two are those of the text as it was trained on.
_ORDER = ("system", "instruction", "text", "question", "input", "prompt", "messages", "completion", "response")
_RANK = {name: rank for rank, name in enumerate(_ORDER)}
# Marks that show nothing, with which a text looks the same and compares differently.
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


class BadDocument(ValueError):
    """A row is not a document; the message says why."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its first line (from 1), its bytes as they are in the file, and its row, or text without one.

    The bytes of a paragraph end with the blank line after it, if there is one.
    """

    line: int
    raw: bytes
    row: Mapping[str, Any] | None
    text: str

    @property
    def written(self) -> bytes:
        """The bytes after which another document can follow."""
        return self.raw if self.raw.endswith(b"\n") else self.raw + b"\n"

    @property
    def name(self) -> str:
        """The row's `task_id` or `id`, cut short; empty where it has none."""
        found = next((self.row[key] for key in ("task_id", "id") if key in self.row), "") if self.row else ""
        return shown(str(found))


def folded(text: str) -> str:
    """`text` in one case and one Unicode form (NFKC), without invisible marks."""
    return text.casefold() if text.isascii() else _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).casefold()


def shown(text: str) -> str:
    """The beginning of `text` as a report can hold it: halves of surrogate pairs are no text."""
    return text[:_SHOWN_CHARACTERS].encode("utf-8", "replace").decode()


def strings(row: Mapping[str, Any]) -> Iterator[str]:
    """Every text in a row, nested ones too; instructions and prompts first, then answers, then the rest by key."""
    top = sorted(row.items(), key=lambda item: (_RANK.get(item[0], len(_RANK)), item[0]))
    stack = [value for _, value in reversed(top)]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            stack.extend(value[key] for key in reversed(value))
        elif isinstance(value, list):
            stack.extend(reversed(value))


class Reader:
    """The documents of one artifact, with progress in bytes and every bad row collected."""

    def __init__(self, artifact: Artifact, form: Format, ctx: Context):
        """Raises StageError where the artifact is a folder, an array, or holds nothing."""
        if not artifact.path.is_file():
            raise StageError(f"{artifact.label} is a folder; give one file of documents")
        self.artifact, self.ctx = artifact, ctx
        self.form = form if form != "auto" else self._told_by_its_start()
        self.count = 0
        self._faults: list[Problem] = []
        self._bad = 0

    def __iter__(self) -> Iterator[Document]:
        """Each document that is well formed; `finish` then tells of the others."""
        size = max(1, self.artifact.path.stat().st_size)
        with self._opened() as (stream, place):
            for document in self._parsed(stream):
                self.count += 1
                if self.count % _REPORT_EVERY == 0:
                    self.ctx.progress(min(place(), size - 1), size, documents=self.count)
                yield document
        self.finish()
        self.ctx.progress(size, size, documents=self.count)

    def reject(self, line: int, why: str) -> None:
        """Note a bad row; the first twenty are named, the others counted."""
        self._bad += 1
        if len(self._faults) < _SHOWN:
            self._faults.append(Problem(why, self.artifact.label, line, 1))

    def finish(self) -> None:
        """Raises StageError with every bad row and its line, and where there was no document at all."""
        if self._faults:
            more = self._bad - len(self._faults)
            tail = [Problem(f"{more} more bad rows", self.artifact.label)] if more else []
            raise StageError(*self._faults, *tail)
        if not self.count:
            raise StageError(Problem("holds no document", self.artifact.label, remedy="give JSONL or plain text"))

    def _told_by_its_start(self) -> Format:
        with self._opened() as (stream, _):
            start = stream.read(4096).removeprefix(_BOM).lstrip()
        if start.startswith(b"["):
            remedy = (
                "write one JSON object a line; data.jsonl does so with an array of problems; for text say format: lines"
            )
            raise StageError(Problem("begins with '[', as a JSON array does", self.artifact.label, 1, 1, remedy))
        return "jsonl" if start.startswith(b"{") else "paragraphs"

    @contextmanager
    def _opened(self) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
        try:
            with self.artifact.path.open("rb") as raw:
                zipped = raw.read(2) == _GZIP
                raw.seek(0)
                stream = gzip.GzipFile(fileobj=raw) if zipped else raw
                yield io.BufferedReader(stream) if zipped else raw, raw.tell
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            problem = Problem(f"cannot be read: {error}", self.artifact.label, remedy="get the file again")
            raise StageError(problem) from error

    def _parsed(self, stream: BinaryIO) -> Iterator[Document]:
        if self.form == "paragraphs":
            yield from self._paragraphs(stream)
            return
        for line, raw, text in self._lines(stream):
            if self.form == "lines" or not text.strip():
                if text.strip():
                    yield Document(line, raw, None, text)
                continue
            try:
                row = _row(text)
                yield Document(line, raw, row, "\n".join(strings(row)))
            except BadDocument as error:
                self.reject(line, str(error))

    def _paragraphs(self, stream: BinaryIO) -> Iterator[Document]:
        """Runs of lines between blank ones, of at most 100 lines, so that memory stays bounded."""
        first, raws, texts = 0, list[bytes](), list[str]()
        for line, raw, text in self._lines(stream):
            blank = not text.strip()
            if texts and (blank or len(texts) == PARAGRAPH_LINES):
                # The blank line keeps paragraphs apart where they are written; only one, for there is no end of them.
                yield Document(first, b"".join([*raws, raw] if blank else raws), None, "".join(texts))
                raws, texts = [], []
            if not blank:
                first = first if texts else line
                raws.append(raw)
                texts.append(text)
        if texts:
            yield Document(first, b"".join(raws), None, "".join(texts))

    def _lines(self, stream: BinaryIO) -> Iterator[tuple[int, bytes, str]]:
        line = 0
        while raw := stream.readline(LONGEST_LINE):
            line += 1
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                self.reject(line, f"the line is longer than {LONGEST_LINE >> 20} MiB; split the document")
                return
            raw = raw.removeprefix(_BOM) if line == 1 else raw
            try:
                yield line, raw, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                self.reject(line, f"not UTF-8 at byte {error.start + 1}")


def _row(text: str) -> Mapping[str, Any]:
    try:
        row = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise BadDocument(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise BadDocument(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise BadDocument("not a JSON object")
    if next(strings(row), None) is None:
        raise BadDocument("holds no text")
    return row


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
