"""Six verdicts and the reason of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import Evidence, MeasureSpec, Verdict
from hrmctl.contract import Contract, judge
from hrmctl.contract.evaluate import BrokenClause, holds, say
from hrmctl.contract.examples import expand
from hrmctl.contract.parse import parse_contract
from hrmctl.contract.spec import COMPARISONS, Clause
from hrmctl.yamlio import parse

ANY = "  - {expect: PASS, data: {v: {value: 1}}}\n  - {expect: FAIL, because: a, data: {v: {value: 9}}}"


def given_value(value: Any, **more: Any) -> dict[str, Evidence]:
    return {"v": Evidence("speed", "measurement/v1", {"unit": "", "n": 1, "value": value, **more})}


@pytest.fixture
def judged(
    read: Callable[[str], Contract], about_value: Callable[..., str], measures: dict[str, MeasureSpec]
) -> Callable[..., tuple[str, str, str]]:
    """Verdict, cause and reason of a value under some checks."""

    def run(require: str, value: Any, fn: str = "value", **more: Any) -> tuple[str, str, str]:
        contract = read(about_value(require, ANY, fn=fn))
        outcome = judge(contract, given_value(value, **more), measures)
        return outcome.verdict, outcome.because, outcome.reason

    return run


@pytest.mark.parametrize(
    ("op", "right", "good", "bad", "said"),
    [
        ("eq", "3", 3.0, 4, "m.value 4 is not = 3"),
        ("ne", "3", 4, 3.0, "m.value 3 is not ≠ 3"),
        ("lt", "3", 2.5, 3, "m.value 3 is not < 3"),
        ("le", "3", 3, 3.5, "m.value 3.5 is not ≤ 3"),
        ("gt", "3", 4, 3, "m.value 3 is not > 3"),
        ("ge", "0.2", 0.2, 0.198, "m.value 0.198 is not ≥ 0.2"),
        ("between", "[1, 3]", 3, 4, "m.value 4 is not between 1 and 3"),
        ("in", "[1, 3]", 3, 2, "m.value 2 is not in 1, 3"),
        ("ge", "m.n", 1, 0.5, "m.value 0.5 is not ≥ m.n 1"),
    ],
)
def test_operators(judged: Any, op: str, right: str, good: float, bad: float, said: str) -> None:
    require = f"  - {{id: a, left: m.value, op: {op}, right: {right}}}"
    assert judged(require, good)[0] == "PASS"
    assert judged(require, bad) == ("FAIL", "a", said)


def test_text_and_truth(judged: Any) -> None:
    require = "  - {id: a, left: m.unit, op: eq, right: bytes}\n  - {id: b, left: m.unit, op: in, right: [bytes, s]}"
    assert judged(require, 1, unit="bytes")[0] == "PASS"
    assert judged(require, 1, unit="s") == ("FAIL", "a", "m.unit s is not = bytes")
    assert judged(require, 1, unit="m")[2] == "m.unit m is not = bytes"
    assert judged("  - {id: a, left: m.value, op: eq, right: true}", 6, fn="odd")[0] == "PASS"
    assert judged("  - {id: a, left: m.value, op: ne, right: true}", 6, fn="odd")[0] == "FAIL"


@pytest.mark.parametrize(
    ("require", "value", "said"),
    [
        ("{id: a, all: [{left: m.value, op: ge, right: 1}, {left: m.value, op: le, right: 2}]}", 3, "3 is not ≤ 2"),
        ("{id: a, any: [{left: m.value, op: lt, right: 1}, {left: m.value, op: gt, right: 2}]}", 1.5,
         "m.value 1.5 is not < 1 and m.value 1.5 is not > 2"),
        ("{id: a, not: {left: m.value, op: ge, right: 1}}", 2, "m.value 2 is ≥ 1"),
        ("{id: a, not: {not: {left: m.value, op: ge, right: 3}}}", 2, "m.value 2 is not ≥ 3"),
    ],
)  # fmt: skip
def test_combinators(judged: Any, require: str, value: float, said: str) -> None:
    verdict, because, reason = judged(f"  - {require}", value)
    assert (verdict, because) == ("FAIL", "a")
    assert said in reason


def test_the_worst_clause_decides_and_among_equals_the_first(judged: Any) -> None:
    rows = [
        "  - {id: x, left: m.value, op: lt, right: 5, else: INCONCLUSIVE}",
        "  - {id: b, left: m.value, op: lt, right: 4}",
        "  - {id: a, left: m.value, op: lt, right: 3}",
        "  - {id: c, left: m.value, op: lt, right: 2, else: INVALID}",
    ]
    assert judged("\n".join(rows), 1)[:2] == ("PASS", "")
    assert judged("\n".join(rows), 2)[:2] == ("INVALID", "c")
    assert judged("\n".join(rows[:3]), 9)[:2] == ("FAIL", "b")
    assert judged("\n".join(rows[2::-1]), 9)[:2] == ("FAIL", "a")
    assert judged("\n".join([rows[0], rows[2]]), 5)[:2] == ("FAIL", "a")


def test_near_equal_numbers_are_told_apart(judged: Any) -> None:
    reason = judged("  - {id: a, left: m.value, op: ge, right: 0.2}", 0.19999999999)[2]
    assert reason == "m.value 0.19999999999 is not ≥ 0.2"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1, "m cannot be measured: value is nan"),
        (2, "m cannot be measured: value is a list, not a number, text or true/false"),
        (3, "m broke (TypeError: 'NoneType' object is not iterable)"),
        (13, "m broke (ZeroDivisionError: thirteen)"),
    ],
)
def test_a_broken_measure_is_invalid(judged: Any, value: float, said: str) -> None:
    assert judged("  - {id: a, left: m.value, op: ge, right: 0}", value, fn="odd") == ("INVALID", "m", said)


def test_a_value_that_cannot_be_compared_is_invalid(judged: Any) -> None:
    require = "  - {id: a, left: m.value, op: ge, right: 0}"
    assert judged(require, 4, fn="odd") == ("INVALID", "a", "m.value was not measured")
    assert judged(require, 5, fn="odd")[:2] == ("INVALID", "a")
    assert judged(require, 6, fn="odd") == (
        "INVALID", "a", "m.value is true/false (True): 'ge' cannot compare it with [0]",
    )  # fmt: skip
    assert judged("  - {id: a, left: m.value, op: eq, right: 1}", 6, fn="odd")[0] == "INVALID"
    assert judged("  - {id: a, left: m.value, op: in, right: [1, 2]}", 6, fn="odd")[0] == "INVALID"
    assert judged("  - {id: a, left: m.value, op: ne, right: 1}", 5, fn="odd")[0] == "INVALID"


def test_broken_parts_do_not_hide_behind_others(judged: Any) -> None:
    require = "  - {id: a, any: [{left: m.n, op: eq, right: 1}, {left: m.unit, op: gt, right: 1}]}"
    assert judged(require, 1)[:2] == ("INVALID", "a")


def test_what_stands_against_pass(
    read: Callable[[str], Contract], example: str, measures: dict[str, MeasureSpec]
) -> None:
    contract = read(example)

    def of(payload: Any, kind: Any = "samples/v1") -> tuple[str, str]:
        outcome = judge(contract, {"e": Evidence("samples", kind, payload)}, measures)
        return outcome.verdict, outcome.because

    outcome = judge(contract, {}, measures)
    assert outcome.verdict == Verdict.UNTESTED
    assert outcome.because == "e"
    assert outcome.reason == "no evidence e (samples/v1 of stage eval)"
    assert of(expand("samples/v1", {"passed": 100, "n": 500})) == ("PASS", "")
    assert of({}) == ("INVALID", "e")
    assert of(None) == ("INVALID", "e")
    assert of(expand("samples/v1", {"passed": 0, "n": 0})) == ("INVALID", "e")
    assert of(expand("measurement/v1", {"value": 1}), "measurement/v1") == ("INVALID", "e")
    assert of({**expand("samples/v1", {"passed": 100, "n": 500}), "mode": "TBD"}) == ("INVALID", "e")


TWO = """\
kind: contract
id: R
title: the ratio is right
subjects: {it: {model: a, baseline: b}}
evidence:
  v: {type: measurement/v1, stage: bench, name: speed}
  w: {type: measurement/v1, stage: bench, name: speed, bind: {model: baseline}}
