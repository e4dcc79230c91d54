"""The forms for terminals and programs: golden files, totals, names that attack."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import hrmctl_reporters
import jsonschema
import pytest
from hrmctl_reporters import attestation, badge, github, junit, machine, markdown, schema, table, tap, view
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl.registry import resolve

from .checks import ATTACK, EVERY, GREEN, HOSTILE, NOTHING, SPANS, judgement

HERE = Path(__file__).parent
FORMS = {
    "table.txt": table.report,
    "report.json": machine.json_report,
    "junit.xml": junit.report,
    "markdown.md": markdown.report,
    "github.txt": github.report,
    "badge.json": badge.endpoint,
    "badge.svg": badge.svg,
    "tap.txt": tap.report,
    "in-toto.json": attestation.report,
}
SPECS = {spec.name: spec for spec in hrmctl_reporters.hrmctl_reporters()}
CHECKS = {"every": EVERY, "attack": ATTACK, "nothing": NOTHING, "green": GREEN, "spans": SPANS}

verdicts = st.tuples(st.sampled_from(list(Verdict)), st.sampled_from(["acceptance", "hypothesis", "gate"]))


@st.composite
def checks(draw: st.DrawFn) -> CheckReport:
    drawn = draw(st.lists(verdicts, max_size=12))
    return CheckReport("c", "r", [judgement(f"C{i}/claim", v.value, k) for i, (v, k) in enumerate(drawn)], 3)


@pytest.mark.parametrize("name", FORMS)
def test_golden(name):
    path = HERE / "golden" / name
    compare(path, FORMS[name](EVERY) + "\n")


@pytest.mark.parametrize("name", ["table.txt", "markdown.md", "tap.txt", "junit.xml", "github.txt"])
def test_golden_of_several_runs(name):
    compare(HERE / "golden" / f"spans-{name}", FORMS[name](SPANS) + "\n")


def compare(path: Path, shown: str) -> None:
    if os.environ.get("HRMCTL_UPDATE_GOLDEN"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_form_takes_every_check(spec, check):
    shown = resolve(spec.target)(check)
    assert isinstance(shown, str)
    assert shown.encode()
    assert {c for c in shown if not c.isprintable()} <= ({"\n", "\u202e"} if spec.name == "json" else {"\n", "\u2060"})


@pytest.mark.parametrize("name", SPECS)
def test_every_form_is_documented(name):
    assert f"\n## `{name}`\n" in (HERE.parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")


def test_the_plugin_loads_nothing_heavy():
    script = (
        "import sys, hrmctl_reporters; hrmctl_reporters.hrmctl_reporters();"
        "sys.exit(bool({'numpy', 'scipy', 'rich', 'xml', 'html', 'hrmctl_reporters.page'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0


# --- words and totals -------------------------------------------------------------------------------


def test_verdicts_in_words():
    words = {v: view.word(judgement("A/b", v.value)) for v in Verdict}
    answers = {v: view.word(judgement("A/b", v.value, "hypothesis")) for v in Verdict}
    assert words[Verdict.PASS] == "holds"
    assert view.word(judgement("A/gate", "FAIL", "gate")) == "does not hold"
    assert [answers[v] for v in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)] == [
        "supported",
        "refuted",
        "undecided",
    ]
    assert len(set(words.values())) == len(set(answers.values())) == 6


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], "Nothing was checked, which is not a pass."),
        ([("PASS", "acceptance")], "The one acceptance claim holds."),
        ([("PASS", "acceptance"), ("PASS", "gate"), ("FAIL", "hypothesis")], "All 2 acceptance claims hold."),
        ([("FAIL", "acceptance")], "0 of 1 acceptance claims hold."),
        ([("PASS", "acceptance"), ("UNTESTED", "gate")], "1 of 2 acceptance claims holds."),
        ([("PASS", "hypothesis")], "No acceptance claims were checked, only 1 hypothesis."),
        (
            [("PASS", "acceptance"), ("INVALID", "hypothesis")],
            "The one acceptance claim holds. 1 instrument is broken.",
        ),
    ],
)
def test_conclusion(found, expected):
    assert view.conclusion([judgement(f"C{i}/s", v, k) for i, (v, k) in enumerate(found)]) == expected


@settings(deadline=None)
@given(checks())
def test_no_total_counts_a_hypothesis_as_a_claim_or_loses_one(check):
    totals = json.loads(machine.json_report(check))["totals"]
    for group, kinds in (("claims", {"acceptance", "gate"}), ("hypotheses", {"hypothesis"})):
        expected = Counter(j.verdict.value for j in check.judgements if j.kind in kinds)
        assert {k: v for k, v in totals[group].items() if v} == expected
    subjects = totals["subjects"]
    counted = Counter(j.verdict.value for j in check.judgements)
    assert {v: sum(subjects[kind][v] for kind in subjects) for v in subjects["claim"]} == {
        v.value: counted[v.value] for v in Verdict
    }
    numbers = [int(n) for n in re.findall(r"(\d+) ", view.tally(view.claims(check.judgements)))]
    assert sum(numbers) == len(view.claims(check.judgements))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"value": 0.312, "lo": 0.272, "hi": 0.352, "n": 500}, "m 0.312 [0.272, 0.352], n 500"),
        ({"value": 868_000_000, "unit": "bytes", "n": 1}, "m 868,000,000 bytes, n 1"),
        ({"value": 0.0048681541, "mcnemar_p": 1.2e-9}, "m 0.004868, mcnemar_p 1.2e-09"),
        ({"first": 6.2, "last": 0.4, "drop": 0.9, "n": 600}, "m 6.2 → 0.4, n 600"),
        ({"of": "all", "candidates": 3}, "m of all, candidates 3"),
        ({"value": True}, "m True"),
        ({"value": 123456.7}, "m 123,457"),
        ({}, "m"),
    ],
)
def test_headline(values, expected):
    assert view.headline("m", values) == expected


def test_plain_text_keeps_letters_and_shows_what_hides():
    assert view.plain("Größe 模型 ✓") == "Größe 模型 ✓"
    assert view.plain("a\nb\tc\u00a0d") == "a b c d"
    assert view.plain("\x1b[31m\u202e\ud800\x00\u200b") == "\\x1b[31m\\u202e\\ud800\\x00\\u200b"


# --- table ------------------------------------------------------------------------------------------


def test_table_aligns_wide_characters():
    check = CheckReport("c", "", [judgement("模型/s", "PASS"), judgement("ABCD/s", "PASS")], 0)
    measured = [replace(j, measured={"m": {"value": 1}}) for j in check.judgements]
    lines = table.report(replace(check, judgements=measured)).splitlines()
    assert lines[2:5:2] == ["PASS  模型/s  m 1", "PASS  ABCD/s  m 1"]
    accented = [replace(j, contract=name) for j, name in zip(measured, ("E\u0301A", "EA"), strict=True)]
    lines = table.report(replace(check, judgements=accented)).splitlines()
    assert lines[2:5:2] == ["PASS  E\u0301A/s  m 1", "PASS  EA/s  m 1"]


def test_table_cuts_what_is_claimed_to_the_width_of_the_terminal():
    titles = ["The model solves half of the problems", "Le modèle résout 模型模型模型模型 problèmes", "Short"]
    check = CheckReport("c", "", [judgement(f"A{i}/s", "PASS", title=title) for i, title in enumerate(titles)], 0)
    whole = table.report(check).splitlines()
    assert [line.strip() for line in whole[3:9:2]] == titles
    cut = table.report(check, width=32).splitlines()
    assert cut[3:9:2] == ["      The model solves half of…", "      Le modèle résout 模型模型…", "      Short"]
    assert cut[2:9:2] == whole[2:9:2]
    assert table.report(check, width=10).splitlines() == whole, "too narrow for any word"


def test_table_cuts_a_title_of_any_length_at_once():
    """In one pass over it: a hostile contract must not keep a terminal waiting."""
    check = CheckReport("c", "", [judgement("A/s", "PASS", title="word " * 200_000)], 0)
    started = time.perf_counter()
    assert table.report(check, width=32).splitlines()[3] == "      word word word word word…"
    assert time.perf_counter() - started < 30


def test_explanation_names_the_rule_of_a_gate_once():
    told = judgement("A/gate", "INCONCLUSIVE", "gate", because="rest", reason="HOLD by the last rule, `rest`: so")
    assert view.explanation(told) == "HOLD by the last rule, `rest`: so"
    assert view.explanation(replace(told, reason="HOLD: so")) == "rest: HOLD: so"


def test_a_pass_needs_no_reason():
    shown = table.report(CheckReport("c", "", [judgement("A/s", "PASS", reason="fine", remedy="nothing")], 0))
    assert "fine" not in shown
    assert "nothing" not in shown


def test_table_says_that_refuting_is_the_tool_working_only_where_something_is_refuted():
    assert view.REFUTED_LINE in table.report(EVERY)
    assert view.REFUTED_LINE not in table.report(GREEN)


# --- json and badge ---------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_json_follows_its_schema_and_keeps_every_character(check):
    found = json.loads(machine.json_report(check))
    jsonschema.Draft202012Validator(schema.CHECK_SCHEMA).validate(found)
    for row, given_ in zip(found["judgements"], check.judgements, strict=True):
        assert (row["obligation"], row["title"], row["verdict"]) == (given_.obligation, given_.title, given_.verdict)
        assert row["measured"] == given_.measured


def test_the_schema_names_every_field_of_a_judgement():
    assert set(Judgement.__dataclass_fields__) | {"obligation", "word"} == set(
        schema.CHECK_SCHEMA["properties"]["judgements"]["items"]["properties"]
    )


def test_totals_by_kind_of_subject_keep_proxies_apart():
    subjects = json.loads(machine.json_report(SPANS))["totals"]["subjects"]
    assert {kind: {v: n for v, n in found.items() if n} for kind, found in subjects.items()} == {
        "claim": {"PASS": 1, "UNTESTED": 1, "FAIL": 1},
        "proxy": {"FAIL": 1},
        "other": {},
    }


def test_the_committed_schema_is_that_of_the_code():
    committed = json.loads((HERE.parents[2] / "docs/schema/check.json").read_text(encoding="utf-8"))
    assert committed == schema.CHECK_SCHEMA, "run: make docs"
    jsonschema.Draft202012Validator.check_schema(committed)


@pytest.mark.parametrize(
    ("found", "message", "color"),
    [
        ([], "nothing checked", "lightgrey"),
        ([("PASS", "hypothesis")], "nothing checked", "lightgrey"),
        ([("PASS", "acceptance"), ("FAIL", "hypothesis")], "1 of 1 hold", "brightgreen"),
        ([("PASS", "acceptance"), ("FAIL", "gate")], "1 of 2 hold", "red"),
        ([("PASS", "acceptance"), ("UNTESTED", "acceptance")], "1 of 2 hold", "orange"),
        ([("BLOCKED", "acceptance")], "0 of 1 hold", "orange"),
        ([("PASS", "acceptance"), ("INVALID", "hypothesis")], "1 invalid, 1 of 1 hold", "red"),
    ],
)
def test_badge(found, message, color):
    check = CheckReport("c", "r", [judgement(f"C{i}/s", v, k) for i, (v, k) in enumerate(found)], 0)
    shown = json.loads(badge.endpoint(check))
    assert (shown["schemaVersion"], shown["message"], shown["color"]) == (1, message, color)
    assert shown["isError"] is (color == "red")


# --- junit ------------------------------------------------------------------------------------------


def passed(case: ET.Element) -> bool:
    return not any(case.find(tag) is not None for tag in ("failure", "error", "skipped"))


@settings(deadline=None)
@given(checks())
def test_junit_passes_only_what_is_proven_or_answered(check):
    root = ET.fromstring(junit.report(check))
    cases = {case.get("classname"): case for case in root.iter("testcase")}
    for j in check.judgements:
        case, answered = cases[j.contract], j.kind == "hypothesis" and j.verdict in ("PASS", "FAIL", "INCONCLUSIVE")
        assert passed(case) is (j.verdict == "PASS" or answered)
        if not answered:
            assert (case.find("failure") is not None) is (j.verdict == "FAIL")
            assert (case.find("error") is not None) is (j.verdict == "INVALID")
    for element in (root, *root.iter("testsuite")):
        counts = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
        for attribute in counts:
            assert int(element.get(attribute)) == len(list(element.iter(counts[attribute])))


JUNIT_10 = {
    "testsuites": ({"name", "time", "tests", "failures", "errors", "skipped"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "time", "classname"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    **dict.fromkeys(("failure", "error", "skipped"), ({"type", "message"}, set())),
    "system-out": (set(), set()),
}
"""Attributes and children by element, of Jenkins's junit-10.xsd (xunit-plugin), as far as they are used here.

