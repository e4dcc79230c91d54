"""A contract loads whole or is refused with every fault, each in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrmctl import InputError, MeasureSpec, Verdict
from hrmctl.contract import Contract, parse_text
from hrmctl.contract.spec import Ref

Refused = Callable[[str], list[str]]


def test_the_contract_of_the_design(read: Callable[[str], Contract], example: str) -> None:
    contract = read(example)
    assert (contract.id, contract.select, contract.why) == ("HRM-P1", "", "")
    assert contract.subjects["claim"].labels == {"model": "hrm-27m", "dataset": "mbpp@test"}
    assert (contract.evidence["e"].type, contract.evidence["e"].stage) == ("samples/v1", "eval")
    assert (contract.measures["p"].fn, contract.measures["p"].of, contract.measures["p"].params.k) == (
        "pass_at_k", ("e",), 1,
    )  # fmt: skip
    whole, target = contract.require
    assert (whole.id, whole.left, whole.op, whole.right, whole.otherwise) == ("whole", "p.n", "eq", 500, "INVALID")
    assert (target.op, target.right, target.otherwise) == ("ge", 0.2, Verdict.FAIL)
    assert [(c.expect, c.because) for c in contract.controls] == [
        ("PASS", ""), ("FAIL", "target"), ("INVALID", "whole"), ("INVALID", "whole"),
    ]  # fmt: skip
    assert (contract.require[1].place.line, contract.controls[0].place.line) == (13, 15)
    assert contract.text == example


def test_the_digest_is_that_of_the_meaning(read: Callable[[str], Contract], example: str) -> None:
    digest = read(example).digest
    assert read("# a comment\n" + example.replace("0.20", "0.2").replace(": hrm-27m", ":   hrm-27m")).digest == digest
    assert read(example.replace("0.20", "0.21")).digest != digest
    assert read(example.replace("passed: 110", "passed: 111")).digest != digest


def test_paths_needs_bind_and_profiles(read: Callable[[str], Contract], about_value: Callable[..., str]) -> None:
    require = """\
  - {id: a, left: m.value, op: between, right: [m.n, 5]}
  - {id: b, left: m.unit, op: in, right: [s, m]}"""
    controls = "  - {expect: FAIL, because: a, data: {}}\n  - {expect: FAIL, because: a, profile: kpi, data: {}}"
    text = about_value(require, controls, more="profiles: {kpi: {a: [m.n, 7]}}\nwhy: because")
    contract = read(text.replace("{model: hrm-tiny}", "{model: hrm-tiny, needs: [cuda, network]}"))
    assert contract.require[0].right == (Ref("m.n"), 5)
    assert contract.require[1].right == ("s", "m")
    assert contract.subjects["it"].needs == ("cuda", "network")
    assert contract.clauses("kpi")[0].right == (Ref("m.n"), 7)
    assert contract.clauses("mvp") == contract.require


REFUSED = [
    # what is changed in the contract of the design, and the fault with its place
    ("id: HRM-P1", "id: HRM/P1", "2:5: 'HRM/P1' is not an id; letters, digits, . _ and -"),
    ("id: HRM-P1", "id: [1]", "2:5: id: expected text, found a list"),
    ("title: HRM", "titel: HRM", "3:1: unknown key 'titel'; did you mean 'title'?"),
    ("kind: contract", "kind: contrakt", "1:7: 'contrakt' is neither contract nor gate; did you mean 'contract'?"),
    ("kind: contract\n", "", "1:1: missing key 'kind'; kind: contract, or kind: gate"),
    ("samples/v1", "samples/v2", "8:13: type: text ('samples/v2') is not a choice; did you mean 'samples/v1'?"),
    ("stage: eval", "stge: eval", "8:25: unknown key 'stge'; did you mean 'stage'?"),
    ("stage: eval", "stage: eval, bind: {model: base}", "8:52: subject 'claim' has no role 'base'"),
    ("fn: pass_at_k", "fn: pass_at_kk", "10:11: unknown measure function 'pass_at_kk'; did you mean 'pass_at_k'?"),
    ("of: [e]", "of: [f]", "10:27: unknown evidence 'f'; known: e"),
    ("of: [e]", "of: []", "10:26: pass_at_k takes 1 pieces of evidence, not 0"),
    ("of: [e]", "of: [e, e]", "10:26: pass_at_k takes 1 pieces of evidence, not 2"),
    ("of: [e]", "of: [e, e]", "10:30: pass_at_k is given 'e' twice: it would be compared with itself"),
    ("of: [e]", "of: e", "10:26: of: expected a list, found text ('e'); write it as [ … ]"),
    ("samples/v1, stage", "series/v1, stage", "10:27: pass_at_k takes samples/v1, and 'e' is series/v1"),
    ("k: 1}", "kk: 1}", "10:31: unknown key 'kk'; did you mean 'k'?"),
    ("k: 1}", "k: 0}", "10:34: k: an integer ('0') is out of range; must be at least 1"),
    ("k: 1}", "k: yes}", "10:34: k: expected an integer, found text ('yes')"),
    ("op: eq", "op: equals", "12:32: op: text ('equals') is not a choice; known: between, eq"),
    ("left: p.n", "left: p.count", "12:23: pass_at_k returns no 'count'; known: n, value"),
    ("left: p.n", "left: q.n", "12:23: unknown measure 'q'; known: p"),
    ("left: p.n", "left: p", "12:23: 'p' is not a path; write p.value or p.n"),
    ("left: p.n, ", "", "12:5: missing key 'left'; a comparison has left, op and right"),
    (", right: 500", "", "12:5: missing key 'right'; a comparison has left, op and right"),
    ("op: eq, right: 500", "op: between, right: 500", "12:48: 'between' needs a list on the right; write [low, high]"),
    ("op: eq, right: 500", "op: between, right: [9, 1]", "12:48: nothing lies between 9 and 1; swap them"),
    ("op: eq, right: 500", "op: in, right: []", "12:43: 'in' needs a list on the right; write [a, b, …]"),
    ("right: 0.20", "right: .nan", "13:48: nan is not a finite number"),
    ("right: 0.20", "right: true", "13:48: 'ge' compares numbers, found true/false"),
    ("right: 0.20", "right: {a: 1}", "13:48: expected a literal or a path, found a mapping"),
    ("right: 0.20", "right: p.valu", "13:48: pass_at_k returns no 'valu'; did you mean 'value'?"),
    ("right: 0.20", "right: \"0.20\"", "13:48: '0.20' is text; write the number without quotes"),
    ("right: 0.20", "right: p.value", "13:48: p.value is compared with itself (p.value is the same measurement)"),
    ("else: INVALID", "else: PASS", "12:54: else: text ('PASS') is not a choice"),
    ("else: INVALID", "else: BLOCKED", "12:54: else: text ('BLOCKED') is not a choice"),
    ("id: target, ", "", "13:5: missing key 'id'; controls name the clause by it"),
    ("id: target", "id: whole", "13:10: clause 'whole' occurs twice; first in line 12"),
    ("id: target", "id: e", "13:10: the name 'e' is taken (evidence); rename the clause"),
    ("id: target", "id: p", "13:10: the name 'p' is taken (a measure); rename the clause"),
    ("id: target", "id: 'a b'", "13:10: 'a b' is not a name; letters, digits, _ and -"),
    ("{id: target, left: p.value, op: ge, right: 0.20}", "at least a fifth of the problems are solved",
     "13:5: a check is needed here, found text; write {id: …, left: measure.field, op: ge, right: 1}; prose cannot"),
    ("op: ge, right: 0.20", "op: ge, right: 0.20, any: []", "13:5: a check has exactly one of op, all, any, not"),
    ("left: p.value, op: ge, right: 0.20", "any: []", "13:5: 'any' is empty"),
    ("left: p.value, op: ge, right: 0.20", "left: p.value", "13:5: a check has exactly one of op, all, any, not; this"),
    ("left: p.value, op: ge, right: 0.20", "not: {left: p.value, op: ge, right: 0.2, else: FAIL}",
     "13:59: 'else' belongs to the outermost check"),
    ("left: p.value, op: ge, right: 0.20", "left: p.n, all: [{left: p.value, op: ge, right: 0.2}]",
     "13:5: 'all' takes no left or right"),
    ("left: p.value, op: ge", "left: p.n, op: ge, because: x, op2: ge", "13:37: unknown key 'because'"),
    ("because: target, ", "", "16:5: a control that expects FAIL must say because of which clause"),
    ("because: target", "because: targte", "16:29: nothing named 'targte' can cause FAIL; did you mean 'target'?"),
    ("because: target", "because: p", "16:29: nothing named 'p' can cause FAIL; known: target, whole"),
    ("PASS, data", "PASS, because: target, data", "15:29: nothing named 'target' can cause PASS"),
    ("expect: PASS", "expect: BLOCKED", "15:14: expect: text ('BLOCKED') is not a choice"),
    ("expect: FAIL, because: target", "expect: INVALID, because: whole",
     "15:3: there is no control with expect: FAIL; a check that cannot fail proves nothing"),
    ("data: {e: {passed: 100, n: 500}}", "data: {f: {passed: 100, n: 500}}", "15:27: unknown evidence 'f'; known: e"),
    ("passed: 100, n: 500", "pased: 100, n: 500", "15:30: not an example of samples/v1: 'pased' is no part of this"),
    ("passed: 100, n: 500", "passed: 600, n: 500", "15:30: not an example of samples/v1: passed is 600 of n = 500"),
    ("expect: PASS, ", "expect: PASS, profile: kpi, ", "15:29: unknown profile 'kpi'"),
    ("controls:", "profiles: {kpi: {targt: 0.3}}\ncontrols:", "14:18: no comparison 'targt'; did you mean 'target'?"),
    ("controls:", "profiles: {kpi: {}}\ncontrols:", "14:12: profile 'kpi' changes nothing; give clause: threshold"),
    ("controls:", "profiles: {kpi: {target: 0.3}}\ncontrols:",
     "16:3: profile 'kpi' has no control with expect: FAIL; a check that cannot fail proves nothing"),
    ("controls:", "select: {of: all}\ncontrols:", "14:9: the best of several needs a correction"),
    ("controls:", "select: {of: all, correct: holm}\ncontrols:", "14:9: 'select: {of: all}' corrects p values, and no"),
    ("controls:", "select: {of: best}\ncontrols:", "14:14: of: text ('best') is not a choice"),
    ("proxy: {", "proxy: {needs: [cuda]}\n  other: {", "6:10: subject 'proxy' names nothing; such as"),
    ("proxy: {model: hrm-tiny", "proxy: {model: 3", "6:18: model: expected text, found an integer ('3')"),
    ("  proxy:", "  a/b:", "6:3: 'a/b' is not a name; letters, digits, _ and -"),
    ("measure:\n", "  f: {type: series/v1, stage: eval}\nmeasure:\n", "9:3: no measure uses evidence 'f'; use it or"),
    ("measure:\n", "  f: {type: samples/v1, stage: eval}\nmeasure:\n", "9:3: 'f' asks for the same evidence as 'e'"),
    ("require:\n", "  q: {fn: pass_at_k, of: [e], k: 2}\nrequire:\n", "11:3: no clause uses measure 'q'; use it or"),
    ("require:\n", "  e: {fn: pass_at_k, of: [e]}\nrequire:\n", "11:3: the name 'e' is taken (evidence); rename it"),
    ("require:\n", "  select: {fn: pass_at_k, of: [e]}\nrequire:\n", "11:3: the name 'select' is taken (reserved)"),
    ("e: {type: samples/v1, stage: eval}", "e: samples", "8:6: expected a mapping, found text"),
    ("p: {fn: pass_at_k, of: [e], k: 1}", "p: pass@1", "10:6: expected a mapping, found text"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_refused_in_its_place(refused: Refused, example: str, old: str, new: str, said: str) -> None:
    assert old in example
    faults = refused(example.replace(old, new, 1))
    assert any(fault.startswith(f"c.yaml:{said}") for fault in faults), faults


def test_two_measures_of_one_definition_are_one_value(refused: Refused, example: str) -> None:
    twin = example.replace("require:\n", "  q: {fn: pass_at_k, of: [e], k: 1}\nrequire:\n")
    faults = refused(twin.replace("right: 0.20", "right: q.value"))
    assert faults == [
        "c.yaml:14:48: p.value is compared with itself (q.value is the same measurement); "
        "compare it with something else"
    ]


def test_different_parameters_or_fields_are_different_values(read: Callable[[str], Contract], example: str) -> None:
    twin = example.replace("require:\n", "  q: {fn: pass_at_k, of: [e], k: 2}\nrequire:\n")
    assert read(twin.replace("right: 0.20", "right: q.value")).require[1].right == Ref("q.value")
    assert read(example.replace("right: 0.20", "right: p.n")).require[1].right == Ref("p.n")


def test_every_fault_at_once(refused: Refused, example: str) -> None:
    text = example.replace("titel", "x").replace("title:", "titel:").replace("fn: pass_at_k", "fn: nope")
    text = text.replace("op: ge", "op: gee").replace("because: target", "because: tarhet").replace("n: 499", "m: 499")
    faults = refused(text)
    places = [fault.split(":")[1] for fault in faults]
    assert places == sorted(places, key=int)
    assert {"3", "10", "13", "16", "17"} <= set(places)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("require:", "requires:", "11:1: unknown key 'requires'; did you mean 'require'?"),
        ("controls:", "control:", "14:1: unknown key 'control'; did you mean 'controls'?"),
        ("expect: FAIL", "expect: fail", "16:14: expect: text ('fail') is not a choice; did you mean 'FAIL'?"),
        ("op: ge", "op: '>='", "13:37: op: '>=' is not a choice; write ge"),
        ("right: 0.20", "right: 20%", "13:48: '20%' is text; write the share as 0.2"),
        ("left: p.value", "left: value", "13:24: 'value' is not a path; write p.value"),
        ("of: [e]", "of: [f]", "10:27: unknown evidence 'f'; known: e"),
        ("samples/v1, stage", "measurement/v1, stage", "10:27: pass_at_k takes samples/v1, and 'e' is measurement/v1"),
        ("{id: target, left: p.value, op: ge, right: 0.20}", "a fifth", "13:5: a check is needed here, found text"),
        ("controls:", "profiles: {kpi: {targt: 0.3}}\ncontrols:", "14:18: no comparison 'targt'; did you mean"),
        (
            "{model: hrm-tiny, dataset: microcode@test}",
            "hrm-tiny",
            "6:10: subject 'proxy' must be a mapping, found text",
        ),
    ],
)
def test_a_fault_makes_no_others(refused: Refused, example: str, old: str, new: str, said: str) -> None:
    assert old in example
    text = example.replace(old, new, 1)
    text += "  - {expect: FAIL, because: target, profile: kpi, data: {e: {passed: 1, n: 500}}}\n" * ("kpi" in new)
    (fault,) = refused(text)
    assert fault.startswith(f"c.yaml:{said}")


def test_an_unreadable_measure_brings_no_further_complaints(refused: Refused, example: str) -> None:
    assert refused(example.replace("k: 1}", "k: 0}")) == [
        "c.yaml:10:34: k: an integer ('0') is out of range; must be at least 1"
    ]
    assert len(refused(example.replace("fn: pass_at_k", "fn: nope"))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "c.yaml:1:1: the file is empty"),
        ("kind: contract\n\tid: x", "c.yaml:2:1: a tab in the indentation; indent with spaces"),
        ("kind: contract\nkind: gate", "c.yaml:2:1: duplicate key 'kind'; first given in line 1"),
        ("[contract]", "c.yaml:1:1: missing key 'kind'"),
        ("contract", "c.yaml:1:1: missing key 'kind'"),
        ("kind: contract", "c.yaml:1:1: missing key 'id'"),
        ("kind: contract\nrequire: all is well\n", "c.yaml:2:10: require: expected a list, found text"),
        ("kind: contract\nevidence: {}\n", "c.yaml:2:11: evidence: a mapping is out of range; must have at least 1"),
    ],
)
def test_files_that_are_no_contract(refused: Refused, text: str, said: str) -> None:
    faults = refused(text)
    assert any(fault.startswith(said) for fault in faults), faults


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, child in items for inner in nodes(child, (*path, key)))]


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["p.value", "e", "ge", "x", ""])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["id", "left", "op", "right", "any", "not", "e"]), inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(data=st.data())
def test_any_change_of_structure_loads_or_is_refused(
    example: str, measures: dict[str, MeasureSpec], data: st.DataObject
) -> None:
    document = yaml.safe_load(example)
    path = data.draw(st.sampled_from(nodes(document)[1:]))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = data.draw(anything)
    text = json.dumps(document).replace("NaN", ".nan").replace("-Infinity", "-.inf").replace("Infinity", ".inf")
    contract, problems = None, ()
    try:
        contract = parse_text(text, measures, "x.yaml")
    except InputError as error:
        problems = tuple(error.problems)
    if isinstance(contract, Contract):
        assert any(control.expect == "FAIL" for control in contract.controls)
    else:
        assert problems
    assert all(problem.file == "x.yaml" and problem.line >= 1 for problem in problems)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(measures: dict[str, MeasureSpec], text: str) -> None:
    with pytest.raises(InputError):
        parse_text(text, measures)


LEDGER = "  n: {type: measurement/v1, stage: ledger, name: attempts}\n"


def test_the_ledger_gives_attempts_beside_what_was_measured_and_nothing_else(
    refused: Refused, read: Callable[[str], Any], about_value: Callable[..., str]
) -> None:
    text = about_value("  - {id: few, left: n.value, op: le, right: 3}", "  - {expect: FAIL, because: few, data: {}}")
    alone = text.replace("stage: eval, name: speed", "stage: ledger, name: attempts").replace("n.value", "m.value")
    assert refused(alone) == [
        "c.yaml:5:11: the ledger alone does not know which artifacts a subject is; "
        "ask for evidence of a stage too, such as the samples that were counted"
    ]
    both = alone.replace("evidence: {v", "evidence: {w: {type: measurement/v1, stage: eval}, v")
    both = both.replace("measure: {m", "measure: {k: {fn: value, of: [w]}, m").replace(
        "require:", "require:\n  - {id: x, left: k.value, op: ge, right: 1}"
    )
    assert read(both).asks_ledger
    for wrong in ("name: verdicts", "name: attempts, bind: {model: model}", "name: attempts, about: [model]"):
        (fault,) = refused(both.replace("name: attempts", wrong))
        assert "the ledger gives one thing, the number of attempts" in fault
    assert any("attempts belong to one candidate" in fault for fault in refused(both + "select: {of: every}\n"))


@pytest.mark.parametrize("profile", ["[kpi]", "{a: kpi}"])
def test_a_profile_that_is_no_text_is_refused(refused: Callable[[str], list[str]], example: str, profile: str) -> None:
    faults = refused(example.replace("because: target,", f"because: target, profile: {profile},"))
    assert faults[0].startswith("c.yaml:16:46: profile: expected text, found a ")
