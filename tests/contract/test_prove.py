"""A contract is proven when every control behaves and every way to break a clause is noticed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import Evidence, InputError, Judgement, MeasureSpec, Verdict
from hrmctl.contract import Contract, parse_text
from hrmctl.contract.evaluate import decide, take
from hrmctl.contract.prove import Case, Proof, mutants, prove
from hrmctl.contract.spec import Clause
from hrmctl.ratchet import Accepted, compare

Read = Callable[[str], Contract]
About = Callable[..., str]


@pytest.fixture
def proof(read: Read, measures: dict[str, MeasureSpec]) -> Callable[[str], Proof]:
    """The proof of a contract's text."""
    return lambda text: prove(read(text), measures)


def survivors(proof: Proof) -> set[tuple[str, str]]:
    return {(s.clause, s.kind) for s in proof.survivors}


def test_the_contract_of_the_design_is_proven(proof: Callable[[str], Proof], example: str) -> None:
    result = proof(example)
    assert result.ok
    assert result.problems == ()
    # each clause: deleted, inverted, two other verdicts; eq: off its value, below, above; ge: both sides
    assert (result.killed, result.total) == (13, 13)
    assert [(c.expect, c.outcome.verdict) for c in result.controls] == [
        ("PASS", "PASS"), ("FAIL", "FAIL"), ("INVALID", "INVALID"), ("INVALID", "INVALID"),
    ]  # fmt: skip


TAMPERED = [
    ("left: p.n", "left: p.value"),
    ("op: eq", "op: ne"),
    ("op: eq", "op: ge"),
    ("op: eq", "op: le"),
    ("op: eq", "op: lt"),
    ("op: eq", "op: gt"),
    ("right: 500", "right: 499"),
    ("right: 500", "right: 501"),
    ("right: 500", "right: 0"),
    (", else: INVALID", ""),
    ("else: INVALID", "else: INCONCLUSIVE"),
    ("  - {id: whole, left: p.n, op: eq, right: 500, else: INVALID}\n", ""),
    ("left: p.value", "left: p.n"),
    ("op: ge", "op: gt"),
    ("op: ge", "op: le"),
    ("op: ge", "op: lt"),
    ("op: ge", "op: eq"),
    ("op: ge", "op: ne"),
    ("right: 0.20", "right: 0.198"),
    ("right: 0.20", "right: 0.19"),
    ("right: 0.20", "right: 0.2001"),
    ("right: 0.20", "right: 0.3"),
    ("right: 0.20", "right: 0"),
    ("right: 0.20}", "right: 0.20, else: INCONCLUSIVE}"),
    ("right: 0.20}", "right: 0.20, else: INVALID}"),
    ("  - {id: target, left: p.value, op: ge, right: 0.20}\n", ""),
    ("  - {expect: PASS, data: {e: {passed: 100, n: 500}}}\n", ""),
    ("  - {expect: FAIL, because: target, data: {e: {passed: 99, n: 500}}}\n", ""),
    ("expect: PASS, data", "expect: FAIL, because: target, data"),
    ("expect: FAIL, because: target", "expect: PASS"),
    ("because: target", "because: whole"),
    ("expect: INVALID", "expect: FAIL"),
    ("{passed: 100, n: 500}", "{passed: 99, n: 500}"),
    ("{passed: 99, n: 500}", "{passed: 100, n: 500}"),
    ("{passed: 99, n: 500}", "{passed: 99, n: 499}"),
    ("{passed: 100, n: 499}", "{passed: 100, n: 500}"),
    ("{passed: 110, n: 501}", "{passed: 110, n: 500}"),
    ("k: 1", "k: 2"),
]


@pytest.mark.parametrize(("old", "new"), TAMPERED)
def test_tampering_with_clauses_controls_and_thresholds_is_caught(
    proof: Callable[[str], Proof], example: str, old: str, new: str
) -> None:
    assert old in example
    try:
        result = proof(example.replace(old, new, 1))
    except InputError:
        return
    assert not result.ok
    assert result.problems
    assert all(problem.line > 10 and problem.column == 5 for problem in result.problems)


