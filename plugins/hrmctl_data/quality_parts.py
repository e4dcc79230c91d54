"""What of a training document is its prompt and what its answer, and whether the answer is code or text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hrmctl_data.documents import BadDocument, Document

Kind = Literal["code", "text"]
_ANSWERS = ("completion", "response", "output", "answer", "chosen", "canonical_solution", "solution", "code")
_PROMPTS = ("instruction", "prompt", "question", "input")
_WHOLE = ("text", "content")
_CODE_FIELDS = ("prefix", "entry_point", "tests", "test_list", "canonical_solution", "code")
_FENCE = re.compile(r"^```[\w+-]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(
    r"^[ \t]*(?:async )?def \w+[ \t]*\(|^class \w+[ \t]*[(:]|^import [\w., ]+$|^from [\w.]+ import |^```py",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """One document as the rubric sees it.

    `programs` are the readings of the answer as a program, the likeliest first; `given` is code that it may rely
    on; `tests` are those of its row.
    """

    kind: Kind
    prompt: str
    answer: str
    programs: Sequence[str] = ()
    given: str = ""
    tests: Sequence[str] = ()


def parts_of(document: Document, kind: Literal["auto", "code", "text"]) -> Parts:
    """Raises BadDocument where the row has no field that could be a text or an answer."""
    row = document.row
    if row is None:
        return _parts("", document.text, {}, kind)
    if isinstance(row.get("messages"), list):
        return _parts(*_conversation(row["messages"]), row, kind)
    answer = next((name for name in _ANSWERS if name in row), "")
    if not answer:
        whole = next((name for name in _WHOLE if name in row), "")
        if not whole:
            names = ", ".join((*_WHOLE, *_ANSWERS, "messages"))
            raise BadDocument(f"has none of the fields {names}")
        return _parts("", _text(row[whole], whole), row, kind)
    prompts = [name for name in _PROMPTS if name in row] or [name for name in _WHOLE if name in row]
    return _parts("\n".join(_text(row[n], n) for n in prompts), _text(row[answer], answer), row, kind)


def _conversation(messages: Sequence[Any]) -> tuple[str, str]:
    turns = []
    for turn in messages:
        text = turn.get("content", turn.get("value")) if isinstance(turn, Mapping) else None
        if not isinstance(text, str):
            raise BadDocument("a message has no text in 'content'")
        turns.append((str(turn.get("role", turn.get("from", ""))), text))
    if not turns or turns[-1][0] not in ("assistant", "gpt", "model"):
        raise BadDocument("the last message is not the assistant's, so there is nothing to learn")
    return "\n".join(text for _, text in turns[:-1]), turns[-1][1]


def _text(value: Any, name: str) -> str:
    if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
        return _conversation(value)[1]
    if not isinstance(value, str):
        raise BadDocument(f"field '{name}' is not text")
    return value


def _parts(prompt: str, answer: str, row: Mapping[str, Any], kind: Literal["auto", "code", "text"]) -> Parts:
    if kind == "auto":
        is_code = any(name in row for name in _CODE_FIELDS) or _PYTHON.search(f"{prompt}\n{answer}")
        kind = "code" if is_code else "text"
    if kind == "text":
        return Parts(kind, prompt, answer)
    fenced = "\n".join(_FENCE.findall(answer))
    before = row.get("prefix") or (prompt if "canonical_solution" in row else "")
    programs = [before + answer] if before and isinstance(before, str) else [fenced or answer, prompt + answer]
    tests = row.get("tests", row.get("test_list", ()))
    tests = [test for test in tests if isinstance(test, str)] if isinstance(tests, list) else []
    given = "\n".join(text for name in ("setup", "test_setup_code") if isinstance(text := row.get(name), str))
    return Parts(kind, prompt, answer, programs, given, tests)