It has no `skipped` for `testsuites`, which the readers that show totals of a file look for.
"""


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_junit_follows_the_schema_of_jenkins(check):
    for element in ET.fromstring(junit.report(check)).iter():
        attributes, children = JUNIT_10[element.tag]
        assert set(element.keys()) <= attributes
        assert {child.tag for child in element} <= children


def test_junit_suites_carry_the_totals_that_skipped_hides():
    claims, asked = ET.fromstring(junit.report(EVERY)).iter("testsuite")
    totals = {p.get("name"): int(p.get("value")) for p in claims.find("properties")}
    expected = {"PASS": 1, "FAIL": 2, "INVALID": 1, "BLOCKED": 1, "UNTESTED": 1, "INCONCLUSIVE": 1}
    assert totals == {f"total.{verdict}": n for verdict, n in expected.items()}
    assert [
        case.find("skipped").get("message") for case in asked.iter("testcase") if case.find("skipped") is not None
    ] == ["UNTESTED: no evidence e"]


def test_junit_of_nothing_is_not_green():
    root = ET.fromstring(junit.report(NOTHING))
    assert (root.get("tests"), root.get("errors")) == ("1", "1")


def test_junit_says_why_and_what_was_measured():
    cases = {c.get("classname"): c for c in ET.fromstring(junit.report(EVERY)).iter("testcase")}
    failure = cases["QS-SIZE"].find("failure")
    assert (failure.get("type"), failure.text) == ("FAIL", "hrmctl quantize --scheme int4")
    assert "not less than 0.5" in failure.get("message")
    assert "guess.value = 6.238324625039508" in cases["QS-LOSS"].find("system-out").text.splitlines()
    assert "refuted" in cases["HRM-GPT2"].find("system-out").text


def test_junit_survives_hostile_names():
    root = ET.fromstring(junit.report(ATTACK))
    assert {c.get("classname") for c in root.iter("testcase")} == {view.plain(HOSTILE)}
    assert {e.tag for e in root.iter()} <= {
        "testsuites",
        "testsuite",
        "testcase",
        "properties",
        "property",
        "failure",
        "error",
        "skipped",
        "system-out",
    }


# --- markdown and github ----------------------------------------------------------------------------


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_markdown_tables_keep_their_shape_under_attack():
    rows = [line for line in markdown.report(ATTACK).splitlines() if line.startswith("|")]
    assert len(rows) == 2 * 2 + len(ATTACK.judgements)
    assert {len(cells(row)) for row in rows} == {6}


def test_markdown_text_is_literal():
    shown = markdown.text("<b> [x](http://evil) @user a_b *c* `d` | www.evil.com $x$ #1 &amp; \\")
    assert "<" not in shown
    assert not re.search(r"(?<!\\)[\[\]*_`|$#]", shown)
    assert "://" not in shown
    assert "@u" not in shown
    assert "www." not in shown
    assert "&amp;amp;" in shown


@pytest.mark.parametrize("text", ["a", "`", "a`b", "``x", "x``", "a|b", "", "a ``` b"])
def test_markdown_code_spans_cannot_be_closed_from_within(text):
    shown = markdown.code(text)
    fence = re.match("`+", shown).group()
    inner = shown[len(fence) : -len(fence)]
    assert shown.endswith(fence)
    assert fence not in re.findall("`+", inner)
    assert "`" not in (inner[0], inner[-1])
    assert inner.replace("\\|", "|").strip() == text.strip()


def test_github_commands_cannot_be_injected():
    lines = github.report(ATTACK).splitlines()
    # Every claim but the passing one, every hypothesis, and the conclusion.
    assert len(lines) == 2 + 3 + 1
    assert all(re.fullmatch(r"::(error|warning|notice) title=[^:,\r\n]*::[^\r\n]*", line) for line in lines)


@pytest.mark.parametrize(
    ("verdict", "kind", "level"),
    [
        ("PASS", "acceptance", None),
        ("FAIL", "gate", "error"),
        ("UNTESTED", "acceptance", "error"),
        ("INCONCLUSIVE", "acceptance", "error"),
        ("INVALID", "hypothesis", "error"),
        ("BLOCKED", "hypothesis", "warning"),
        ("FAIL", "hypothesis", "notice"),
        ("PASS", "hypothesis", "notice"),
    ],
)
def test_github_levels(verdict, kind, level):
    lines = github.report(CheckReport("c", "r", [judgement("C/s", verdict, kind)], 0)).splitlines()[:-1]
    assert [line.split(" ")[0] for line in lines] == ([f"::{level}"] if level else [])


def test_github_escapes():
    check = CheckReport("c", "r", [judgement("A,B:100%/s", "FAIL", title="50%0A, all: of it")], 1)
    assert github.report(check).splitlines()[0] == "::error title=FAIL A%2CB%3A100%25/s::50%250A, all: of it"


def test_github_of_nothing_is_an_error():
    assert github.report(NOTHING).startswith("::error ")