UNSEEN_BY_CONTROLS = [
    ("right: 0.20", "right: 0.199"),  # no control of 500 problems lies between
    ("  - {expect: INVALID, because: whole, data: {e: {passed: 100, n: 499}}}\n", ""),
    ("  - {expect: INVALID, because: whole, data: {e: {passed: 110, n: 501}}}\n", ""),
    ("title: HRM solves", "title: HRM may solve"),
    ("hrm-27m", "hrm-tiny-27m"),
]


@pytest.mark.parametrize(("old", "new"), UNSEEN_BY_CONTROLS + TAMPERED)
def test_the_ratchet_sees_every_change_of_a_contract(
    example: str, measures: dict[str, MeasureSpec], old: str, new: str
) -> None:
    assert old in example
    honest = parse_text(example, measures)
    accepted = {"HRM-P1/proxy": Accepted("PASS", "acceptance", honest.digest)}
    judgement = Judgement("HRM-P1", honest.digest, "t", "proxy", "acceptance", Verdict.PASS)
    assert compare(accepted, [judgement]) == []
    try:
        changed = parse_text(example.replace(old, new, 1), measures)
    except InputError:
        return
    assert compare(accepted, [replace(judgement, contract_digest=changed.digest)]) == [
        "HRM-P1/proxy: the contract changed since it was accepted; review and --accept"
    ]


def test_a_control_that_misbehaves_says_where_and_how(proof: Callable[[str], Proof], example: str) -> None:
    result = proof(example.replace("passed: 99", "passed: 101"))
    assert not result.ok
    first = result.problems[0]
    assert (first.line, first.column) == (16, 5)
    assert first.message == (
        "this control must give FAIL because of target and gives PASS (p.n 500 is = 500; p.value 0.202 is ≥ 0.2)"
    )


def test_the_cause_must_be_the_named_one(proof: Callable[[str], Proof], about_value: About) -> None:
    require = "  - {id: a, left: m.value, op: ge, right: 5}\n  - {id: b, left: m.value, op: ge, right: 3}"
    controls = "  - {expect: PASS, data: {v: {value: 5}}}\n  - {expect: FAIL, because: b, data: {v: {value: 2}}}"
    result = proof(about_value(require, controls))
    assert [c.ok for c in result.controls] == [True, False]
    assert "gives FAIL because of a" in result.problems[0].message


def test_a_clause_that_no_control_needs_survives(proof: Callable[[str], Proof], about_value: About) -> None:
    require = "  - {id: a, left: m.value, op: ge, right: 5}\n  - {id: b, left: m.value, op: ge, right: 3}"
    controls = "  - {expect: PASS, data: {v: {value: 5}}}\n  - {expect: FAIL, because: a, data: {v: {value: 2}}}"
    result = proof(about_value(require, controls))
    assert all(control.ok for control in result.controls)
    assert not result.ok
    assert survivors(result) == {
        ("b", "deleted"), ("b", "given else: INCONCLUSIVE"), ("b", "holding past a value that fails"),
    }  # fmt: skip
    assert all((p.line, p.column) == (9, 5) for p in result.problems)
    assert result.problems[0].remedy == "add a control that only this clause decides"


