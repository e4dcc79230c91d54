"""Markdown as an auditor reads it: tables with their headers, lines of prose, headings. Nothing is rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_CELLS = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\|(\s*:?-+:?\s*\|)+")
_SPAN = re.compile(r"(?<![\\`])(`+)(.+?)(?<!`)\1(?!`)")
_ESCAPED = re.compile(r"\\([\\`*_\[\]|~#$])")
_JOINER = "\u2060"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: the number of its line, and its cells by the name of their column."""

    line: int
    header: tuple[str, ...]
    cells: tuple[str, ...]

    def __getitem__(self, column: str) -> str:
        return self.cells[self.header.index(column)]


@dataclass(frozen=True, slots=True)
class Prose:
    """A line that is no row of a table."""

    line: int
    text: str


def read(text: str) -> Iterator[Row | Prose]:
    """The lines of a Markdown document in order; headers and rules of tables and empty lines are left out."""
    lines = text.splitlines()
    header: tuple[str, ...] = ()
    for index, line in enumerate(lines):
        if not line.lstrip().startswith("|"):
            header = ()
            if line.strip():
                yield Prose(index + 1, line)
        elif not header:
            following = lines[index + 1] if index + 1 < len(lines) else ""
            header = cells_of(line) if _RULE.fullmatch(following.strip()) else ()
            if not header:
                yield Prose(index + 1, line)
        elif not _RULE.fullmatch(line.strip()):
            yield Row(index + 1, header, cells_of(line))


def cells_of(line: str) -> tuple[str, ...]:
    """The cells of one line of a table, without the space around them."""
    return tuple(cell.strip() for cell in _CELLS.split(line.strip().strip())[1:-1])


def spans(text: str) -> list[str]:
    """What the code spans of a line say."""
    return [_unpiped(match[2].strip()) for match in _SPAN.finditer(text)]


def without_spans(text: str) -> str:
    """The line without its code spans."""
    return _SPAN.sub(" ", text)


def said(cell: str) -> str:
    """What a cell says, without the marks of code, emphasis and escapes."""
    parts, end = [], 0
    for span in _SPAN.finditer(cell):
        parts += [_plain(cell[end : span.start()]), _unpiped(span[2].strip())]
        end = span.end()
    return "".join([*parts, _plain(cell[end:])])


def _plain(text: str) -> str:
    shown = _ESCAPED.sub(r"\1", text.replace(_JOINER, "").strip("*"))
    return shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _unpiped(text: str) -> str:
    return text.replace("\\|", "|")


_NUMBER = re.compile(r"\d+(?:\.\d+)+\s*%?|\d+\s*%|(?<![\w@./-])[-+±~≈]?\d[\w,]*")


def numbers(text: str) -> list[str]:
    """Every figure in a text: decimals and per cents anywhere, else digits that are no part of a name or of pass@10."""
    return _NUMBER.findall(text)
