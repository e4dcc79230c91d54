"""Completions as models of many families write them, each with the program that a person would take from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hrmctl_sandbox.programs import is_complete, program_of
from hrmctl_sandbox.programs.source import closed, opens_body
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Case:
    """`program` is what follows the prefix; blank lines at its two ends do not count."""

    name: str
    prefix: str
    entry_point: str
    completion: str
    program: str


def _cases(path: Path) -> Iterator[Case]:
    prefixes = {"-": ""}
    for section in path.read_text(encoding="utf-8").split("@@@@ ")[1:]:
        head, _, rest = section.partition("\n")
        kind, _, name = head.partition(" ")
        if kind == "prefix":
            prefixes[name] = rest
            continue
        words, _, rest = rest.partition("\n")
        prefix, entry_point, *layout = words.split()
        completion, _, program = rest.removeprefix("@@ completion\n").partition("@@ program\n")
        if layout == ["crlf"]:
            completion = completion.replace("\n", "\r\n")
        yield Case(f"{path.stem}: {name}", prefixes[prefix], entry_point, completion, program)


CASES = [case for path in sorted(FOLDER.glob("*.txt")) for case in _cases(path)]


def test_the_corpus_is_read_whole() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_program_is_what_a_person_would_take(case: Case) -> None:
    program = program_of(case.completion, case.prefix, case.entry_point)
    assert program.startswith(case.prefix)
    assert program[len(case.prefix) :].strip("\n") == case.program.strip("\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_generation_does_not_end_before_the_program_is_whole(case: Case) -> None:
    lines = case.completion.splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        part = "".join(lines[:count])
        if is_complete(part, case.prefix, case.entry_point):
            program = program_of(part, case.prefix, case.entry_point)[len(case.prefix) :]
            assert program.strip("\n") == case.program.strip("\n")
            break


PIECES = st.sampled_from(
    [*(case.completion for case in CASES), "```", "```python\n", "\n", "    ", "</think>", "[DONE]\n"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=4).map("".join),
    st.sampled_from([(case.prefix, case.entry_point) for case in CASES]),
    st.booleans(),
)
def test_text_is_only_ever_left_out(completion: str, problem: tuple[str, str], script: bool) -> None:
    """Whatever a model writes, what follows the prefix is found in its text, in its order."""
    prefix, entry_point = problem
    program = program_of(completion, prefix, entry_point, script=script)
    assert program.startswith(prefix)
    kept = program[len(prefix) :]
    if opens_body(prefix) and kept.startswith(closed(prefix)[len(prefix) :]):
        kept = kept[len(closed(prefix)) - len(prefix) :]
    written = iter(character for character in completion if not character.isspace())
    assert all(character in written for character in kept if not character.isspace())


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 40), st.booleans())
def test_what_ends_a_completion_is_left_out_of_a_longer_one(case: Case, count: int, continues: bool) -> None:
    part = "".join(case.completion.splitlines(keepends=True)[:count])
    if not is_complete(part, case.prefix, case.entry_point, continues=continues):
        return
    longer = f"{part}\nA last word.\n\nprint(1)\n"
    taken = [program_of(text, case.prefix, case.entry_point).rstrip() for text in (part, longer)]
    assert taken[0] == taken[1]
