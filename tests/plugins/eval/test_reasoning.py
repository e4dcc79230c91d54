"""Completions taken apart: reasoning, code, and which came first."""

from __future__ import annotations

import pytest
from hrmctl_eval.reasoning import Parts, parts_of
from hrmctl_sandbox.programs import program_of

from tests.plugins.eval.test_corpus import CASES

PLAN = "Input: numbers: list\nOutput: int\n1. for each number\n2.     if larger, keep it\n3. return it\n"
CODE = "def f(xs):\n    return max(xs)\n"


def _parts(completion: str, prefix: str = "", entry_point: str = "f") -> Parts:
    return parts_of(completion, program_of(completion, prefix, entry_point)[len(prefix) :])


FIRST = {
    "a plan and a block": f"{PLAN}\n```python\n{CODE}```\n",
    "a plan and bare code": f"{PLAN}\n{CODE}",
    "a plan under a heading": f"## Reasoning\n{PLAN}\n## Code\n```python\n{CODE}```\n",
    "a plan in a block of its own": f"```\n{PLAN}```\n\n```python\n{CODE}```\n",
    "a thought": f"<think>\nThe greatest wins.\n</think>\n{CODE}",
    "a thought with a draft in it": f"<think>\n```python\ndef f(xs): ...\n```\nNo.\n</think>\n```python\n{CODE}```\n",
    "steps as a list": f"- sort them\n- take the last\n\n```python\n{CODE}```\n",
    "bold words": f"**Input:** xs\n**Output:** a number\n\n```python\n{CODE}```\n",
    "Windows line ends": f"{PLAN}\n{CODE}".replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", FIRST)
def test_reasoning_before_the_code(name: str) -> None:
    parts = _parts(FIRST[name])
    assert parts.first
    assert parts.code.strip() == CODE.strip()
    assert parts.reasoning
    assert "def f(xs):\n    return" not in parts.reasoning


NOT_FIRST = {
    "code alone": CODE,
    "a block alone": f"```python\n{CODE}```\n",
    "code, then a plan": f"{CODE}\n{PLAN}",
    "a block, then a plan": f"```python\n{CODE}```\n\nReasoning:\n{PLAN}",
    "a polite word": f"Here is the solution:\n\n```python\n{CODE}```\n",
    "a plan alone": PLAN,
    "an empty thought": f"<think>\n\n</think>\n\n{CODE}",
    "a thought without end": f"<think>\n{PLAN}",
    "nothing": "",
}


@pytest.mark.parametrize("name", NOT_FIRST)
def test_no_reasoning_before_the_code(name: str) -> None:
    assert not _parts(NOT_FIRST[name]).first


def test_a_body_that_continues_a_prefix() -> None:
    prefix = "def f(xs):\n"
    assert not _parts("    return max(xs)\n", prefix).first
    parts = _parts("<think>\nthe greatest\n</think>\n    return max(xs)\n", prefix)
    assert (parts.first, parts.reasoning) == (True, "the greatest")
    assert _parts(f"{PLAN}\n{CODE}", prefix).first


def test_the_corpus_of_reasoning_models() -> None:
    found = {
        case.name.partition(": ")[2]: parts_of(
            case.completion, program_of(case.completion, case.prefix, case.entry_point)[len(case.prefix) :]
        ).first
        for case in CASES
        if case.name.startswith("reasoning_models")
    }
    without = {
        "an empty thought (Qwen3 without thinking)",
        "a thought that never ends holds no answer",
        "a plan that names the function in a sentence",
        "a plan as comments inside the body",
        "code first and the reasons behind it",
        "reasoning alone",
    }
    assert {name for name, first in found.items() if not first} == without
