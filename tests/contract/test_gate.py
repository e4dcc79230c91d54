"""Gates are ordered and total, and never turn what was not measured into PASS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from hrmctl import InputError, Judgement, MeasureSpec, Verdict
from hrmctl.contract import Gate, check_gate, load_contracts, parse_text, prove_gate
from hrmctl.contract.gate import decide_gate

GATE = """\
kind: gate
id: MVP
title: whether to go on
over: {p1: HRM-P1/proxy, size: SIZE/proxy}
rules:
  - {id: go, when: {all: [{left: p1, op: eq, right: PASS}, {left: size, op: eq, right: PASS}]}, then: GO}
  - {id: stop, when: {left: p1, op: in, right: [FAIL, INVALID]}, then: NO-GO}
  - {id: wait, otherwise: HOLD}
verdicts: {GO: PASS, NO-GO: FAIL, HOLD: INCONCLUSIVE}
controls:
  - {expect: GO, because: go, data: {p1: PASS, size: PASS}}
  - {expect: HOLD, because: wait, data: {p1: PASS, size: FAIL}}
  - {expect: HOLD, because: wait, data: {p1: INCONCLUSIVE, size: PASS}}
  - {expect: NO-GO, because: stop, data: {p1: FAIL, size: PASS}}
  - {expect: NO-GO, because: stop, data: {p1: INVALID, size: PASS}}
  - {expect: HOLD, because: wait, data: {}}
"""


def read(text: str) -> Gate:
    gate = parse_text(text, {}, "g.yaml")
    assert isinstance(gate, Gate)
    return gate


def judgement(name: str, verdict: str, profile: str = "") -> Judgement:
    contract, _, subject = name.partition("/")
    return Judgement(contract, "d", "t", subject, "acceptance", Verdict(verdict), profile=profile)


def test_the_gate_is_proven() -> None:
    proof = prove_gate(read(GATE))
    assert proof.ok, proof.problems
    # 3 rules deleted; `all` inverted, its 2 parts deleted, inverted and changed; `in` inverted, its 2 elements dropped
    assert (proof.killed, proof.total) == (13, 13)


@pytest.mark.parametrize("verdicts", list(product(Verdict, Verdict)))
def test_the_table_is_total(verdicts: tuple[Verdict, Verdict]) -> None:
    gate = read(GATE)
    given = dict(zip(gate.over, verdicts, strict=True))
    outcome, _ = decide_gate(gate, given)
    p1, size = verdicts
    wanted = "GO" if p1 == size == "PASS" else "NO-GO" if p1 in ("FAIL", "INVALID") else "HOLD"
    assert outcome == wanted


def test_the_judgement_of_a_gate() -> None:
    gate = read(GATE)
    go = check_gate(gate, [judgement("HRM-P1/proxy", "PASS"), judgement("SIZE/proxy", "PASS")], "r1")
    assert (go.obligation, go.kind, go.verdict, go.because, go.run) == ("MVP/gate", "gate", "PASS", "go", "r1")
    assert (go.reason, go.remedy) == ("GO by rule `go`: p1, size PASS", "")
    assert go.measured == {"gate": {"outcome": "GO"}, "over": {"p1": "PASS", "size": "PASS"}}
    no = check_gate(gate, [judgement("HRM-P1/proxy", "FAIL")])
    assert (no.verdict, no.because) == ("FAIL", "stop")
    hold = check_gate(gate, [])
    assert (hold.verdict, hold.because) == ("INCONCLUSIVE", "wait")
    assert hold.reason == "HOLD by the last rule, `wait`: no earlier rule holds"
    assert hold.measured["over"] == {"p1": "UNTESTED", "size": "UNTESTED"}


MEMBERS = """\
kind: gate
id: PHASE
title: whether to go on
over: {p1: HRM-P1/claim, p10: HRM-P10/claim, speed: SPEED/claim, tries: TRIES/claim}
rules:
  - id: given-up
    when:
      all:
        - {left: tries, op: eq, right: PASS}
        - {any: [{left: p1, op: eq, right: FAIL}, {left: p10, op: eq, right: FAIL}]}
    then: NO-GO
  - id: unmeasured
    when:
      any:
        - {left: p1, op: in, right: [UNTESTED, BLOCKED]}
        - {left: p10, op: in, right: [UNTESTED, BLOCKED]}
        - {not: {left: speed, op: in, right: [PASS, FAIL]}}
    then: HOLD
  - {id: rest, otherwise: GO}
