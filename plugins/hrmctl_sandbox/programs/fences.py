"""Code between Markdown fences, or between the tags that some models write instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .source import DEFINITIONS, IMPORTS, bound, defines, parses, statements, wanted

_TRIES = 8
_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?:(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+.#-]*)[^\n`]*"
    r"|(?P<open>\[(?:PYTHON|BEGIN|CODE)\]|<(?:code|answer|solution|python)>)"
    r"|(?P<close>\[(?:/PYTHON|DONE|END|/CODE)\].*|</(?:code|answer|solution|python)>.*))[ \t]*$"
    r"|(?<=\S)[ \t]*(?P<inline>`{3,})[ \t]*(?P<tongue>[\w+.#-]*)[ \t]*$",
    re.MULTILINE,
)
NAMED = frozenset(["python", "py", "python3", "python2", "py3", "pycon", "ipython", "ipython3", "repl"])
_PYTHON = {"", *NAMED}


@dataclass(frozen=True, slots=True)
class Block:
    """The text between two fences, from `start` in the whole; `closed` where a fence ends it."""

    code: str
    language: str
    closed: bool
    start: int


def fenced(text: str) -> bool:
    """Whether there is a fence anywhere."""
    return _FENCE.search(text) is not None


def tagged(text: str) -> bool:
    """Whether there is a tag such as `[DONE]` on a line, which Python would read as a list."""
    return any(fence["open"] or fence["close"] for fence in _FENCE.finditer(text))


def before_closing(text: str) -> str | None:
    """The text before the first fence, where that fence closes rather than opens; else None."""
    first = _FENCE.search(text)
    if first is None or first["language"] or first["tongue"] or first["open"]:
        return None
    return text[: first.start()]


def blocks(text: str) -> list[Block]:
    """All blocks in order. A fence that names a language always opens one; any other closes what is open."""
    fences = list(_FENCE.finditer(text))
    found, number = [], 0
    while number < len(fences):
        opener = fences[number]
        number += 1
        if not opener["close"]:
            end = _closer(text, fences, number)
            found.append(_block(text, opener, fences[end] if end < len(fences) else None))
            number = end + (end < len(fences) and not _opens(fences[end]))
    return found


def _closer(text: str, fences: Sequence[re.Match[str]], number: int) -> int:
    """Which fence ends a block whose content begins after fence `number - 1`: a docstring may hold some, too."""
    start = fences[number - 1].end() + 1
    for end in range(number, min(number + _TRIES, len(fences))):
        if _opens(fences[end]):
            break
        code = text[start : fences[end].start()]
        if parses(code):
            return end
    return number


def _opens(fence: re.Match[str]) -> bool:
    return bool(fence["language"] or fence["tongue"] or fence["open"])


def _block(text: str, opener: re.Match[str], closer: re.Match[str] | None) -> Block:
    start = opener.end() + 1
    code = text[start : closer.start() if closer else len(text)]
    indent = opener["indent"] or ""
    if indent:
        code = re.sub(rf"^{re.escape(indent)}", "", code, flags=re.MULTILINE)
    language = (opener["language"] or opener["tongue"] or "").lower()
    return Block(code, language, closer is not None and (not _opens(closer) or closer["close"] is not None), start)


def answer(found: Sequence[Block], entry_point: str) -> Block | None:
    """The block to take: the first that defines the entry point, else the first of Python, else the first."""
    named = [block for block in found if entry_point and defines(block.code, entry_point)]
    python = [block for block in found if block.language in _PYTHON and block.code.strip()]
    return next(iter([*named, *python, *found]), None)


def with_helpers(block: Block, found: Sequence[Block]) -> str:
    """The block's code after those earlier blocks that define a name it needs."""
    code, needed = block.code, set().union(*map(wanted, statements(block.code)))
    for other in reversed([b for b in found if b.start < block.start and b.language in _PYTHON]):
        given = set().union(*map(bound, _definitions(other.code)))
        missing = needed - set().union(*map(bound, statements(code)))
        if given & missing:
            code = other.code.rstrip("\n") + "\n\n" + code
            needed |= set().union(*map(wanted, statements(other.code)))
    return code


def _definitions(code: str) -> Iterator[ast.stmt]:
    return (node for node in statements(code) if isinstance(node, (*DEFINITIONS, *IMPORTS)))
