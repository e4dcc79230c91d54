"""From what a model wrote to the program that is judged. Nothing is repaired; text is only left out.

1. Reasoning that ends with `</think>` is dropped.
2. What parses together with the prefix is not looked at for Markdown. Else the code is taken out of its
   fence: the first block that defines the entry point, or the first block. A fence that closes what was
   open from the start ends the code.
3. Where the prefix leaves a function open (HumanEval, microcode), the completion ends before the first
   line that leaves the function: one that is neither blank nor a comment, indented no more than the
   `def`, with everything before it parsing. A completion that states the function again takes its place.
4. Where the program stands alone (MBPP), prose before the first line of code and after the last line
   that parses is dropped, and so is what follows the entry point and is neither a definition, an import
   nor an assignment: printed examples, asserts of the model's own, the next problem of a run-on.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

_LONGEST = 200_000
_TRIES = 100
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+.-]*)[^\n`]*$", re.MULTILINE)
_OPENER = re.compile(r"^([ \t]*)(?:async[ \t]+def|def|class)\b", re.MULTILINE)
_CODE = re.compile(r"^(?:def |class |import |from |@|async def )", re.MULTILINE)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_THOUGHT = "</think>"
_KEPT = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)


def program_of(completion: str, prefix: str = "", entry_point: str = "") -> str:
    """The program to judge: prefix and the part of the completion that answers the problem."""
    text = completion.replace("\r\n", "\n").replace("\r", "\n").rpartition(_THOUGHT)[2]
    if len(prefix) + len(text) > _LONGEST:
        return prefix + text
    if not parses(prefix + text):
        text = _unfenced(text, prefix, entry_point)
    if not opens_body(prefix):
        return prefix + _standalone(text, entry_point)
    if _restates(text, entry_point):
        return f"{closed(prefix)}\n{_standalone(text, entry_point)}"
    return prefix + text[: _end_of_body(text, prefix)]


def is_complete(text: str, prefix: str = "", entry_point: str = "") -> bool:
    """Whether further text would be left out by `program_of`, so that generation may end here.

    Only whole lines count: the last line may still grow.
    """
    lines = text[: text.rfind("\n") + 1]
    if not lines.strip() or _THOUGHT in lines or "<think>" in lines:
        return False
    if _FENCE.search(lines):
        return bool(prefix.strip() or entry_point) and _closed_block(lines, entry_point)
    if opens_body(prefix):
        end = _end_of_body(lines, prefix)
        return end < len(lines) and bool(lines[:end].strip()) and parses(prefix + lines[:end])
    tree = _parsed(lines)
    return tree is not None and _first_left_out(tree, entry_point) is not None


def parses(source: str) -> bool:
    """Whether this Python's grammar accepts the source. Never raises."""
    return _parsed(source) is not None


def _parsed(source: str) -> ast.Module | None:
    if len(source) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def _lines(text: str) -> list[str]:
    # str.splitlines also breaks at form feeds and Unicode separators, where Python's grammar does not.
    return _LINE.findall(text)


def opens_body(prefix: str) -> bool:
    """Whether text after the prefix continues a function or class that the prefix leaves open."""
    if not prefix.strip():
        return False
    tree = _parsed(prefix)
    if tree is None:
        return True
    return bool(tree.body) and isinstance(tree.body[-1], (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))


def closed(prefix: str) -> str:
    """The prefix with a body for what it leaves open, where it needs one to parse."""
    return prefix if parses(prefix) else prefix.rstrip() + " pass"


def _restates(text: str, entry_point: str) -> bool:
    """Whether the text is the whole function again instead of its body."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return bool(entry_point) and first[:1] not in (" ", "\t") and _defines(text, entry_point)


def _defines(text: str, entry_point: str) -> bool:
    return re.search(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(entry_point)}\b", text, re.MULTILINE) is not None


# --- fences -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    code: str
    closed: bool


def _unfenced(text: str, prefix: str, entry_point: str) -> str:
    fences = list(_FENCE.finditer(text))
    if not fences:
        return text
    before = text[: fences[0].start()]
    if not fences[0][1] and _is_code(before, prefix):
        return before
    blocks = list(_blocks(text, fences))
    named = [block for block in blocks if entry_point and _defines(block.code, entry_point)]
    return (named or blocks)[0].code


def _is_code(text: str, prefix: str) -> bool:
    """Whether the text continues the prefix as code; a word of prose that happens to parse does not."""
    tree = _parsed(prefix + text)
    if tree is None or not text.strip():
        return False
    return opens_body(prefix) or any(isinstance(node, _KEPT) for node in tree.body)


def _blocks(text: str, fences: list[re.Match[str]]) -> Iterator[_Block]:
    for number in range(0, len(fences), 2):
        start = fences[number].end() + 1
        closed = number + 1 < len(fences)
        yield _Block(text[start : fences[number + 1].start() if closed else len(text)], closed)


def _closed_block(text: str, entry_point: str) -> bool:
    blocks = _blocks(text, list(_FENCE.finditer(text)))
    return any(block.closed and (not entry_point or _defines(block.code, entry_point)) for block in blocks)


# --- a body that continues a prefix ----------------------------------------------------------------


def _end_of_body(text: str, prefix: str) -> int:
    """Offset of the first line that leaves the function which the prefix opens; the length where none does."""
    leaving = list(_leaving(text, prefix))[:_TRIES]
    for offset in leaving:
        # Inside a bracket or a string a line may stand at the margin: there what comes before does not parse.
        if parses(prefix + text[:offset]):
            return offset
    if not leaving or parses(prefix + text):
        return len(text)
    return leaving[0]


def _leaving(text: str, prefix: str) -> Iterator[int]:
    openers = _OPENER.findall(prefix)
    margin = len(openers[-1].expandtabs()) if openers else 0
    offset = 0
    for number, line in enumerate(_lines(text)):
        code = line.lstrip()
        indent = len(line.expandtabs()) - len(line.lstrip(" \t").expandtabs())
        begins_line = number > 0 or prefix.endswith("\n")
        if begins_line and code and not code.startswith("#") and indent <= margin:
            yield offset
        offset += len(line)


# --- a program that stands alone -------------------------------------------------------------------


def _standalone(text: str, entry_point: str) -> str:
    code = _longest_parsing(text, entry_point)
    tree = _parsed(code)
    if tree is None:
        return code
    cut = _first_left_out(tree, entry_point)
    return code if cut is None else "".join(_lines(code)[: cut - 1])


def _first_left_out(tree: ast.Module, entry_point: str) -> int | None:
    """Line of the first statement after the entry point that no caller of it needs."""
    defined = False
    for node in tree.body:
        if defined and not isinstance(node, _KEPT):
            return node.lineno
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined = defined or not entry_point or node.name == entry_point
    return None


def _longest_parsing(text: str, entry_point: str) -> str:
    """The longest run of whole lines that parses and defines something; the text itself where there is none."""
    if parses(text):
        return text
    starts = [0, *[found.start() for found in _CODE.finditer(text)][:1]]
    for start in dict.fromkeys(starts):
        code = text[start:]
        margins = [found.start() for found in re.finditer(r"^\S", code, re.MULTILINE)]
        for end in [len(code), *reversed(margins[-_TRIES:])]:
            part = code[:end]
            if _answers(part, entry_point) and parses(part):
                return part
    return text


def _answers(text: str, entry_point: str) -> bool:
    return _defines(text, entry_point) if entry_point else _CODE.search(text) is not None
