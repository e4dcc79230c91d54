"""`audit.report`: an honest report is clean, and every way to dress one up is found, by its kind."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

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

FAULTS = set(KINDS) - {"figures", "comparisons", "quoted", "problem_rows", "verdicts"}


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
    assert found.counts["figures"] == 55
    assert (found.counts["problem_rows"], found.counts["comparisons"], found.counts["quoted"]) == (8, 1, 1)
    assert found.counts["verdicts"] == 2


TITLE, ADDED = "# Evaluation report\n", "# Evaluation report\n\n"
OWN_TABLE = ADDED + "| a | pass@1 |\n|---|---|\n| b | 0.75 |\n"
HEAD, SHORTER = (
    "compiles | passes tests | evidence |\n|---|---|---|---|---|---|\n| `p0` | 2 | 2 |",
    "passes tests | evidence |\n|---|---|---|---|---|\n| `p0` | 2 |",
)
P1, NO_RUN = "0.125 to 0.875 | 4 | `{ours}`", "figures_without_run"
FAILED = (
    "| FAIL | `QS/claim` | At least 90 % pass | `r1` | 2 | most: p.value is 0.5, not 0.9 | `hrmctl eval` | `{ours}` |\n"
)
VERDICT_HEAD = "| verdict | obligation | claim | run |"
PASS_AT_1 = "| pass@1 | 0.25 | share of problems | 0 to 0.5 | 4 | `{theirs}` |\n"
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
    "fewer attempts": (
        "`QS/claim` | At least 90 % pass | `r1` | 2",
        "`QS/claim` | At least 90 % pass | `r1` | 1",
        "disagreements",
    ),
    "a FAIL left out": (FAILED, "", "verdicts_missing"),
    "a FAIL under columns of its own": (VERDICT_HEAD, VERDICT_HEAD.replace("claim", "title"), "verdicts_missing"),
    "a model left out": (PASS_AT_1, "", "evaluations_missing"),
    "a figure in a code span that a reason says": (TITLE, ADDED + "`p.value is 0.5, not 0.9`\n", NO_RUN),
    "a figure in a code span that a title says": (TITLE, ADDED + "`At least 90 % pass`\n", NO_RUN),
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
    "another way out": (FAILED, FAILED.replace("eval", "check"), "disagreements"),
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


def rewritten(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_verdict_rewritten_in_report_and_check_is_not_what_the_ledger_records(tmp_path):
    bundle = export(tmp_path)
    rewritten(bundle.folder / "check.json", '"verdict":"FAIL"', '"verdict":"PASS"')
    text = honest(bundle).replace("| FAIL | `QS/claim`", "| PASS | `QS/claim`")
    found = audited(text, bundle)
    assert faults(found) == {"verdicts_unrecorded": 1}
    [finding] = found.findings
    assert (finding.text, finding.why) == ("QS/claim", "the ledger records another verdict")


def test_a_verdict_dropped_from_report_and_check_is_still_recorded(tmp_path):
    bundle = export(tmp_path)
    path = bundle.folder / "check.json"
    check = json.loads(path.read_text())
    check["judgements"] = [row for row in check["judgements"] if row["verdict"] != "FAIL"]
    path.write_text(json.dumps(check))
    text = honest(bundle).replace(FAILED.format(ours=bundle.ours), "")
    found = audited(text, bundle)
    assert faults(found) == {"verdicts_unrecorded": 1}
    assert found.findings[0].why == "recorded as FAIL, not in the check"


def test_without_the_ledger_nothing_is_recorded(tmp_path):
    bundle = export(tmp_path)
    (bundle.folder / "ledger.jsonl").unlink()
    assert faults(audited(honest(bundle), bundle)) == {"verdicts_unrecorded": 2}


def rehashed(row: dict) -> dict:
    own = {key: value for key, value in row.items() if key != "hash"}
    text = json.dumps(own, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {**own, "hash": hashlib.sha256(text.encode()).hexdigest()}


LEDGERS = {
    "a row rewritten": (lambda rows: [{**rows[0], "verdict": "PASS"}, *rows[1:]], "hash that it says"),
    "a row rewritten and hashed anew": (
        lambda rows: [rehashed({**rows[0], "verdict": "PASS"}), *rows[1:]],
        "does not follow",
    ),
    "a row dropped": (lambda rows: [rows[0], *rows[2:]], "does not follow"),
    "the last rows dropped": (lambda rows: rows[:1], "that the head names"),
    "the last row rewritten": (lambda rows: [*rows[:-1], rehashed({**rows[-1], "verdict": "FAIL"})], "the head names"),
    "no row": (lambda rows: [], "that the head names"),
    "something else": (lambda rows: [*rows, "row"], "a row lacks"),
    "a row without its names": (lambda rows: [rehashed({"seq": 1})], "lacks check, contract, prev"),
}


@pytest.mark.parametrize(("change", "why"), LEDGERS.values(), ids=LEDGERS)
def test_a_ledger_whose_chain_is_broken_is_altered_evidence_and_records_nothing(change, why, tmp_path):
    bundle = export(tmp_path)
    path = bundle.folder / "ledger.jsonl"
    rows = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = audited(honest(bundle), bundle)
    assert faults(found) == {"evidence_altered": 1, "verdicts_unrecorded": 2}
    [altered] = [finding.text for finding in found.findings if finding.kind == "evidence_altered"]
    assert altered.startswith("ledger.jsonl: ")
    assert why in altered


@pytest.mark.parametrize("head", [None, "[]", "{}", "{", "\ud800"])
def test_a_ledger_without_a_head_is_broken(head, tmp_path):
    bundle = export(tmp_path)
    path = bundle.folder / "ledger.head.json"
    path.unlink() if head is None else path.write_bytes(head.encode(errors="surrogatepass"))
    assert faults(audited(honest(bundle), bundle)) == {"evidence_altered": 1, "verdicts_unrecorded": 2}


ODD = {
    "no obligation": ("check.json", '{"judgements": [{}]}', "judgement 1 lacks 'obligation'"),
    "a judgement that is no object": ("check.json", '{"judgements": [3]}', "judgement 1 lacks 'obligation'"),
    "no judgements": ("check.json", "{}", "no list 'judgements'"),
    "judgements that are no list": ("check.json", '{"judgements": 3}', "no list 'judgements'"),
    "no JSON": ("check.json", "{", "check.json: "),
    "no check": ("check.json", None, "no file 'check.json'"),
    "no quoted figures": ("../quoted.json", "{}", "quoted.json has no list 'figures'"),
    "a quoted figure without a system": ("../quoted.json", '{"figures": [{}]}', "figure 1 lacks 'system'"),
    "a quoted figure that is no object": ("../quoted.json", '{"figures": ["x"]}', "figure 1 lacks 'system'"),
    "quoted figures that are no JSON": ("../quoted.json", "[", "quoted.json: "),
}


@pytest.mark.parametrize(("name", "text", "said"), ODD.values(), ids=ODD)
def test_odd_files_are_refused_by_name_with_a_remedy(name, text, said, tmp_path):
    bundle = export(tmp_path)
    path = bundle.folder / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(StageError, match=re.escape(said)) as refused:
        read_bundle(bundle.folder, bundle.quoted)
    assert "hrmctl report" in str(refused.value) or "quoted.json" in str(refused.value)


@pytest.mark.parametrize("key", ["verdict", "title", "because", "reason", "remedy", "run", "evidence", "attempts"])
def test_a_judgement_that_lacks_a_column_is_refused(key, tmp_path):
    bundle = export(tmp_path)
    path = bundle.folder / "check.json"
    check = json.loads(path.read_text())
    del check["judgements"][1][key]
    path.write_text(json.dumps(check))
    with pytest.raises(StageError, match=f"judgement 2 lacks '{key}'"):
        read_bundle(bundle.folder)
    check["judgements"][1][key] = [3]
    path.write_text(json.dumps(check))
    with pytest.raises(StageError, match=f"judgement 2 lacks '{key}'"):
        read_bundle(bundle.folder)


def test_a_folder_among_the_evidence_is_refused(tmp_path):
    bundle = export(tmp_path)
    (bundle.folder / "evidence" / "more").mkdir()
    with pytest.raises(StageError, match=r"evidence/more of the bundle is no file; .*hrmctl report"):
        read_bundle(bundle.folder)


def test_evidence_with_an_odd_provenance_is_refused(tmp_path):
    bundle = export(tmp_path)
    [path] = (bundle.folder / "evidence").glob(f"{bundle.speed}*")
    body = json.loads(path.read_text())
    body["provenance"]["subjects"] = 3
    raw = json.dumps(body).encode()
    path.with_stem(hashlib.sha256(raw).hexdigest()).write_bytes(raw)
    with pytest.raises(StageError, match=r"is no evidence: of its provenance, subjects.*hrmctl report"):
        read_bundle(bundle.folder)


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
