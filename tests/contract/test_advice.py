"""Warnings on contracts that are sound and still overlook something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from hrmctl.contract import Contract
from hrmctl.contract.advice import advice
from hrmctl.contract.spec import Measure
from hrmctl.errors import Problem
from hrmctl.model import MeasureSpec

CLAUSE = "  - {id: shown, left: m.p, op: lt, right: 0.05}"
CONTROLS = """\
  - {expect: PASS, data: {v: {value: 0.04}}}
  - {expect: FAIL, because: shown, data: {v: {value: 0.05}}}
"""
TRIES = "evidence: {t: {type: measurement/v1, stage: ledger, name: attempts}, v"


def test_a_p_value_wants_a_bound_on_the_attempts(
    read: Callable[[str], Contract], about_value: Callable[..., str], measures: dict[str, MeasureSpec]
) -> None:
    bare = about_value(CLAUSE, CONTROLS, fn="chance")
    (warning,) = advice(read(bare), measures)
    assert (warning.line, warning.column) == (8, 5)
    assert warning.message.startswith("the p value of 'shown' holds for one attempt")
    assert not list(advice(read(bare + "select: {of: all, correct: holm}\n"), measures))
    assert not list(advice(read(bare.replace("m.p", "m.value")), measures))
    bounded = bare.replace("evidence: {v", TRIES).replace("measure: {m", "measure: {n: {fn: value, of: [t]}, m")
    bounded = bounded.replace("require:", "require:\n  - {id: few, left: n.value, op: le, right: 1}")
    assert not list(advice(read(bounded), measures))
    few = "left: n.value, op: le, right: 1}"
    for upper in ("left: n.value, op: between, right: [1, 3]}", "left: m.value, op: ge, right: n.value}"):
        assert not list(advice(read(bounded.replace(few, upper)), measures)), upper
    for open_ended in ("left: n.value, op: ge, right: 1}", "left: n.value, op: ne, right: 2}",
                       "any: [{left: n.value, op: le, right: 1}, {left: m.value, op: le, right: 1}]}",
                       "not: {left: n.value, op: le, right: 1}}"):  # fmt: skip
        assert len(list(advice(read(bounded.replace(few, open_ended)), measures))) == 1, open_ended


def doubts(contract: Contract, measure: Measure) -> Iterator[Problem]:
    """What a plugin may say of a contract that uses its measure."""
    yield contract.require[0].place.problem(f"{measure.name} of {contract.id} is doubtful")


def test_a_measure_may_warn_of_how_it_is_used(
    read: Callable[[str], Contract], about_value: Callable[..., str], measures: dict[str, MeasureSpec]
) -> None:
    contract = read(about_value(CLAUSE.replace("m.p", "m.value"), CONTROLS))
    assert not list(advice(contract, measures))
    known = measures | {"value": replace(measures["value"], lint=f"{__name__}:doubts")}
    (warning,) = advice(contract, known)
    assert (warning.line, warning.message) == (8, "m of V is doubtful")
    assert not list(advice(contract, measures | {"ratio": replace(measures["ratio"], lint=f"{__name__}:doubts")}))