measure: {r: {fn: ratio, of: [v, w]}, m: {fn: value, of: [w]}}
require:
  - {id: fast, left: r.value, op: ge, right: 2}
  - {id: enough, left: m.n, op: ge, right: 3}
controls:
  - {expect: FAIL, because: fast, data: {v: {value: 1}, w: {value: 1, n: 3}}}
"""


def test_undecidable_is_inconclusive_unless_something_worse_is_measured(
    read: Callable[[str], Contract], measures: dict[str, MeasureSpec]
) -> None:
    contract = read(TWO)

    def of(v: Any, w: Any, n: int = 3) -> tuple[str, str]:
        data = {"v": {"value": v}, "w": {"value": w, "n": n}}
        evidence = {k: Evidence("speed", "measurement/v1", expand("measurement/v1", d)) for k, d in data.items()}
        outcome = judge(contract, evidence, measures)
        return outcome.verdict, outcome.because

    assert of(4, 2) == ("PASS", "")
    assert of(4, 0) == ("INCONCLUSIVE", "r")
    assert of(4, 0, n=2) == ("FAIL", "enough")
    assert of(float("nan"), 0) == ("INVALID", "v")
    assert of(1, float("nan")) == ("INVALID", "w")


def test_the_measured_values_come_with_the_verdict(
    read: Callable[[str], Contract], example: str, measures: dict[str, MeasureSpec]
) -> None:
    evidence = Evidence("samples", "samples/v1", expand("samples/v1", {"passed": 99, "n": 500}))
    outcome = judge(read(example), {"e": evidence}, measures)
    assert outcome.measured == {"p": {"value": 0.198, "n": 500}}
    assert outcome.reason == "p.value 0.198 is not ≥ 0.2"


numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
PYTHON = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip


@given(st.sampled_from(sorted(PYTHON)), numbers, numbers)
def test_comparisons_are_those_of_arithmetic(op: str, left: Any, right: Any) -> None:
    assert holds(Clause(op, left="m.x", right=right), lambda path: left) == PYTHON[op](left, right)


@given(numbers, numbers, numbers)
def test_between_includes_its_bounds(left: Any, low: Any, high: Any) -> None:
    assert holds(Clause("between", left="m.x", right=(low, high)), lambda path: left) == (low <= left <= high)


values = st.one_of(st.booleans(), numbers, st.text(max_size=3))
leaves = st.builds(
    lambda op, right: Clause(op, left="m.x", right=(right, right) if op in ("in", "between") else right),
    st.sampled_from(COMPARISONS),
    values,
)
clauses = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda parts: Clause("all", parts=tuple(parts)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: Clause("any", parts=tuple(parts)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: Clause("not", parts=(part,)), inner),
    ),
    max_leaves=6,
)


@given(clauses, values)
def test_every_clause_either_evaluates_and_can_be_said_or_is_broken(clause: Clause, value: Any) -> None:
    def lookup(path: str) -> Any:
        return value

    try:
        held = holds(clause, lookup)
    except BrokenClause:
        return
    assert held != holds(Clause("not", parts=(clause,)), lookup)
    assert "m.x" in say(clause, lookup)


@given(passed=st.integers(0, 30), extra=st.integers(0, 30), threshold=st.floats(0, 1))
def test_a_verdict_is_the_arithmetic_of_its_evidence(
    example: str, measures: dict[str, MeasureSpec], passed: int, extra: int, threshold: float
) -> None:
    text = example.replace("right: 500", "right: 30").replace("right: 0.20", f"right: {threshold!r}")
    contract = parse_contract(parse(text), measures)
    n = passed + extra
    payload = expand("samples/v1", {"passed": passed, "n": n})
    outcome = judge(contract, {"e": Evidence("samples", "samples/v1", payload)}, measures)
    wanted = "INVALID" if n != 30 else "PASS" if passed / n >= threshold else "FAIL"
    assert outcome.verdict == wanted