@pytest.mark.parametrize(
    ("clause", "good", "bad", "missing"),
    [
        ("op: ge, right: 3", [3], [2.9], set()),
        ("op: ge, right: 3", [], [2.9], {"failing past a value that holds"}),
        ("op: gt, right: 3", [3.1], [3], set()),
        ("op: le, right: 3", [3], [3.1], set()),
        ("op: lt, right: 3", [2.9], [3], set()),
        ("op: lt, right: 3", [], [3], {"failing past a value that holds"}),
        ("op: ge, right: m.n", [1], [0.9], {"given a fixed value for m.n"}),
        ("op: between, right: [2, 4]", [2, 4], [1.9, 4.1], set()),
        ("op: between, right: [2, 4]", [3], [1.9, 4.1], set()),
        ("op: between, right: [2, 4]", [3], [1.9], {"holding past a value that fails (upper bound)"}),
        ("op: between, right: [2, 4]", [3], [4.1], {"holding past a value that fails (lower bound)"}),
        ("op: between, right: [2, 4]", [], [1.9, 4.1],
         {"failing past a value that holds (lower bound)", "failing past a value that holds (upper bound)"}),
        ("op: eq, right: 3", [3], [2], set()),
        ("op: eq, right: 3", [3], [4], set()),
        ("op: eq, right: 3", [], [4], {"moved off its value"}),
        ("op: ne, right: 3", [2], [3], set()),
        ("op: ne, right: 3", [2, 4], [3], set()),
        ("op: ne, right: 3", [], [3], {"widened below its value"}),
        ("op: in, right: [2, 3]", [2, 3], [4], set()),
        ("op: in, right: [2, 3]", [2], [4], {"without its element 3"}),
    ],
)  # fmt: skip
def test_a_threshold_is_held_from_both_sides(
    proof: Callable[[str], Proof],
    about_value: About,
    clause: str,
    good: list[float],
    bad: list[float],
    missing: set[str],
) -> None:
    rows = [f"  - {{expect: PASS, data: {{v: {{value: {number}}}}}}}" for number in good]
    rows += [f"  - {{expect: FAIL, because: a, data: {{v: {{value: {number}}}}}}}" for number in bad]
    result = proof(about_value(f"  - {{id: a, left: m.value, {clause}}}", "\n".join(rows)))
    assert all(control.ok for control in result.controls)
    if good:
        assert {kind for _, kind in survivors(result)} == missing
    else:
        assert missing <= {kind for _, kind in survivors(result)}


def test_a_value_on_the_right_must_be_seen_to_change(proof: Callable[[str], Proof], about_value: About) -> None:
    require = "  - {id: a, left: m.value, op: ge, right: m.n}"
    still = "  - {expect: PASS, data: {v: {value: 1}}}\n  - {expect: FAIL, because: a, data: {v: {value: 0.9}}}"
    assert survivors(proof(about_value(require, still))) == {("a", "given a fixed value for m.n")}
    assert proof(about_value(require, still + "\n  - {expect: FAIL, because: a, data: {v: {value: 1.5, n: 2}}}")).ok


@pytest.mark.parametrize("right", ["bytes", "[bytes, kilobytes]"])
def test_texts_are_held_by_controls(proof: Callable[[str], Proof], about_value: About, right: str) -> None:
    op = "in" if right.startswith("[") else "eq"
    controls = """\
  - {expect: PASS, data: {v: {value: 1, unit: bytes}}}
  - {expect: PASS, data: {v: {value: 1, unit: kilobytes}}}
  - {expect: FAIL, because: a, data: {v: {value: 1, unit: s}}}"""
    if op == "eq":
        controls = controls.replace("  - {expect: PASS, data: {v: {value: 1, unit: kilobytes}}}\n", "")
    text = about_value(f"  - {{id: a, left: m.unit, op: {op}, right: {right}}}", controls)
    assert proof(text).ok
    without = text.replace("  - {expect: PASS, data: {v: {value: 1, unit: bytes}}}\n", "")
    kinds = {kind for _, kind in survivors(proof(without))}
    assert kinds >= ({"without its element 'bytes'"} if op == "in" else {"given another value"})


def test_parts_of_combinations_are_held_each(proof: Callable[[str], Proof], about_value: About) -> None:
    parts = "{id: low, left: m.value, op: lt, right: 2}, {id: high, left: m.value, op: gt, right: 8}"
    require = f"  - {{id: a, any: [{parts}]}}"
    whole = """\
  - {expect: PASS, data: {v: {value: 1.9}}}
  - {expect: PASS, data: {v: {value: 8.1}}}
  - {expect: FAIL, because: a, data: {v: {value: 2}}}
  - {expect: FAIL, because: a, data: {v: {value: 8}}}"""
    result = proof(about_value(require, whole))
    assert result.ok
    assert Counter(clause for clause, _ in survivors(result)) == {}
    one_sided = whole.replace("  - {expect: PASS, data: {v: {value: 8.1}}}\n", "")
    assert {("high", "deleted"), ("high", "failing past a value that holds")} <= survivors(
        proof(about_value(require, one_sided))
    )


