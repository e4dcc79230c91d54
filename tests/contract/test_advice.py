"""Warnings on contracts that are sound and still overlook something."""

from __future__ import annotations

from collections.abc import Callable

from hrmctl.contract import Contract
from hrmctl.contract.advice import advice

CLAUSE = "  - {id: shown, left: m.p, op: lt, right: 0.05}"
CONTROLS = """\
  - {expect: PASS, data: {v: {value: 0.04}}}
  - {expect: FAIL, because: shown, data: {v: {value: 0.05}}}
"""
TRIES = "evidence: {t: {type: measurement/v1, stage: ledger, name: attempts}, v"


def test_a_p_value_wants_a_bound_on_the_attempts(
    read: Callable[[str], Contract], about_value: Callable[..., str]
) -> None:
    bare = about_value(CLAUSE, CONTROLS, fn="chance")
    (warning,) = advice(read(bare))
    assert (warning.line, warning.column) == (8, 5)
    assert warning.message.startswith("the p value of 'shown' holds for one attempt")
    assert not list(advice(read(bare + "select: {of: all, correct: holm}\n")))
    assert not list(advice(read(bare.replace("m.p", "m.value"))))
    bounded = bare.replace("evidence: {v", TRIES).replace("measure: {m", "measure: {n: {fn: value, of: [t]}, m")
    bounded = bounded.replace("require:", "require:\n  - {id: few, left: n.value, op: le, right: 1}")
    assert not list(advice(read(bounded)))