verdicts: {GO: PASS, HOLD: INCONCLUSIVE, NO-GO: FAIL}
controls:
  - {expect: NO-GO, because: given-up, data: {p1: FAIL, p10: PASS, speed: PASS, tries: PASS}}
  - {expect: NO-GO, because: given-up, data: {p1: PASS, p10: FAIL, speed: PASS, tries: PASS}}
  - {expect: GO, because: rest, data: {p1: FAIL, p10: FAIL, speed: PASS, tries: FAIL}}
  - {expect: GO, because: rest, data: {p1: PASS, p10: PASS, speed: PASS, tries: PASS}}
  - {expect: GO, because: rest, data: {p1: PASS, p10: PASS, speed: FAIL, tries: PASS}}
  - {expect: HOLD, because: unmeasured, data: {p1: UNTESTED, p10: PASS, speed: PASS, tries: PASS}}
  - {expect: HOLD, because: unmeasured, data: {p1: BLOCKED, p10: PASS, speed: PASS, tries: PASS}}
  - {expect: HOLD, because: unmeasured, data: {p1: PASS, p10: UNTESTED, speed: PASS, tries: PASS}}
  - {expect: HOLD, because: unmeasured, data: {p1: PASS, p10: BLOCKED, speed: PASS, tries: PASS}}
  - {expect: HOLD, because: unmeasured, data: {p1: PASS, p10: PASS, speed: INCONCLUSIVE, tries: PASS}}
"""


def of_members(p1: str, p10: str, speed: str, tries: str = "FAIL") -> Judgement:
    verdicts = {"HRM-P1": p1, "HRM-P10": p10, "SPEED": speed, "TRIES": tries}
    remedies = {"HRM-P1": "hrmctl pipeline a.yaml", "HRM-P10": "hrmctl pipeline a.yaml", "SPEED": "use a GPU"}
    judged = [replace(judgement(f"{name}/claim", v), remedy=remedies.get(name, "")) for name, v in verdicts.items()]
    return check_gate(read(MEMBERS), judged)


def test_a_gate_says_in_one_line_which_verdicts_decided() -> None:
    assert prove_gate(read(MEMBERS)).ok
    held = of_members("UNTESTED", "UNTESTED", "BLOCKED")
    assert held.reason == "HOLD by rule `unmeasured`: p1, p10 UNTESTED; speed BLOCKED"
    assert of_members("FAIL", "PASS", "PASS", "PASS").reason == "NO-GO by rule `given-up`: tries PASS; p1 FAIL"


def test_a_gate_names_the_members_that_would_change_it() -> None:
    assert of_members("FAIL", "PASS", "BLOCKED", "PASS").remedy == "settle HRM-P1/claim: hrmctl pipeline a.yaml"
    two = of_members("UNTESTED", "BLOCKED", "PASS").remedy
    assert two == "settle HRM-P1/claim and HRM-P10/claim: hrmctl pipeline a.yaml"
    three = of_members("UNTESTED", "UNTESTED", "BLOCKED").remedy
    assert three == "settle HRM-P1/claim, HRM-P10/claim and SPEED/claim, as their own lines say"
    assert of_members("PASS", "PASS", "PASS").remedy == ""
    rest = check_gate(read(GATE), [judgement("HRM-P1/proxy", "PASS"), judgement("SIZE/proxy", "FAIL")])
    assert rest.remedy == "settle SIZE/proxy", "the last rule decides by what does not hold"


def test_a_gate_over_what_was_not_judged_names_the_check_that_judges_it() -> None:
    wanted = "not judged in this check: HRM-P1/proxy@kpi and SIZE/proxy; hrmctl check 'gates of a phase' --profile kpi"
    gate = parse_text(GATE.replace("HRM-P1/proxy", "HRM-P1/proxy@kpi"), {}, "gates of a phase/g.yaml")
    assert isinstance(gate, Gate)
    assert check_gate(gate, [judgement("HRM-P1/proxy", "PASS")]).remedy == wanted
    hostile = parse_text(GATE.replace("HRM-P1/proxy", "HRM-P1/proxy@a; b"), {}, "g.yaml")
    assert isinstance(hostile, Gate)
    assert check_gate(hostile, []).remedy.endswith("; hrmctl check . --profile 'a; b'"), "to be pasted"
    lax = check_gate(read(LAX), [judgement("A/x", "FAIL")])
    assert (lax.verdict, lax.remedy) == ("FAIL", "settle A/x")


def test_profiles_of_obligations() -> None:
    kpi = [judgement("HRM-P1/proxy", "PASS", "kpi"), judgement("SIZE/proxy", "PASS")]
    assert check_gate(read(GATE), kpi).verdict == "PASS"
    both = [judgement("HRM-P1/proxy", "FAIL"), *kpi]
    assert check_gate(read(GATE.replace("HRM-P1/proxy", "HRM-P1/proxy@kpi")), both).verdict == "PASS"


LAX = """\
kind: gate
id: LAX
title: passes whatever was not measured
over: {p1: A/x, p2: B/x}
rules:
  - {id: bad, when: {left: p1, op: eq, right: FAIL}, then: NO}
  - {id: fine, otherwise: YES}