def test_not_and_all_are_mutated_inside(proof: Callable[[str], Proof], about_value: About) -> None:
    require = "  - {id: a, not: {all: [{left: m.value, op: ge, right: 2}, {left: m.n, op: ge, right: 3}]}}"
    controls = """\
  - {expect: PASS, data: {v: {value: 1, n: 3}}}
  - {expect: PASS, data: {v: {value: 2, n: 2}}}
  - {expect: FAIL, because: a, data: {v: {value: 2, n: 3}}}"""
    assert proof(about_value(require, controls)).ok
    fewer = "\n".join(controls.splitlines()[1:])
    assert ("m.value ge", "deleted") in survivors(proof(about_value(require, fewer)))


def test_a_masked_control_does_not_count(proof: Callable[[str], Proof], about_value: About) -> None:
    require = "  - {id: n, left: m.n, op: ge, right: 5, else: INVALID}\n  - {id: a, left: m.value, op: ge, right: 3}"
    controls = """\
  - {expect: PASS, data: {v: {value: 3, n: 5}}}
  - {expect: INVALID, because: n, data: {v: {value: 2.99, n: 4}}}
  - {expect: FAIL, because: a, data: {v: {value: 2.9, n: 5}}}"""
    assert proof(about_value(require, controls)).ok
    masked = controls.replace("value: 2.9, n: 5", "value: 2.9, n: 4").replace("FAIL, because: a", "INVALID, because: n")
    with pytest.raises(InputError, match="no control with expect: FAIL"):
        proof(about_value(require, masked))


def test_profiles_are_proven_by_their_own_controls(proof: Callable[[str], Proof], example: str) -> None:
    profile = "profiles: {kpi: {target: 0.30}}\ncontrols:"
    own = """\
  - {expect: PASS, profile: kpi, data: {e: {passed: 150, n: 500}}}
  - {expect: FAIL, because: target, profile: kpi, data: {e: {passed: 149, n: 500}}}
"""
    text = example.replace("controls:", profile) + own
    result = proof(text)
    assert result.ok
    assert (result.killed, result.total) == (19, 19)
    loose = proof(text.replace("passed: 150", "passed: 149"))
    assert [c.ok for c in loose.controls] == [True, True, True, True, False, True]
    one_sided = proof(example.replace("controls:", profile) + own.splitlines()[1] + "\n")
    assert ("target", "failing past a value that holds") in survivors(one_sided)
    assert "in profile kpi" in one_sided.problems[0].message
    assert not proof(text.replace("target: 0.30", "target: 0.29")).ok


def test_controls_of_the_other_verdicts(proof: Callable[[str], Proof], about_value: About) -> None:
    require = "  - {id: a, left: m.value, op: ge, right: 20}"
    controls = """\
  - {expect: PASS, data: {v: {value: 20}}}
  - {expect: FAIL, because: a, data: {v: {value: 19}}}
  - {expect: UNTESTED, data: {}}
  - {expect: UNTESTED, because: v, data: {}}
  - {expect: INVALID, because: v, data: {v: {value: .nan}}}
  - {expect: INVALID, because: v, data: {v: {value: TBD}}}
  - {expect: INVALID, because: v, data: {v: {value: 1, n: 0}}}
  - {expect: INVALID, because: m, data: {v: {value: 13}}}"""
    assert proof(about_value(require, controls, fn="odd")).ok


COUNTED: list[Sequence[Evidence]] = []


def counting(evidence: Sequence[Evidence], params: Any) -> dict[str, Any]:
    COUNTED.append(evidence)
    return {"value": evidence[0].payload["value"]}


