"""Evidence that is none, and measures that lie or break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrmctl import Evidence, MeasureSpec
from hrmctl.contract import Contract, parse_text
from hrmctl.contract.facts import Stop
from hrmctl.plugins import catalog

from .attacks import (
    CHANCE,
    DATA,
    MODEL,
    ODD,
    PLAIN,
    RATIO,
    SOLVES,
    attack,
    judged,
    samples,
    seen,
    value,
)
from .conftest import MEASURES, on_value

# --- evidence that is none ------------------------------------------------------------------------------------------

judged("no evidence: the controls are the only", "UNTESTED", "no evidence v", [])
judged("evidence that no run made", "INVALID", "of no run", replace(value(11), provenance=None))
judged("a text for a number", "INVALID", "value is '11', not a number", value("11"))
judged("true for 1", "INVALID", "value is True, not a number", value(True))
judged("a list for a number", "INVALID", "not a number", value([11]))
judged("not a number", "INVALID", "not a finite number", value(float("nan")))
judged("infinity", "INVALID", "not a finite number", value(float("inf")))
judged("minus infinity under a reversed bar", "INVALID", "not a finite number", value(float("-inf")))
judged(
    "NaN where nobody looks",
    "INVALID",
    "not a finite number",
    seen({"value": 11, "unit": "", "n": 1, "trials": [11, float("nan")]}),
)
judged(
    "a placeholder where nobody looks",
    "INVALID",
    "the placeholder",
    seen({"value": 11, "unit": "", "n": 1, "context": {"source": " tbd "}}),
)
judged("a measurement of nothing", "INVALID", "n is 0", seen({"value": 11, "unit": "", "n": 0}))
judged("true measurements", "INVALID", "n is True", seen({"value": 11, "unit": "", "n": True}))
judged("just below, as floats have it", "FAIL", "is not ≥", value(10 - 2e-15))
judged(
    "an integer that a float cannot tell from the bar",
    "FAIL",
    "is not ≥",
    value(2**53),
    PLAIN.replace("10", str(2**53 + 1)).replace("value: 9", f"value: {2**53}"),
)
judged(
    "a number too small to be there",
    "FAIL",
    "is not >",
    value(5e-324),
    on_value(
        "  - {id: target, left: m.value, op: gt, right: 1.0e-320}",
        "  - {expect: PASS, data: {v: {value: 1.0e-319}}}\n"
        "  - {expect: FAIL, because: target, data: {v: {value: 1.0e-320}}}",
    ),
)
judged(
    "a negative zero above zero",
    "FAIL",
    "is not >",
    value(-0.0),
    on_value(
        "  - {id: target, left: m.value, op: gt, right: 0}",
        "  - {expect: PASS, data: {v: {value: 1.0e-9}}}\n  - {expect: FAIL, because: target, data: {v: {value: 0}}}",
    ),
)
judged("an integer of four hundred digits below the bar", "FAIL", "is not ≥", value(-(10**400)))
judged("no problems at all", "INVALID", "problems is empty", samples([]), SOLVES)
judged("one problem twice", "INVALID", "occurs twice", samples([{"id": "p/1", "n": 1, "c": 1}] * 5), SOLVES)
judged("more passes than samples", "INVALID", "says 2 of 1 passed", samples([2, 0, 0, 0, 0]), SOLVES)
judged(
    "passes that the outcomes deny",
    "INVALID",
    "its outcomes say otherwise",
    samples([{"id": "a", "n": 1, "c": 1, "outcomes": ["timeout"]}, 0, 0, 0, 0]),
    SOLVES,
)
judged("true passes", "INVALID", "says True of 1 passed", samples([{"id": "a", "n": 1, "c": True}, 0, 0, 0, 0]), SOLVES)
judged("the problems that it can solve", "INVALID", "whole", samples([1, 1, 1]), SOLVES)
judged("another model", "UNTESTED", "about hrm-tiny", value(11, model="hrm-27m"))
judged("a model that looks like it", "UNTESTED", "about hrm-tiny", value(11, model="hrm\N{NON-BREAKING HYPHEN}tiny"))
judged("a local folder that is called like it", "UNTESTED", "about hrm-tiny", value(11, model="./hrm-tiny"))
judged("another data set", "UNTESTED", "microcode@test", samples([1] * 5, data="microcode@train"), SOLVES)
judged(
    "samples of no model: the references",
    "UNTESTED",
    "about hrm-tiny",
    replace(samples([1] * 5), provenance=replace(samples([1] * 5).provenance, labels={"dataset": DATA})),
    SOLVES,
)
judged("another kind of stage", "UNTESTED", "of a stage eval", value(11, uses="import"))
judged("another observation", "UNTESTED", "speed", value(11, name="loss"))
judged("the best of ten", "INVALID", "10 candidates", [value(n, digest=f"m{n}") for n in range(10)])
judged("the best of ten on one model", "INVALID", "pieces of evidence", [value(n) for n in range(10)])
judged(
    "the luckiest of ten p values",
    "FAIL",
    "shown",
    [value(0.01 * n, digest=f"m{n}") for n in range(1, 11)],
    CHANCE + "\nselect: {of: all, correct: holm}\n",
)
judged(
    "the lucky cells of a matrix",
    "BLOCKED",
    "some cells of a matrix",
    value(11),
    partial={value(11).digest: "a[seed=2] failed"},
)
judged("a stage that failed", "BLOCKED", "stage e failed", [], stopped={"eval": [Stop("e", "stage e failed: full")]})
judged(
    "a ratio to itself under two names",
    "INVALID",
    "compared with itself",
    [value(4, digest="x"), value(2, model="gpt2", digest="x")],
    RATIO,
)
judged("one side of a ratio", "UNTESTED", "no evidence theirs", [value(4)], RATIO)
judged("a ratio to nothing", "INCONCLUSIVE", "r cannot decide", [value(4), value(0, model="gpt2")], RATIO)
judged("a ratio to minus nothing", "INCONCLUSIVE", "r cannot decide", [value(4), value(-0.0, model="gpt2")], RATIO)

# --- measures that lie or break -------------------------------------------------------------------------------------

judged("a measure that returns NaN", "INVALID", "value is nan", value(1), ODD)
judged("a measure that returns a list", "INVALID", "value is a list", value(2), ODD)
judged("a measure that returns nothing", "INVALID", "m broke", value(3), ODD)
judged("a measure that forgets the field", "INVALID", "was not measured", value(4), ODD)
judged("a measure that returns a text", "INVALID", "cannot compare it", value(5), ODD)
judged("a measure that returns true", "INVALID", "cannot compare it", value(6), ODD)
judged("a measure that breaks", "INVALID", "ZeroDivisionError", value(13), ODD)


def generous(evidence: Sequence[Evidence], params: Any) -> dict[str, Any]:
    """Improves the evidence that it is given, for the next measure."""
    evidence[0].payload["value"] = 1000  # type: ignore[index]
    source = evidence[0].provenance
    if source is not None:
        source.labels["model"] = "hrm-27m"  # type: ignore[index]
    return {"value": 1, "n": 1, "unit": ""}


@attack("a measure that improves its evidence for the next", "FAIL", "m.value 9 is not ≥ 10")
def _(folder: Path) -> str:
    both = PLAIN.replace("measure: {m", "measure: {a: {fn: generous, of: [v]}, m")
    both = both.replace("require:", "require:\n  - {id: one, left: a.value, op: eq, right: 1}")
    measures = {**MEASURES, "generous": replace(MEASURES["value"], name="generous", target=f"{__name__}:generous")}
    contract = parse_text(both, measures)
    assert isinstance(contract, Contract)
    item = value(9)
    from hrmctl.contract.evaluate import judge

    outcome = judge(contract, {"v": item}, measures)
    assert item.payload["value"] == 9
    assert item.provenance is not None
    assert item.provenance.labels == {"model": MODEL}
    return f"{outcome.verdict} {outcome.reason}"


# --- the real measures ----------------------------------------------------------------------------------------------


def of_statistics(fn: str, **pieces: Evidence) -> str:
    """What a measure of the statistics plugin says of evidence, as a verdict."""
    from hrmctl.contract.evaluate import take

    measures = catalog().measures
    spec: MeasureSpec = measures[fn]
    names = ", ".join(pieces)
    queries = "\n".join(f"  {n}: {{type: {e.type}, stage: eval, name: {n}}}" for n, e in pieces.items())
    field = next(iter(spec.returns))
    text = f"""\
