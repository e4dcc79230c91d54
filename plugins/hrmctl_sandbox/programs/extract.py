"""From what a model wrote to the program that is judged. Nothing is repaired; text is only left out.

1. What parses together with the prefix is not searched for marks. Otherwise reasoning that ends with
   `</think>` is dropped, and everything from an end mark that a model spelt out (`<|im_end|>`, `</s>`); the code is
   taken out of its fence: the first block that defines the entry point, else the first block of Python, after those
   blocks before it that define what it needs. A fence that closes what was open from the start ends the
   code. Prompts of an interactive session (`>>>`, `...`) are dropped with its output.
2. Where the prefix leaves a function open (HumanEval, microcode), the completion ends before the first
   line that leaves the function: one that is neither blank nor a comment, indented no more than the
   `def`, with everything before it parsing. A completion that states the function again takes its place.
   What holds no body at all is judged as it stands.
3. Where the program stands alone (MBPP), prose before the first line of code and after the last line
   that parses is dropped. Of what follows the entry point, definitions and imports stay, assignments stay where a
   function needs them, and anything else ends the program: printed examples, asserts of the model's own, the next
   problem of a run-on.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from itertools import islice

from . import fences
from .source import (
    DEFINITIONS,
    IMPORTS,
    bound,
    changed,
    closed,
    defines,
    lines_of,
    opens_body,
    parsed,
    parses,
    statements,
    too_long,
    wanted,
)

_TRIES = 400
_STARTS = 20
_MARGINS = 100
_OPENER = re.compile(r"^([ \t]*)(?:async[ \t]+def|def|class)\b", re.MULTILINE)
_CODE = re.compile(r"^(?:def |class |import |from |@|async def |[A-Za-z_]\w*(?:, *\w+)* *=[^=])", re.MULTILINE)
_THOUGHT = re.compile(r".*</think(?:ing)?>", re.DOTALL)
_THINKING = re.compile(r"\s*<think(?:ing)?>")
_END_MARK = re.compile(r"<\|[a-zA-Z_▁]+\|>|</s>|<file_sep>|<EOT>|\[/INST\]|<end_of_turn>")
_PROMPTED = re.compile(r"^[ \t]*>>> (?:def |class |import |from |@)", re.MULTILINE)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


def program_of(completion: str, prefix: str = "", entry_point: str = "", *, script: bool = False) -> str:
    """The program to judge: prefix and the part of the completion that answers the problem.

    A `script` reads standard input, so nothing of what it does is left out.
    """
    text = completion.replace("\r\n", "\n").replace("\r", "\n")
    if too_long(prefix, text):
        return prefix + text
    if fences.tagged(text) or not parses(prefix + text):
        text = _unwrapped(text, prefix, entry_point)
    if script:
        return prefix + _longest_parsing(text, "")
    if not opens_body(prefix):
        return prefix + _standalone(text, entry_point)
    return _continued(text, prefix, entry_point)


def is_complete(
    text: str, prefix: str = "", entry_point: str = "", *, script: bool = False, continues: bool = True
) -> bool:
    """Whether further text would be left out by `program_of`, so that generation may end here.

    Only whole lines count: the last line may still grow. Unless the text `continues` a prefix, it answers a request,
    and only a block that ends, or what follows a whole program, is the end.
    """
    lines = text[: text.rfind("\n") + 1]
    if not lines.strip() or "</think" in lines or "<think" in lines:
        return False
    if fences.fenced(lines):
        return bool(prefix.strip() or entry_point or script) and _closed_block(lines, entry_point)
    if script:
        return False
    if continues and opens_body(prefix):
        end = _end_of_body(lines, prefix)
        return end < len(lines) and _is_body(lines[:end], prefix)
    return _stop(list(statements(lines)), entry_point) is not None


def reasoned(completion: str) -> tuple[str, str]:
    """What comes before a last `</think>`, and the rest; a thought that never ends is all of it."""
    opened, thought = _THINKING.match(completion), _THOUGHT.match(completion)
    start = opened.end() if opened else 0
    if thought:
        return completion[start : completion.rindex("</think", 0, thought.end())], completion[thought.end() :]
    return (completion[start:], "") if opened else ("", completion)


# --- marks around the code -----------------------------------------------------------------------------


def _unwrapped(text: str, prefix: str, entry_point: str) -> str:
    text = reasoned(text)[1]
    mark = _END_MARK.search(text)
    text = text[: mark.start()] if mark and text[: mark.start()].strip() else text
    text = _unfenced(text, prefix, entry_point)
    return _unprompted(text) if _PROMPTED.search(text) and not parses(prefix + text) else text


def _unfenced(text: str, prefix: str, entry_point: str) -> str:
    before = fences.before_closing(text)
    if before is not None and _is_code(before, prefix):
        return before
    found = fences.blocks(text)
    block = fences.answer(found, entry_point)
    return fences.with_helpers(block, found) if block else text


def _is_code(text: str, prefix: str) -> bool:
    """Whether the text continues the prefix as code; a word of prose that happens to parse does not."""
    tree = parsed(prefix + text)
    if tree is None or not text.strip():
        return False
    return opens_body(prefix) or any(isinstance(n, (*DEFINITIONS, *IMPORTS, *_ASSIGNMENTS)) for n in tree.body)


def _closed_block(text: str, entry_point: str) -> bool:
    whole = [block for block in fences.blocks(text) if block.closed and parses(block.code)]
    return any(not entry_point or defines(block.code, entry_point) for block in whole)


def _unprompted(text: str) -> str:
    """The lines of an interactive session that were typed, without their prompts."""
    lines = [line.lstrip(" \t") for line in lines_of(text)]
    return "".join(line[4:] or "\n" for line in lines if line.startswith((">>> ", "... ")) or line.strip() == "...")


# --- a body that continues a prefix ----------------------------------------------------------------


def _continued(text: str, prefix: str, entry_point: str) -> str:
    again = _stated_again(text, prefix, entry_point)
    if again:
        return f"{closed(prefix)}\n{_standalone(again, entry_point)}"
    end = _end_of_body(text, prefix)
    return prefix + (text if end < len(text) and not text[:end].strip() else text[:end])


def _stated_again(text: str, prefix: str, entry_point: str) -> str:
    """The text that states the whole function again instead of its body; empty where it does not."""
    if not entry_point:
        return ""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first[:1] in (" ", "\t"):
        outer = textwrap.dedent(text)
        return outer if _only_defines(outer, entry_point) else ""
    if not defines(text, entry_point):
        return ""
    return "" if _is_body(text[: _end_of_body(text, prefix)], prefix) else text


def _only_defines(text: str, entry_point: str) -> bool:
    body = list(statements(text))
    return defines(text, entry_point) and bool(body) and all(isinstance(n, (*DEFINITIONS, *IMPORTS)) for n in body)


def _is_body(text: str, prefix: str) -> bool:
    """Whether the text gives the prefix a body of its own: more than blank lines and comments, and it parses."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and parses(prefix + text)


