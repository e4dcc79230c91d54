"""Microcode: the split is clean, references pass, near misses fail, the same seed gives the same rows."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hrmctl_data.inputs import MOST_TESTS, cover, near_misses
from hrmctl_data.microcode import Splitter, passes_own_tests, problems
from hrmctl_data.operations import BY_NAME, BY_SOURCE, OPERATIONS, ORDERS, VARIABLES
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hrmctl import StageError

VARIABLE_OF = {name: VARIABLES[operation.target] for name, operation in BY_NAME.items()}


def signature(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row["meta"]["signature"].split())


def contains(whole: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole)))


def passes(row: dict[str, Any], body: str) -> bool:
    try:
        exec(row["prefix"] + body + "\n".join(row["tests"]), {})
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def sample() -> list[dict[str, Any]]:
    return [*problems("train", 500, 11), *problems("test", 150, 11)]


def test_operations_are_many_and_cover_all_types() -> None:
    assert len(OPERATIONS) >= 40
    assert len(BY_NAME) == len(OPERATIONS)
    assert all(len(BY_SOURCE[kind]) >= 5 for kind in VARIABLES)
    assert all(len(operation.phrases) >= 3 for operation in OPERATIONS)


def test_a_request_has_one_reading() -> None:
    phrases = [(o.source, p.format(k=k)) for o in OPERATIONS for p in o.phrases for k in o.constants or (None,)]
    assert len(set(phrases)) == len(phrases)
    words = re.compile(r", |\bthen\b|after you|\bbut first\b|^first ")
    assert not [phrase for _, phrase in phrases if words.search(phrase)]
    assert all(sorted(re.findall(r"\d", order)) == [str(i) for i in range(n)] for n, x in ORDERS.items() for order in x)


def test_constants_and_phrases_vary(sample: list[dict[str, Any]]) -> None:
    adds = {row["text"] for row in problems("train", 4000, 3) if signature(row) == ("int.add",)}
    assert len(adds) > 6
    assert len({row["completion"] for row in sample}) > 500


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**40), train=st.integers(64, 400), test=st.integers(1, 60), validation=st.integers(1, 40))
def test_no_held_out_composition_occurs_in_training(seed: int, train: int, test: int, validation: int) -> None:
    taught = [signature(row) for row in problems("train", train, seed)]
    tested = [signature(row) for row in problems("test", test, seed)]
    validated = [signature(row) for row in problems("validation", validation, seed)]
    assert (len(taught), len(tested), len(validated)) == (train, test, validation)
    assert {name for names in taught for name in names} == set(BY_NAME)
    assert not [held for held in {*tested, *validated} for names in taught if contains(names, held)]
    assert not set(tested) & set(validated)
    known = {pair for names in taught for pair in pairwise(names)}
    assert all(set(pairwise(held)) - known for held in (*tested, *validated))


def test_every_operation_is_taught_alone() -> None:
    alone = [signature(row) for row in problems("train", 64, 5)][: len(OPERATIONS)]
    assert alone == [(operation.name,) for operation in OPERATIONS]


def test_the_splits_share_no_prompt() -> None:
    prompts = [row["prompt"] for split in ("train", "test", "validation") for row in problems(split, 300, 2)]
    assert len(set(prompts)) == len(prompts)


def test_held_out_shares() -> None:
    splits = list(Splitter.from_seed(1).of_pair.values())
    assert splits.count("test") == round(0.10 * len(splits))
    assert splits.count("validation") == round(0.04 * len(splits))


def test_every_reference_passes(sample: list[dict[str, Any]]) -> None:
    assert [row["task_id"] for row in sample if not passes(row, row["completion"])] == []
    assert all(map(passes_own_tests, sample))


def test_a_wrong_reference_is_seen(sample: list[dict[str, Any]]) -> None:
    assert not passes_own_tests({**sample[0], "completion": "    return None\n"})
    assert not passes_own_tests({**sample[0], "completion": "    return (\n"})


def test_constant_answers_pass_nowhere(sample: list[dict[str, Any]]) -> None:
    for row in sample:
        assert len(row["tests"]) >= 3
        answers = [test.partition(" == ")[2] for test in row["tests"]]
        assert not [answer for answer in answers if passes(row, f"    return {answer}\n")], row


def without_operation(row: dict[str, Any], index: int) -> str:
    """The body without one line, where the type of the value allows what is left."""
    lines = row["completion"].splitlines()
    if index < len(lines) - 1:
        return "\n".join(lines[:index] + lines[index + 1 :]) + "\n"
    names = signature(row)
    last = VARIABLE_OF[names[-2]] if len(names) > 1 else VARIABLES[BY_NAME[names[0]].source]
    return "\n".join([*lines[:-1], f"    return {last}"]) + "\n"


def test_dropping_any_operation_fails(sample: list[dict[str, Any]]) -> None:
    for row in sample:
        for index in range(len(signature(row))):
            assert not passes(row, without_operation(row, index)), (row, index)


def test_identity_passes_nowhere(sample: list[dict[str, Any]]) -> None:
    for row in sample:
        assert not passes(row, f"    return {VARIABLES[BY_NAME[signature(row)[0]].source]}\n"), row


def test_near_misses_lack_swap_and_shift() -> None:
    add, negate = (BY_NAME["int.add"], 5), (BY_NAME["int.negate"], None)
    must, should = near_misses([add, negate])
    assert [list(steps) for steps in must] == [[], [add], [negate]]
    shifted = [[(BY_NAME["int.add"], k), negate] for k in (4, 6)]
    assert [list(steps) for steps in should] == [[negate, add], *shifted]


@given(
    results=st.lists(st.integers(0, 2), min_size=3, max_size=10),
    kills=st.lists(st.sets(st.integers(0, 9), max_size=3), max_size=8),
)
@example(results=[0, 0, 0, 1], kills=[{0}, {1}, {2}])
def test_chosen_inputs_differ_and_refute_what_they_can(results: list[int], kills: list[set[int]]) -> None:
    kills = [{i for i in kill if i < len(results)} for kill in kills]
    chosen = cover(kills, list(enumerate(results)))
    if len(set(results)) == 1:
        assert not chosen
        return
    assert len({results[i] for i in chosen}) > 1
    assert 3 <= len(chosen) <= MOST_TESTS
    assert len(chosen) == MOST_TESTS or all(kill & chosen.keys() for kill in kills if kill)


def test_examples_are_short(sample: list[dict[str, Any]]) -> None:
    lengths = [len(row["prompt"] + row["completion"]) for row in sample]
    assert max(lengths) <= 240
    assert sum(lengths) / len(lengths) <= 130


def test_rows_have_the_format(sample: list[dict[str, Any]]) -> None:
    for row in sample:
        header, _, rest = row["prompt"].partition("\n")
        assert header == f"# {row['text']}"
        assert rest == row["prefix"] == f"def f({VARIABLES[BY_NAME[signature(row)[0]].source]}):\n"
        assert row["completion"].count("\n") == row["meta"]["operations"] == len(signature(row))
        assert (row["entry_point"], row["source"], row["setup"]) == ("f", "microcode", "")
    assert len({row["task_id"] for row in sample}) == len(sample)


def test_a_split_does_not_depend_on_sizes() -> None:
    assert list(problems("test", 20, 9)) == list(problems("test", 40, 9))[:20]
    assert list(problems("train", 70, 9)) == list(problems("train", 140, 9))[:70]


def test_seeds_differ() -> None:
    alone = len(OPERATIONS)
    assert list(problems("train", alone, 1)) != list(problems("train", alone, 2))
    assert Splitter.from_seed(1) != Splitter.from_seed(2)


def test_the_same_seed_gives_the_same_rows_in_any_process() -> None:
    code = (
        "import json, sys\nfrom hrmctl_data.microcode import problems\n"
        "print(json.dumps([*problems('train', 90, 7), *problems('test', 30, 7)]))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    here = json.dumps([*problems("train", 90, 7), *problems("test", 30, 7)]).encode() + b"\n"
    assert {hashlib.sha256(out).hexdigest() for out in outputs} == {hashlib.sha256(here).hexdigest()}


def test_asking_for_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrmctl_data.microcode._draw_signature", lambda rng, split: (BY_NAME["int.negate"],))
    monkeypatch.setattr("hrmctl_data.microcode._TRIES", 50)
    with pytest.raises(StageError, match="ask for at most 59"):
        list(problems("train", 80, 0))