kind: contract
id: S
title: statistics
subjects: {{it: {{model: {MODEL}}}}}
evidence:
{queries}
measure: {{m: {{fn: {fn}, of: [{names}]}}}}
require:
  - {{id: c, left: m.{field}, op: ge, right: 0}}
controls:
  - {{expect: FAIL, because: c, data: {{}}}}
"""
    contract = parse_text(text, measures)
    assert isinstance(contract, Contract)
    measured = take(contract, pieces, measures)
    return " ".join(f"{fault.verdict} {fault.reason}" for fault in measured.faults) or f"measured {measured.values}"


@attack("a ratio to nothing, by the real measure", "IN", "m ")
def _(folder: Path) -> str:
    return of_statistics("ratio", a=value(4), b=value(0))


@attack("a test of significance on one problem", "INCONCLUSIVE", "cannot show a spread")
def _(folder: Path) -> str:
    return of_statistics("paired_delta", a=samples([1]), b=samples([0], model="gpt2"))


@attack("an interval of one trial", "no interval", "'trials': 1")
def _(folder: Path) -> str:
    """A clause on a bound that was not measured is INVALID, as that on a field that a measure forgets."""
    one = seen({"value": 11.0, "unit": "s", "n": 1, "trials": [11.0]})
    two = seen({"value": 5.0, "unit": "s", "n": 1, "trials": [5.0]}, model="gpt2", name="b")
    said = of_statistics("ratio", a=one, b=two)
    assert "'lo'" not in said
    assert "'p'" not in said
    return f"no interval: {said}"


@attack("samples that are not of the same problems", "INVALID", "m cannot be measured")
def _(folder: Path) -> str:
    return of_statistics(
        "paired_delta", a=samples([1, 1, 1]), b=samples([{"id": f"q/{i}", "n": 1, "c": 0} for i in range(3)])
    )


@attack("pass@10 from one sample", "INVALID", "m cannot be measured")
def _(folder: Path) -> str:
    return of_statistics("paired_delta", a=samples([1, 1]), b=samples([1]))
