"""TAP, the SVG badge and the in-toto Statement, read by parsers that are not ours where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml
from hrmctl_reporters import attestation, badge, tap, view
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import CheckReport, Verdict

from .checks import ATTACK, DIGEST, EVERY, GREEN, NOTHING, SPANS, judgement
from .test_page import contrast

verdicts = st.tuples(st.sampled_from(list(Verdict)), st.sampled_from(["acceptance", "hypothesis", "gate"]))
CHECKS = {"every": EVERY, "attack": ATTACK, "nothing": NOTHING, "green": GREEN, "spans": SPANS}


@st.composite
def checks(draw: st.DrawFn) -> CheckReport:
    drawn = draw(st.lists(verdicts, max_size=8))
    return CheckReport("c", "r", [judgement(f"C{i}/claim", v.value, k) for i, (v, k) in enumerate(drawn)], 3)


# --- tap --------------------------------------------------------------------------------------------

POINT = re.compile(r"(not )?ok (\d+) - ((?:[^\\#]|\\.)*)")


def points(text: str) -> Iterator[tuple[bool, str, dict]]:
    """Every test point of a TAP 14 document, read strictly by its grammar: no directive, one YAML block each."""
    lines = text.splitlines()
    assert lines[0] == "TAP version 14"
    planned = int(re.fullmatch(r"1\.\.(\d+)", lines[1])[1])
    index, number = 2, 0
    while index < len(lines) and not lines[index].startswith("#"):
        match, number = POINT.fullmatch(lines[index]), number + 1
        assert match, lines[index]
        assert int(match[2]) == number
        assert lines[index + 1] == "  ---"
        end = lines.index("  ...", index)
        block = [line.removeprefix("  ") for line in lines[index + 2 : end]]
        yield not match[1], re.sub(r"\\(.)", r"\1", match[3]), yaml.safe_load("\n".join(block))
        index = end + 1
    assert number == planned
    assert index == len(lines) - 1


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_tap_has_one_point_an_obligation(check):
    found = list(points(tap.report(check)))
    assert [ok for ok, _, _ in found] == ([view.passed(j) for j in check.judgements] or [False])
    for (_, name, block), j in zip(found, check.judgements, strict=bool(check.judgements)):
        assert name.replace("\u2060", "") == view.plain(j.obligation)
        assert (block["verdict"], block["attempts"]) == (j.verdict, j.attempts)
        assert block.get("measured", {}).keys() == {view.plain(m) for m in j.measured}
        if j.verdict != "PASS" and j.remedy:
            assert block["remedy"] == view.plain(j.remedy)


@settings(deadline=None)
@given(checks())
def test_tap_is_green_only_for_what_is_proven_or_answered(check):
    for (ok, _, block), j in zip(points(tap.report(check)), check.judgements, strict=bool(check.judgements)):
        answered = j.kind == "hypothesis" and j.verdict in ("PASS", "FAIL", "INCONCLUSIVE")
        assert ok is (j.verdict == "PASS" or answered)
        assert block["verdict"] == j.verdict


def test_tap_of_nothing_is_one_failure_and_no_plan_of_zero():
    assert [ok for ok, _, _ in points(tap.report(NOTHING))] == [False]


@pytest.mark.parametrize("name", ["A # SKIP all is well", "A #skip", "A \\# TODO", "# TODO", "A #\tSkip"])
def test_no_name_is_a_directive(name):
    check = CheckReport("c", "r", [judgement("", "FAIL", contract=name, subject="s")], 1)
    line = tap.report(check).splitlines()[2]
    assert not re.search(r"#\s*(skip|todo)", line, re.IGNORECASE)
    [(ok, read, _)] = points(tap.report(check))
    assert (ok, read.replace("\u2060", "")) == (False, view.plain(f"{name}/s"))


@pytest.mark.skipif(shutil.which("prove") is None, reason="Perl's TAP::Harness is the independent parser")
@pytest.mark.parametrize(("name", "failed"), [("every", "7/11"), ("nothing", "1/1"), ("green", ""), ("spans", "2/4")])
def test_the_harness_of_perl_agrees(name, failed, tmp_path):
    # It knows no version above 13, whose readers 14 is made for.
    path = tmp_path / "check.tap"
    path.write_text(tap.report(CHECKS[name]).replace("version 14", "version 13") + "\n", encoding="utf-8")
    done = subprocess.run(["prove", "-e", "cat", str(path)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert (done.returncode != 0) is bool(failed), said
    assert f"Failed {failed} subtests" in said if failed else "Result: PASS" in said
    assert not re.search("skipped|TODO|Parse errors", said)


# --- badge-svg --------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_picture_says_what_the_endpoint_says_and_loads_nothing(check):
    root = ET.fromstring(badge.svg(check))
    message = json.loads(badge.endpoint(check))["message"]
    space = "{http://www.w3.org/2000/svg}"
    assert [e.text for e in root.iter(f"{space}text")] == ["hrmctl", message]
    assert root.find(f"{space}title").text == root.get("aria-label") == f"hrmctl: {message}"
    assert root.get("role") == "img"
    assert {e.tag.removeprefix(space) for e in root.iter()} == {"svg", "title", "rect", "g", "text"}
    assert not [a for e in root.iter() for a in e.attrib if "href" in a or a.startswith("on") or a == "style"]


def test_no_message_can_become_markup(monkeypatch):
    monkeypatch.setattr(badge, "summary", lambda check: ('</text><script>"&', "red"))
    root = ET.fromstring(badge.svg(GREEN))
    assert root.get("aria-label") == 'hrmctl: </text><script>"&'
    assert [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")] == ["hrmctl", '</text><script>"&']


def test_white_text_can_be_read_on_every_colour():
    assert all(contrast("#ffffff", color) >= 4.5 for color in badge.COLORS.values())


# --- in-toto ----------------------------------------------------------------------------------------

DIGESTS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {"sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
}
RESOURCE = {
    "type": "object",
    "required": ["digest"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "uri": {"type": "string"},
        "digest": DIGESTS,
        "annotations": {"type": "object"},
    },
}
TESTS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
STATEMENT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["_type", "subject", "predicateType", "predicate"],
    "properties": {
        "_type": {"const": "https://in-toto.io/Statement/v1"},
        "subject": {"type": "array", "minItems": 1, "items": RESOURCE},
        "predicateType": {"const": "https://in-toto.io/attestation/test-result/v0.1"},
        "predicate": {
            "type": "object",
            "additionalProperties": False,
            "required": ["result", "configuration"],
            "properties": {
                "result": {"enum": ["PASSED", "WARNED", "FAILED"]},
                "configuration": {"type": "array", "items": RESOURCE},
                "url": {"type": "string"},
                **dict.fromkeys(("passedTests", "warnedTests", "failedTests"), TESTS),
            },
        },
    },
}
"""Statement v1 and test-result v0.1 as https://github.com/in-toto/attestation specifies them."""


