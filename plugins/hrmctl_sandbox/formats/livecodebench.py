"""LiveCodeBench (Jain et al. 2024, arXiv:2403.07974): programs for standard input, and methods of a `Solution`.

Its rows hold the hidden cases as base64 of zlib of a pickled text. Nothing is unpickled: the stream is read as the one
text that it must be.
"""

from __future__ import annotations

import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Mapping
from typing import Any

from .literals import NotData, literal
from .task import BadRow, CodeTask, cases_of, checked_task, text_of

# The names that LiveCodeBench's own harness gives to every program (lcb_runner/evaluation/testing_util.py).
_OPEN = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
PRELUDE = "".join(f"from {name} import *\n" for name in (*_OPEN.split(), "builtins", "typing"))
PRELUDE += "".join(f"import {name}\n" for name in _OPEN.split()) + "sys.setrecursionlimit(50000)\n\n"
_MOST_BYTES = 1 << 30
_CLASS = "Solution"
_TEXT_OPCODES = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
_OTHER_OPCODES = ("PROTO", "FRAME", "MEMOIZE", "BINPUT", "PUT", "STOP")


def livecodebench_task(entry: Mapping[str, Any]) -> CodeTask:
    """The task of a row of LiveCodeBench's code generation set. It has no reference. Raises BadRow."""
    cases = [*_cases(entry, "public_test_cases"), *_cases(entry, "private_test_cases")]
    if not cases:
        raise BadRow("has neither public nor private test cases")
    # Texts, for a list or an object has no place in a set.
    kinds = {json.dumps(case.get("testtype")) for case in cases}
    content, starter = text_of(entry, "question_content"), entry.get("starter_code") or ""
    if not isinstance(starter, str):
        raise BadRow("field 'starter_code' is not text")
    common: dict[str, Any] = {
        "task_id": text_of(entry, "question_id"),
        "text": content,
        "prompt": _prompt(content, starter),
        "prefix": PRELUDE,
        "source": "livecodebench",
        "meta": _meta(entry),
    }
    if kinds == {'"stdin"'}:
        return checked_task(CodeTask(cases=cases_of(cases, "input", "output"), **common))
    if kinds != {'"functional"'}:
        raise BadRow(f'testtype is {", ".join(sorted(kinds))}; every case is "stdin" or every one "functional"')
    name = _function(entry)
    test = "\n".join(["solution = Solution()", *(_assertion(name, case) for case in cases), ""])
    return checked_task(CodeTask(entry_point=_CLASS, setup=_COMPARE, tests=(test,), **common))


def _prompt(content: str, starter: str) -> str:
    """The question as a docstring, and what of the program is given."""
    quoted = content.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\n{quoted}\n"""\n{starter}'


def _meta(entry: Mapping[str, Any]) -> dict[str, str]:
    names = ("question_title", "platform", "difficulty", "contest_date")
    return {name: str(entry[name]) for name in names if entry.get(name)}


def _function(entry: Mapping[str, Any]) -> str:
    found = _json(entry.get("metadata") or "{}", "metadata")
    name = found.get("func_name") if isinstance(found, Mapping) else None
    if not isinstance(name, str) or not name.isidentifier():
        raise BadRow("field 'metadata' names no function (func_name)")
    return name


# A tuple counts as a list: expected values come from JSON, which has no tuples.
_COMPARE = "def as_list(value):\n    return list(value) if isinstance(value, tuple) else value\n"


def _assertion(name: str, case: Mapping[str, Any]) -> str:
    arguments = [_json(line, "input of a case") for line in text_of(case, "input").split("\n")]
    expected = _json(text_of(case, "output"), "output of a case")
    try:
        given = ", ".join(literal(argument) for argument in arguments)
        return f"assert as_list(solution.{name}({given})) == {literal(expected)}"
    except NotData as error:
        raise BadRow(f"a case cannot be written down: {error}") from None


def _json(text: Any, what: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{what} is not JSON: {error}") from None


def _cases(entry: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = entry.get(name) or []
    if isinstance(value, str):
        value = _json(value if value.lstrip().startswith("[") else unpacked(value), f"field '{name}'")
    if not isinstance(value, list) or not all(isinstance(case, Mapping) for case in value):
        raise BadRow(f"field '{name}' is not a list of cases")
    return value


def unpacked(text: str) -> str:
    """The text in base64 of zlib of a pickle that holds one text and nothing else. Raises BadRow for any other."""
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(base64.b64decode(text.encode(), validate=True), _MOST_BYTES)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise BadRow(f"packed test cases cannot be read: {error}") from None
    if stream.unconsumed_tail or not stream.eof:
        raise BadRow("packed test cases are cut short, or over 1 GiB")
    return _only_text(raw)


def _only_text(raw: bytes) -> str:
    """The text of a pickle, found by listing its opcodes, of which none is carried out."""
    try:
        opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(raw)]
    except ValueError as error:
        raise BadRow(f"packed test cases are no pickle: {error}") from None
    texts = [str(argument) for name, argument in opcodes if name in _TEXT_OPCODES]
    others = [name for name, _ in opcodes if name not in (*_TEXT_OPCODES, *_OTHER_OPCODES)]
    if others or len(texts) != 1:
        what = others[0] if others else f"{len(texts)} texts"
        raise BadRow(f"packed test cases are a pickle of more than one text ({what}), which is not unpickled")
    return texts[0]