verdicts: {YES: PASS, NO: FAIL}
controls:
  - {expect: NO, because: bad, data: {p1: FAIL, p2: PASS}}
  - {expect: YES, because: fine, data: {p1: PASS, p2: PASS}}
"""


@pytest.mark.parametrize("verdict", ["UNTESTED", "BLOCKED", "INVALID"])
def test_what_was_not_measured_never_passes(verdict: str) -> None:
    result = check_gate(read(LAX), [judgement("A/x", "PASS"), judgement("B/x", verdict)])
    assert (result.verdict, result.because) == ("INVALID", "fine")
    assert result.reason == f"YES cannot count as PASS while B/x is {verdict}"
    assert check_gate(read(LAX), [judgement("A/x", "PASS")]).verdict == "INVALID"
    shown = LAX + "  - {expect: INVALID, because: fine, data: {p1: PASS}}\n"
    assert prove_gate(read(shown)).ok


def test_an_unproven_gate_is_invalid() -> None:
    wrong = read(GATE.replace("expect: HOLD, because: wait, data: {}", "expect: GO, because: go, data: {}"))
    proof = prove_gate(wrong)
    assert [str(p).split(" (")[0] for p in proof.problems] == [
        "g.yaml:16:5: this control must give GO because of go and gives HOLD because of wait"
    ]
    result = check_gate(wrong, [judgement("HRM-P1/proxy", "PASS"), judgement("SIZE/proxy", "PASS")])
    assert (result.verdict, result.because) == ("INVALID", "proof")
    assert result.remedy == "hrmctl contracts prove g.yaml"


def test_a_part_that_no_control_needs_survives() -> None:
    fewer = GATE.replace("  - {expect: HOLD, because: wait, data: {p1: PASS, size: FAIL}}\n", "")
    assert [str(p) for p in prove_gate(read(fewer)).problems] == [
        "g.yaml:6:5: no control notices when rule 'go' is deleted at size eq; add a control that only this rule decides"
    ]
    without = GATE.replace("  - {expect: NO-GO, because: stop, data: {p1: INVALID, size: PASS}}\n", "")
    assert [s.kind for s in prove_gate(read(without)).survivors] == ["without its element 'INVALID' at p1 in"]


REFUSED = [
    ("  - {id: wait, otherwise: HOLD}\n", "", "7:5: the table is not total; end it with {id: …, otherwise: OUTCOME}"),
    ("  - {id: stop, when", "  - {id: w, otherwise: HOLD}\n  - {id: stop, when", "7:5: no rule after this one"),
    ("id: stop", "id: go", "7:10: rule 'go' occurs twice"),
    ("{left: p1, op: in", "{left: p2, op: in", "7:29: unknown obligation 'p2'; known: p1, size"),
    ("op: in, right: [FAIL, INVALID]", "op: gt, right: FAIL", "7:48: verdicts are compared by eq, ne and in, not gt"),
    ("[FAIL, INVALID]", "[FAIL, BROKEN]", "7:55: 'BROKEN' is not a verdict"),
    ("[FAIL, INVALID]", "[FAIL, pass]", "7:55: 'pass' is not a verdict; did you mean 'PASS'?"),
    ("then: NO-GO", "then: NOGO", "7:72: 'verdicts' does not say what 'NOGO' counts as; did you mean 'NO-GO'?"),
    (", then: NO-GO", "", "7:5: a rule is {id, when, then} or {id, otherwise}"),
    ("HOLD: INCONCLUSIVE", "HOLD: INCONCLUSIVE, MAYBE: FAIL", "9:55: no rule leads to 'MAYBE'; remove it"),
    ("NO-GO: FAIL, HOLD: INCONCLUSIVE", "NO-GO: PASS, HOLD: PASS", "9:11: every outcome counts as PASS; a gate that"),
    ("NO-GO: FAIL", "NO-GO: INVALID", "9:29: verdicts.NO-GO: text ('INVALID') is not a choice"),
    ("expect: GO", "expect: GOO", "11:14: no rule has 'GOO'; did you mean 'GO'?"),
    ("because: go", "because: goo", "11:27: no rule has 'goo'; did you mean 'go'?"),
    ("data: {p1: PASS, size: PASS}", "data: {p3: PASS}", "11:38: unknown obligation 'p3'; known: p1, size"),
    ("data: {p1: PASS, size: PASS}", "data: {p1: GOOD}", "11:42: data.p1: text ('GOOD') is not a choice"),
    ("  - {expect: GO, because: go, data: {p1: PASS, size: PASS}}\n", "", "6:5: no control shows rule 'go' deciding"),
    ("HRM-P1/proxy", "HRM-P1", "4:12: 'HRM-P1' is no obligation; write CONTRACT/subject"),
    ("id: MVP", "id: M/P", "2:5: 'M/P' is not an id"),
    ("rules:", "ruels:", "5:1: unknown key 'ruels'; did you mean 'rules'?"),
    ("{left: p1, op: in, right: [FAIL, INVALID]}", "when p1 fails", "7:22: a check is needed here, found text"),
]


@pytest.mark.parametrize(("old", "new", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_refused_in_its_place(old: str, new: str, said: str) -> None:
    assert old in GATE
    with pytest.raises(InputError) as caught:
        read(GATE.replace(old, new, 1))
    faults = [str(problem) for problem in caught.value.problems]
    assert any(fault.startswith(f"g.yaml:{said}") for fault in faults), faults


def test_a_gate_over_a_subject_that_is_not_there(
    tmp_path: Path, example: str, measures: dict[str, MeasureSpec], read: Callable[[str], object]
) -> None:
    (tmp_path / "c.yaml").write_text(example)
    (tmp_path / "g.yaml").write_text(GATE.replace("HRM-P1/proxy", "HRM-P1/prxoy"))
    with pytest.raises(InputError) as caught:
        load_contracts([tmp_path], measures)
    assert str(caught.value).endswith("g.yaml:4:12: HRM-P1 has no subject 'prxoy'; did you mean 'proxy'?")
    (tmp_path / "g.yaml").write_text(GATE)
    assert [item.id for item in load_contracts([tmp_path], measures)] == ["HRM-P1", "MVP"]