@pytest.mark.parametrize("name", ["every", "nothing", "green", "spans"])
def test_the_statement_follows_the_specification(name):
    check = CHECKS[name]
    found = json.loads(attestation.report(check))
    jsonschema.validate(found, STATEMENT)
    tests = found["predicate"]
    named = [*tests["passedTests"], *tests["warnedTests"], *tests["failedTests"]]
    assert sorted(named) == sorted(j.obligation for j in check.judgements)


@settings(deadline=None)
@given(checks())
def test_the_statement_never_passes_what_is_not_proven(check):
    tests = json.loads(attestation.report(check))["predicate"]
    for j in check.judgements:
        if j.kind == "hypothesis":
            group = "warned" if j.verdict in ("PASS", "FAIL", "INCONCLUSIVE") else "failed"
        else:
            group = "passed" if j.verdict == "PASS" else "failed"
        assert j.obligation in tests[f"{group}Tests"]
    if tests["result"] != "FAILED":
        assert view.claims(check.judgements)
        assert all(j.verdict == "PASS" for j in view.claims(check.judgements))


@pytest.mark.parametrize(("name", "result"), [("every", "FAILED"), ("nothing", "FAILED"), ("green", "PASSED")])
def test_the_result(name, result):
    assert json.loads(attestation.report(CHECKS[name]))["predicate"]["result"] == result


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_an_answered_hypothesis_alone_has_passed_nothing(verdict):
    asked = judgement("H/claim", verdict, "hypothesis")
    found = json.loads(attestation.report(replace(GREEN, judgements=[asked])))["predicate"]
    assert (found["result"], found["passedTests"], found["warnedTests"]) == ("FAILED", [], ["H/claim"])


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_an_answered_hypothesis_is_a_warning(verdict):
    asked = judgement("H/claim", verdict, "hypothesis")
    found = json.loads(attestation.report(replace(GREEN, judgements=[*GREEN.judgements, asked])))
    assert (found["predicate"]["result"], found["predicate"]["warnedTests"]) == ("WARNED", ["H/claim"])


def test_subjects_are_the_artifacts_judged_each_seed_on_its_own():
    seeds = judgement("S/claim", "PASS", subjects={"model": f"{DIGEST}+{DIGEST[::-1]}"}, labels={"model": "hrm-tiny"})
    found = json.loads(attestation.report(CheckReport("c", "r", [seeds, *EVERY.judgements], 3)))
    assert [(s["name"], s["digest"]["sha256"], s["annotations"]["role"]) for s in found["subject"]] == [
        ("hrm-tiny", DIGEST, "model"), ("hrm-tiny", DIGEST[::-1], "model"),
    ]  # fmt: skip
    contracts = {c["name"]: c["digest"]["sha256"] for c in found["predicate"]["configuration"]}
    assert contracts == {j.contract: DIGEST for j in [seeds, *EVERY.judgements]}
