"""A completion taken apart: the reasoning, the code, and which came first."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hrmctl_sandbox.programs import fences, reasoned
from hrmctl_sandbox.programs.source import DEFINITIONS, IMPORTS, statements

_WORD = re.compile(r"[^\W\d_]{2}")
_STEP = re.compile(r"^[ \t>#*_-]*(?:\d+[.)]|step[ \t]*\d|input\b.*:|output\b.*:|[-*+•][ \t])", re.I | re.M)
_CODE = re.compile(
    r"^(?:async[ \t]+def|def|class)[ \t]+\w+[^\n]*:|^import[ \t]+[\w., ]+$|^from[ \t]+[\w.]+[ \t]+import\b|^@\w", re.M
)


@dataclass(frozen=True, slots=True)
class Parts:
    """`reasoning` is what stands before the first code; `first` says that it is steps, and that code follows."""

    reasoning: str
    code: str
    first: bool


def parts_of(completion: str, code: str) -> Parts:
    """The parts of a completion of which `code` goes into the program.

    Reasoning counts where it is thought (`<think>`), or holds a step: a numbered or listed line, or a line that names
    input or output. `Here is the solution:` is none. What stands behind the code is no part of it.
    """
    text = completion.replace("\r\n", "\n").replace("\r", "\n")
    thought, rest = reasoned(text)
    start = _first_code(rest, code)
    before = rest[: len(rest) if start is None else start]
    reasons = bool(_WORD.search(thought)) or bool(_STEP.search(before) and _WORD.search(before))
    reasoning = "\n\n".join(part.strip() for part in (thought, before) if part.strip())
    return Parts(reasoning, code, reasons and start is not None)


def _first_code(text: str, code: str) -> int | None:
    """Where code begins: a block of Python, a definition or import at the margin, else the first line that is kept."""
    starts = [block.start for block in fences.blocks(text) if _is_python(block)]
    bare = _CODE.search(text)
    starts += [bare.start()] if bare else []
    if starts:
        opening = text.rfind("\n", 0, min(starts) - 1) + 1
        return opening if fences.fenced(text[opening : min(starts)]) else min(starts)
    kept = next((line for line in code.splitlines() if line.strip()), "")
    at = text.find(kept) if kept and list(statements("if 1:\n" + code if kept[:1].isspace() else code)) else -1
    return at if at >= 0 else None


def _is_python(block: fences.Block) -> bool:
    return block.language in fences.NAMED or any(
        isinstance(node, (*DEFINITIONS, *IMPORTS)) for node in statements(block.code)
    )
