"""Contracts, evidence and stores that try to PASS without measuring anything, and the rule that stops each.

`pytest -s tests/contract/test_adversarial.py` prints the table.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hrmctl.contract import Contract, Gate, check_gate, parse_text

from . import attacks_evidence, attacks_store
from .attacks import (
    ABUSED,
    ATTACKS,
    CHANCE,
    CONTROLS,
    GATE,
    ODD,
    PLAIN,
    RATIO,
    SOLVES,
    TARGET,
    Attack,
    check,
    judged,
    judged_in,
    refused,
    samples,
    seen,
    store_with,
    unproven,
    value,
    verdict,
)
from .conftest import MEASURES, on_value

# --- contracts that are nothing -------------------------------------------------------------------------------------

refused("compares a value with itself", "is compared with itself", PLAIN, "right: 10", "right: m.value")
refused(
    "compares one measurement under two names",
    "is the same measurement",
    PLAIN.replace("right: 10", "right: k.value"),
    "measure: {m",
    "measure: {k: {fn: value, of: [v]}, m",
)
refused(
    "compares one piece of evidence twice",
    "twice: it would be compared with itself",
    RATIO,
    "[ours, theirs]",
    "[ours, ours]",
)
refused(
    "asks for one piece of evidence under two names", "asks for the same evidence", RATIO, ", bind: {model: baseline}"
)
refused("chooses from nothing", "needs a list on the right", PLAIN, "op: ge, right: 10", "op: in, right: []")
refused("has a check of no parts", "'any' is empty", PLAIN, "left: m.value, op: ge, right: 10", "any: []")
refused("has no control that fails", "there is no control with expect: FAIL", PLAIN, CONTROLS.splitlines()[1], "")
refused(
    "has a profile that was never seen to fail",
    "profile 'mvp' has no control with expect: FAIL",
    PLAIN + "\nprofiles: {mvp: {target: 1}}\n",
)
refused("has a threshold that is no number", "nan is not a finite number", PLAIN, "right: 10", "right: .nan")
refused(
    "has a threshold that everything is below",
    "inf is not a finite number",
    PLAIN,
    "op: ge, right: 10",
    "op: le, right: .inf",
)
refused("has a threshold of true", "compares numbers, found true/false", PLAIN, "right: 10", "right: true")
refused("says it in prose", "prose cannot fail", PLAIN, TARGET, "  - the value is high")
refused(
    "has a range that nothing is outside of",
    "nothing lies between",
    PLAIN,
    "op: ge, right: 10",
    "op: between, right: [9, 1]",
)
refused(
    "takes the best of several uncorrected", "the best of several needs a correction", CHANCE + "\nselect: {of: all}\n"
)
refused(
    "takes the best of several by what has no p value",
    "corrects p values, and no clause reads one",
    PLAIN + "\nselect: {of: all, correct: holm}\n",
)
refused("gives a key twice", "duplicate key", PLAIN, "id: V\n", "id: V\nid: W\n")
refused("hides a control behind an anchor", "anchor", PLAIN, "{value: 10}", "&a {value: 10}")
refused("has an id that looks like another", "is not an id", PLAIN, "id: V", "id: \N{CYRILLIC CAPITAL LETTER VE}V")
refused(
    "calls evidence what looks like another", "is not a name", PLAIN, "{v: {type", "{\N{GREEK SMALL LETTER NU}: {type"
)
refused(
    "asks the ledger alone",
    "the ledger alone does not know",
    PLAIN,
    "stage: eval, name: speed",
    "stage: ledger, name: attempts",
)
refused(
    "a gate of which every outcome is PASS", "every outcome counts as PASS", GATE, "HOLD: INCONCLUSIVE", "HOLD: PASS"
)
refused(
    "a gate that decides nothing in the end", "the table is not total", GATE, "  - {id: wait, otherwise: HOLD}\n", ""
)
refused("a gate that counts FAIL as a word of its own", "is not a verdict", GATE, "right: PASS", "right: GOOD")

# --- contracts that cannot fail where it matters --------------------------------------------------------------------

unproven(
    "has a check that another implies",
    "no control notices when 'loose' is deleted",
    on_value(TARGET + "\n  - {id: loose, left: m.value, op: ge, right: 5}", CONTROLS),
)
unproven(
    "has a threshold that no control touches",
    "failing past a value that holds (upper bound)",
    on_value(TARGET.replace("op: ge, right: 10", "op: between, right: [10, 1000]"), CONTROLS)
    .replace("{value: 10}", "{value: 9}")
    .replace("PASS, data", "FAIL, because: target, data"),
)
ALWAYS = "  - {id: any, any: [{left: m.value, op: ge, right: 10}, {left: m.value, op: lt, right: 10}]}\n"
unproven(
    "has a check that always holds", "no control notices when 'any' is deleted", on_value(ALWAYS + TARGET, CONTROLS)
)
NEVER = "  - {id: no, not: {all: [{left: m.value, op: ge, right: 10}, {left: m.value, op: lt, right: 10}]}}\n"
unproven("denies what never holds", "no control notices when 'no' is deleted", on_value(NEVER + TARGET, CONTROLS))
unproven(
    "has a control that lies", "this control must give PASS and gives FAIL", PLAIN.replace("value: 10", "value: 9")
)
unproven(
    "compares with what no evidence can change",
    "given a fixed value for m.n",
    on_value("  - {id: target, left: m.value, op: ge, right: m.n}", CONTROLS.replace("10", "1").replace("9", "0.9")),
)
unproven(
    "misses its target as INCONCLUSIVE and fails by what cannot happen",
    "this control must give FAIL because of positive and gives INVALID",
    on_value(
        TARGET.replace("10}", "10, else: INCONCLUSIVE}") + "\n  - {id: positive, left: m.n, op: gt, right: 0}",
        CONTROLS.replace("FAIL, because", "INCONCLUSIVE, because")
        + "\n  - {expect: FAIL, because: positive, data: {v: {value: 10, n: -1}}}",
    ).replace("FAIL, because: positive", "FAIL, because: positive"),
)
judged(
    "misses its target, which calls it undecided",
    "INCONCLUSIVE",
    "target",
    seen({"value": 1, "unit": "s", "n": 1}),
    ABUSED,
)

_OTHERS = (attacks_evidence, attacks_store)

# --- all of them ----------------------------------------------------------------------------------------------------


def test_there_are_many() -> None:
    assert len({a.name for a in ATTACKS}) == len(ATTACKS) >= 90
    print(f"\n\n{'attack':72}  {'ends in':15}  by")
    for item in ATTACKS:
        print(f"{item.name:72}  {item.ends:15}  {item.rule}")


@pytest.mark.parametrize("attempt", ATTACKS, ids=lambda a: a.name)
def test_nothing_passes_that_measured_nothing(attempt: Attack, tmp_path: Path) -> None:
    said = attempt.run(tmp_path)
    assert said.startswith(attempt.ends), said
    assert attempt.rule in said


def test_what_is_sound_passes(tmp_path: Path) -> None:
    """The contracts that the attacks bend are sound, or their refusal would say nothing."""
    for text, evidence in (
        (PLAIN, [value(10)]),
        (SOLVES, [samples([1, 0, 0, 0, 0])]),
        (RATIO, [value(4), value(2, model="gpt2")]),
        (CHANCE, [value(0.04)]),
        (ABUSED, [seen({"value": 10, "unit": "s", "n": 1})]),
        (ODD, [value(10)]),
    ):
        contract = parse_text(text, MEASURES)
        assert isinstance(contract, Contract)
        (found,) = check(contract, evidence, MEASURES, run="r")
        assert found.verdict == "PASS", found.reason
    gate = parse_text(GATE, MEASURES)
    assert isinstance(gate, Gate)
    assert check_gate(gate, [verdict("PASS")]).verdict == "PASS"
    assert judged_in(*store_with(tmp_path, 1, 11)).startswith("PASS")