def test_mutants_measure_nothing_again(read: Read, about_value: About, measures: dict[str, MeasureSpec]) -> None:
    controls = "  - {expect: PASS, data: {v: {value: 3}}}\n  - {expect: FAIL, because: a, data: {v: {value: 2}}}"
    contract = read(about_value("  - {id: a, left: m.value, op: ge, right: 3}", controls))
    COUNTED.clear()
    spec = replace(measures["value"], target=f"{__name__}:counting")
    assert prove(contract, {**measures, "value": spec}).ok
    assert len(COUNTED) == 2


def test_the_order_is_that_of_the_file(proof: Callable[[str], Proof], example: str) -> None:
    text = example.replace("passed: 110, n: 501", "passed: 110, n: 500")
    text = text.replace("passed: 100, n: 500", "passed: 9, n: 500")
    results = [[str(problem) for problem in proof(text).problems] for _ in range(3)]
    assert results[0] == results[1] == results[2]


EVERY_OPERATOR = """\
  - {id: whole, left: m.n, op: eq, right: 5, else: INVALID}
  - id: either
    any: [{id: low, left: m.value, op: lt, right: 2}, {id: high, not: {id: deep, left: m.value, op: le, right: 8}}]
  - {id: unit, left: m.unit, op: in, right: [s, ms]}
  - {id: span, left: m.value, op: between, right: [0, m.n], else: INCONCLUSIVE}"""
GOLDEN = Path(__file__).with_name("mutants.txt")
SHOWN = [
    (1.9, 5, "s"),
    (1.9, 4, "s"),
    (1.9, 6, "ms"),
    (8.1, 5, "s"),
    (8, 5, "ms"),
    (2, 5, "h"),
    (-0.1, 5, "s"),
    (5, 5, "s"),
]


def test_every_mutant_of_every_operator_and_what_each_control_makes_of_it(
    read: Read, about_value: About, measures: dict[str, MeasureSpec]
) -> None:
    rows = "\n".join(
        f"  - {{expect: FAIL, because: either, data: {{v: {{value: {value}, n: {n}, unit: {unit}}}}}}}"
        for value, n, unit in SHOWN
    )
    contract = read(about_value(EVERY_OPERATOR, rows))
    clauses = contract.clauses()
    taken = [take(contract, {"v": Evidence("v", "measurement/v1", c.data["v"])}, measures) for c in contract.controls]
    cases = [Case(c, m, decide(clauses, m)) for c, m in zip(contract.controls, taken, strict=True)]

    def row(clauses: tuple[Clause, ...]) -> str:
        return "  " + " ".join(f"{o.verdict}:{o.because}" for o in (decide(clauses, case.measured) for case in cases))

    found = [f"{m.clause.id}: {m.kind}\n" + "\n".join(map(row, m.attempts)) for m in mutants(clauses, cases)]
    assert "\n".join(["as written", row(clauses), *found, ""]) == GOLDEN.read_text(encoding="utf-8")
    result = prove(contract, measures)
    unnoticed = {text.partition("\n")[0] for text in found if set(text.splitlines()[1:]) == {row(clauses)}}
    assert {f"{clause}: {kind}" for clause, kind in survivors(result)} == unnoticed
    assert (result.total, result.killed) == (len(found), len(found) - len(unnoticed))
    assert unnoticed


near = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


@given(
    op=st.sampled_from(["ge", "gt", "le", "lt"]),
    threshold=near,
    good=near,
    bad=near,
)
def test_one_control_on_each_side_proves_any_threshold(
    about_value: About, measures: dict[str, MeasureSpec], op: str, threshold: float, good: float, bad: float
) -> None:
    holds = {"ge": good >= threshold, "gt": good > threshold, "le": good <= threshold, "lt": good < threshold}[op]
    fails = {"ge": bad < threshold, "gt": bad <= threshold, "le": bad > threshold, "lt": bad >= threshold}[op]
    controls = (
        f"  - {{expect: PASS, data: {{v: {{value: {good!r}}}}}}}\n"
        f"  - {{expect: FAIL, because: a, data: {{v: {{value: {bad!r}}}}}}}"
    )
    text = about_value(f"  - {{id: a, left: m.value, op: {op}, right: {threshold!r}}}", controls)
    assert prove(parse_text(text, measures), measures).ok == (holds and fails)
