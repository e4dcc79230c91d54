"""`audit.report`: an honest report is clean, and every way to dress one up is found, by its kind."""

from __future__ import annotations

import hashlib
import json

import pytest
from hrmctl_audit import tables
from hrmctl_audit.bundle import read_bundle
from hrmctl_audit.figures import mcnemar
from hrmctl_audit.params import ReportParams
from hrmctl_audit.report import KINDS, Audit, agrees, audit, run
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import StageError
from hrmctl.testing import make_artifact, make_context

from .bundles import Exported, export, honest

FAULTS = set(KINDS) - {"figures", "comparisons", "quoted", "problem_rows"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Exported:
    return export(tmp_path_factory.mktemp("audit"))


def audited(text: str, bundle: Exported) -> Audit:
    return audit(text, read_bundle(bundle.folder, bundle.quoted))


def faults(found: Audit) -> dict[str, int]:
    return {kind: found.counts[kind] for kind in FAULTS if found.counts[kind]}


def test_an_honest_report_is_clean(bundle):
    found = audited(honest(bundle), bundle)
    assert found.findings == []
    assert found.counts["figures"] == 36
    assert (found.counts["problem_rows"], found.counts["comparisons"], found.counts["quoted"]) == (4, 1, 1)


TITLE, ADDED = "# Evaluation report\n", "# Evaluation report\n\n"
OWN_TABLE = ADDED + "| a | pass@1 |\n|---|---|\n| b | 0.75 |\n"
HEAD, SHORTER = (
    "compiles | passes tests | evidence |\n|---|---|---|---|---|---|",
    "passes tests | evidence |\n|---|---|---|---|",
)
P1, NO_RUN = "0.125 to 0.875 | 4 | `{ours}`", "figures_without_run"
CHANGED = {
    "a better pass@k": ("pass@1 | 0.5 |", "pass@1 | 0.51 |", "disagreements"),
    "another k": ("pass@1 | 0.5 |", "pass@2 | 0.5 |", "disagreements"),
    "more k than samples": ("pass@1 | 0.5 |", "pass@3 | 0.5 |", NO_RUN),
    "a narrower interval": ("0.125 to 0.875", "0.4 to 0.6", "disagreements"),
    "a better p": ("| 0.5 | 4 | `{ours}` `", "| 0.04 | 4 | `{ours}` `", "disagreements"),
    "another n": ("no interval | 8 | `{speed}`", "no interval | 800 | `{speed}`", "disagreements"),
    "another unit": ("| 0.25 | s |", "| 0.25 | ms |", "disagreements"),
    "a problem that passes": ("`p2` | 2 | 1 | 0 | 0", "`p2` | 2 | 1 | 0 | 1", "disagreements"),
    "one step missing": (HEAD, SHORTER, "problem_rows_missing"),
    "a problem left out": ("| `p2` | 2 | 1 | 0 | 0 | `{ours}` |\n", "", "problem_rows_missing"),
    "a class of errors hidden": ("| runtime | 1 | 0.125", "| runtime | 0 | 0", "disagreements"),
    "another seed": ("| seed | `7`", "| seed | `8`", "disagreements"),
    "another verdict": ("| FAIL | `QS/claim`", "| PASS | `QS/claim`", "disagreements"),
    "fewer attempts": ("`r1` | 2 |", "`r1` | 1 |", "disagreements"),
    "an obligation nobody judged": ("`QS/claim`", "`QS/other`", NO_RUN),
    "no citation": (P1, "0.125 to 0.875 | 4 | none", NO_RUN),
    "a citation too short": (P1, "0.125 to 0.875 | 4 | `{ours:.6}`", NO_RUN),
    "evidence that is not there": (P1, "0.125 to 0.875 | 4 | `000000000000`", NO_RUN),
    "evidence of something else": (P1, "0.125 to 0.875 | 4 | `{speed}`", NO_RUN),
    "a sentence with a figure": (TITLE, ADDED + "It solves 75 % of them.\n", NO_RUN),
    "a figure as code": (TITLE, ADDED + "`pass@1 0.75`\n", NO_RUN),
    "a factor": (TITLE, ADDED + "It is 3x as fast.\n", NO_RUN),
    "a table of its own": (TITLE, OWN_TABLE, NO_RUN),
    "TBD": ("| 0.25 | s |", "| TBD | s |", "placeholders"),
    "a question mark": ("| 0.25 | s |", "| ? | s |", "placeholders"),
    "N/A": ("| 0.25 | s |", "| N/A | s |", "placeholders"),
    "an empty cell": ("| 0.25 | s |", "|  | s |", "placeholders"),
    "XX": ("| 0.25 | s |", "| XX.X | s |", "placeholders"),
    "a promise": (TITLE, ADDED + "TODO: results to be determined.\n", "placeholders"),
    "lorem ipsum": (TITLE, ADDED + "Lorem ipsum dolor.\n", "placeholders"),
    "a model against itself": ("`{ours}` `{theirs}`", "`{ours}` `{ours}`", "comparisons_unmeasured"),
    "a quoted rival": ("`{ours}` `{theirs}`", "`{ours}` quoted", "comparisons_unmeasured"),
    "a rival by another name": ("| `gpt2-tiny` |", "| `gpt2-117m` |", "disagreements"),
    "an unmarked quotation": ("| quoted | GPT-4", "| measured | GPT-4", "quoted_unmarked"),
    "a quotation of nothing committed": ("| 67.0 |", "| 76.0 |", "quoted_unmarked"),
    "a quotation without source": ("| https://x.org |", "| a paper |", "quoted_unmarked"),
    "another way out": ("`hrmctl eval` |", "`hrmctl check` |", "disagreements"),
    "a cell too many": ("| 0.25 | s |", "| 0.25 | s | s |", "disagreements"),
}


@pytest.mark.parametrize(("old", "new", "kind"), CHANGED.values(), ids=CHANGED)
def test_every_dressing_up_is_found(old, new, kind, bundle):
    digests = {"ours": bundle.ours, "theirs": bundle.theirs, "speed": bundle.speed}
    old, new, text = old.format(**digests), new.format(**digests), honest(bundle)
    assert text.count(old) == 1
    assert kind in faults(audited(text.replace(old, new), bundle))


def test_altered_evidence_is_found_and_carries_no_figure(tmp_path):
    bundle = export(tmp_path)
    [path] = (bundle.folder / "evidence").glob(f"{bundle.speed}*")
    path.write_text(path.read_text().replace("0.25", "0.20"))
    found = faults(audited(honest(bundle).replace("| 0.25 | s |", "| 0.2 | s |"), bundle))
    assert found == {"evidence_altered": 1, "figures_without_run": 1}


def test_what_is_named_rightly_and_is_no_evidence_is_found_too(tmp_path):
    bundle = export(tmp_path)
    text = '{"name":"x","payload":{"n":0,"unit":"","value":"TBD"},"provenance":null,"type":"measurement/v1"}'
    (bundle.folder / "evidence" / f"{hashlib.sha256(text.encode()).hexdigest()}.json").write_text(text)
    assert faults(audited(honest(bundle), bundle)) == {"evidence_altered": 1}


pieces = st.sampled_from(
    ["|", " ", "`", "\\", "\n", "---", "|---|", "0.75", "TBD", "pass@1", "evidence", "figure", "é", "1e999"]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(pieces, max_size=60), st.booleans())
def test_no_text_stops_the_auditor(bundle, parts, within):
    text = "".join(parts)
    whole = honest(bundle).replace("share of problems", text) if within else text
    found = audited(whole, bundle)
    assert sum(found.counts[kind] for kind in FAULTS) == len(found.findings)


def test_evidence_on_other_problems_is_no_comparison(tmp_path):
    bundle = export(tmp_path)
    text = honest(bundle).replace(f"`{bundle.ours}` `{bundle.theirs}`", f"`{bundle.ours}` `{bundle.speed}`")
    assert faults(audited(text, bundle)) == {"comparisons_unmeasured": 1}


def test_the_stage_reports_every_kind_and_writes_the_findings(bundle, tmp_path):
    path = tmp_path / "PHASE_3_EVALUATION_REPORT.md"
    path.write_text(honest(bundle).replace("pass@1 | 0.5 |", "pass@1 | 0.75 |"))
    report = make_artifact(path, "report", "./PHASE_3_EVALUATION_REPORT.md")
    given = {"report": report, "bundle": make_artifact(bundle.folder, "report", "./bundle")}
    given["quoted"] = make_artifact(bundle.quoted, "dataset", "./quoted.json")
    result = run(ReportParams(), given, make_context(tmp_path))
    seen = {o.name: o.payload["value"] for o in result.evidence}
    assert seen.keys() == KINDS.keys()
    assert {kind: seen[kind] for kind in FAULTS if seen[kind]} == {"disagreements": 1}
    assert all(o.about["report"] is report for o in result.evidence)
    [finding] = map(json.loads, result.artifacts["findings"].path.read_text().splitlines())
    assert finding["kind"] == "disagreements"
    assert "0.75" in finding["why"]


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_report_is_refused(text, bundle, tmp_path):
    (tmp_path / "r.md").write_text(text)
    given = {
        "report": make_artifact(tmp_path / "r.md", "report", "./r.md"),
        "bundle": make_artifact(bundle.folder, "report", "./bundle"),
    }
    with pytest.raises(StageError, match="nothing to audit"):
        run(ReportParams(), given, make_context(tmp_path))


def test_a_folder_without_evidence_is_no_bundle(tmp_path):
    with pytest.raises(StageError, match="hrmctl report --export"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("cell", "value", "right"),
    [
        ("0.312", 0.312, True), ("0.3123", 0.31234, True), ("0.31", 0.31234, False), ("0.3124", 0.31234, False),
        ("1", 1.0, True), ("0", 0.0, True), ("0.1 to 0.2", (0.1, 0.2), True), ("0.1", (0.1, 0.2), False),
        ("1.5e-05", 0.000015, True), ("1.6e-05", 0.000015, False), ("12%", 0.12, False),
        ("1e999", 0.5, False), ("0e999", 0.0, True), ("1.234e-120", 1.2341e-120, True), ("1e-300", 0.0, False),
        ("0", 1e-300, False), ("400", 400, True), ("4e2", 400, True), ("401", 400, False), ("-1", -1, True),
        ("1", -1, False), ("`7`", "7", True),
    ],
)  # fmt: skip
def test_a_number_agrees_to_four_digits(cell, value, right):
    assert agrees(cell, value) is right


def test_mcnemar_of_the_known_table():
    table = [(True, True)] * 103 + [(True, False)] * 53 + [(False, True)] * 27 + [(False, False)] * 317
    ours, theirs = ({str(i): pair[side] for i, pair in enumerate(table)} for side in (0, 1))
    assert mcnemar(ours, theirs) == pytest.approx(0.004868154, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hrm-tiny solves 12 of 20", ["12", "20"]), ("75%", ["75%"]), ("v1.2", ["1.2"]), ("pass@10 of int4", []),
        ("GPT-2", []), ("a 3x gain", ["3x"]), ("score-0.75", ["0.75"]), ("−", []), ("~40", ["~40"]),
    ],
)  # fmt: skip
def test_figures_in_running_text(text, found):
    assert tables.numbers(text) == found
