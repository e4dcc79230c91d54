"""`audit.contracts`: what is proven, and what of it rests on a measure that ran."""

from __future__ import annotations

import json

import pytest
from hrmctl_audit.contracts import run
from hrmctl_audit.params import ContractsParams
from hrmctl_audit.tracing import traced_proof

from hrmctl import InputError, StageError
from hrmctl.contract import parse_text
from hrmctl.plugins import catalog
from hrmctl.testing import make_artifact, make_context

CONTRACT = """\
kind: contract
id: {id}
title: The value is at least 3
subjects: {{m: {{model: tiny}}}}
evidence: {{e: {{type: measurement/v1, stage: eval, name: x}}}}
measure: {{v: {{fn: value, of: [e]}}}}
require:
  - {{id: least, left: v.value, op: ge, right: 3}}
  - {{id: enough, left: v.n, op: ge, right: 2, else: INVALID}}
controls:
  - {{expect: PASS, data: {{e: {{value: 3, n: 2}}}}}}
  - {{expect: FAIL, because: least, data: {{e: {{value: 2, n: 2}}}}}}
  - {{expect: INVALID, because: enough, data: {{e: {{value: 3, n: 1}}}}}}
"""
GATE = """\
kind: gate
id: G
title: go
over: {a: A/m}
rules:
  - {id: go, when: {left: a, op: eq, right: PASS}, then: GO}
  - {id: rest, otherwise: HOLD}
verdicts: {GO: PASS, HOLD: INCONCLUSIVE}
controls:
  - {expect: GO, because: go, data: {a: PASS}}
  - {expect: HOLD, because: rest, data: {a: FAIL}}
"""


def audited(folder, tmp_path):
    result = run(
        ContractsParams(), {"contracts": make_artifact(folder, "report", "./contracts")}, make_context(tmp_path)
    )
    seen = {o.name: (o.payload["value"], o.payload["n"]) for o in result.evidence}
    assert all(o.about["contracts"].label == "./contracts" for o in result.evidence)
    return seen, [json.loads(line) for line in result.artifacts["proofs"].path.read_text().splitlines()]


def written(tmp_path, **texts):
    folder = tmp_path / "contracts"
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_contracts_and_gates_are_counted_each_by_what_it_has(tmp_path):
    folder = written(tmp_path, a=CONTRACT.format(id="A"), g=GATE)
    seen, rows = audited(folder, tmp_path)
    assert (seen["contracts"], seen["gates"], seen["proven"]) == ((1, 1), (1, 2), (2, 2))
    assert (seen["clauses_run"], seen["measures_run"], seen["clauses_measurable"]) == ((2, 2), (1, 1), (2, 2))
    assert seen["controls_behaved"] == (5, 5)
    assert seen["mutants_killed"][0] == seen["mutants_killed"][1] > 10
    assert [(row["id"], row["file"], row["faults"]) for row in rows] == [("A", "a.yaml", []), ("G", "g.yaml", [])]


def test_a_control_that_lies_lowers_the_counts_and_stops_nothing(tmp_path):
    folder = written(tmp_path, a=CONTRACT.format(id="A").replace("value: 2", "value: 4"))
    seen, [row] = audited(folder, tmp_path)
    assert seen["controls_behaved"] == (2, 3)
    assert seen["proven"] == (0, 1)
    assert row["faults"][0].startswith("a.yaml:12:5: this control must give FAIL because of least and gives PASS")


def test_a_measure_that_only_raises_has_not_run(tmp_path):
    text = CONTRACT.format(id="A").replace("fn: value", "fn: chance").replace("v.n", "v.vocabulary")
    seen, _ = audited(
        written(tmp_path, a=text.replace("value: 3", "value: 1").replace("value: 2,", "value: 0,")), tmp_path
    )
    assert seen["clauses_run"] == (0, 2)
    assert seen["measures_run"] == (0, 1)


def test_a_field_that_never_came_back_counts_against_its_clause(tmp_path):
    # Without trials the measure `value` gives no median, so the clause that reads it rests on nothing.
    text = CONTRACT.format(id="A").replace("v.value", "v.median")
    seen, _ = audited(written(tmp_path, a=text), tmp_path)
    assert seen["clauses_run"] == (1, 2)
    assert seen["measures_run"] == (1, 1)


def test_a_clause_about_a_stage_that_nobody_provides_ran_and_is_not_measurable(tmp_path):
    two = CONTRACT.format(id="A").replace(
        "evidence: {e:", "evidence: {f: {type: measurement/v1, stage: speculate, name: y}, e:"
    )
    two = two.replace("of: [e]}}", "of: [e]}, w: {fn: value, of: [f]}}").replace("v.n, op", "w.n, op")
    two = two.replace("{e: {value: 3, n: 2}}", "{e: {value: 3}, f: {value: 1, n: 2}}")
    two = two.replace("{e: {value: 2, n: 2}}", "{e: {value: 2}, f: {value: 1, n: 2}}")
    two = two.replace("{e: {value: 3, n: 1}}", "{e: {value: 3}, f: {value: 1, n: 1}}")
    seen, [row] = audited(written(tmp_path, a=two), tmp_path)
    assert row["faults"] == []
    assert (seen["clauses_run"], seen["clauses_measurable"]) == ((2, 2), (1, 2))


def test_the_trace_tells_two_uses_of_one_measure_apart():
    text = CONTRACT.format(id="A").replace(
        "{v: {fn: value, of: [e]}}", "{v: {fn: value, of: [e]}, w: {fn: chance, of: [e]}}"
    )
    contract = parse_text(text.replace("v.n, op: ge, right: 2", "w.n, op: ge, right: 2"), catalog().measures)
    proof, gave = traced_proof(contract, catalog().measures)
    assert proof.ok
    assert {name: "vocabulary" in fields for name, fields in gave.items()} == {"v": False, "w": True}


def test_a_folder_of_gates_alone_is_refused(tmp_path):
    with pytest.raises(StageError, match="only gates"):
        audited(written(tmp_path, g=GATE), tmp_path)


def test_a_contract_that_does_not_load_is_an_error_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"a\.yaml:6:\d+: .*unknown measure"):
        audited(written(tmp_path, a=CONTRACT.format(id="A").replace("fn: value", "fn: valve")), tmp_path)