def _end_of_body(text: str, prefix: str) -> int:
    """Offset of the first line that leaves the function which the prefix opens; the length where none does."""
    leaving = list(_leaving(text, prefix))[:_MARGINS]
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
    for number, line in enumerate(lines_of(text)):
        code = line.lstrip()
        indent = len(line.expandtabs()) - len(line.lstrip(" \t").expandtabs())
        begins_line = number > 0 or prefix.endswith("\n")
        if begins_line and code and not code.startswith("#") and indent <= margin:
            yield offset
        offset += len(line)


# --- a program that stands alone -------------------------------------------------------------------


def _standalone(text: str, entry_point: str) -> str:
    code = _longest_parsing(text, entry_point)
    body = list(statements(code))
    stop = _stop(body, entry_point)
    lines = lines_of(code)
    last = len(lines) if stop is None else stop - 1
    idle = _idle(body, entry_point)
    left_out = _numbers(idle) - _numbers([node for node in body if node not in idle])
    return "".join(line for number, line in enumerate(lines[:last], start=1) if number not in left_out)


def _numbers(nodes: list[ast.stmt]) -> set[int]:
    """The lines that statements take up."""
    return {number for node in nodes for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def _stop(body: list[ast.stmt], entry_point: str) -> int | None:
    """Line of the first statement after the entry point that ends the program."""
    defined = False
    for node in body:
        if defined and not isinstance(node, (*DEFINITIONS, *IMPORTS, *_ASSIGNMENTS)):
            return node.lineno
        defined = defined or _is_entry(node, entry_point)
    return None


def _is_entry(node: ast.stmt, entry_point: str) -> bool:
    if not entry_point:
        return isinstance(node, DEFINITIONS)
    return isinstance(node, (*DEFINITIONS, ast.Assign)) and entry_point in bound(node)


def _idle(body: list[ast.stmt], entry_point: str) -> list[ast.stmt]:
    """Words that happen to parse before the code, and assignments after the entry point that no function needs."""
    start = next((i for i, node in enumerate(body) if isinstance(node, (*DEFINITIONS, *IMPORTS))), 0)
    entry = next((i for i, node in enumerate(body) if _is_entry(node, entry_point)), len(body))
    needed = {entry_point}.union(*(wanted(node) for node in body if isinstance(node, DEFINITIONS)))
    words = [node for node in body[:start] if _is_word(node)]
    after = [node for node in body[entry + 1 :] if isinstance(node, _ASSIGNMENTS) and not changed(node) & needed]
    return words + after


def _is_word(node: ast.stmt) -> bool:
    """`Python`, `Solution`, `Answer: Python`: statements that can only be prose."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Name)


def _longest_parsing(text: str, entry_point: str) -> str:
    """The longest run of whole lines that parses and answers; the text itself where there is none."""
    if parses(text):
        return text
    for name in dict.fromkeys((entry_point, "")):
        found = (part for part in islice(_runs(text), _TRIES) if _answers(part, name) and parses(part))
        if (part := next(found, None)) is not None:
            return part
    return text


def _runs(text: str) -> Iterator[str]:
    """Runs of whole lines: from the start or a line that looks like code, the longest first."""
    for start in dict.fromkeys([0, *[found.start() for found in _CODE.finditer(text)][:_STARTS]]):
        code = text[start:]
        margins = [found.start() for found in re.finditer(r"^\S", code, re.MULTILINE)][-_MARGINS:]
        yield from (code[:end] for end in [len(code), *reversed(margins)])


def _answers(text: str, entry_point: str) -> bool:
    return defines(text, entry_point) if entry_point else _CODE.search(text) is not None
