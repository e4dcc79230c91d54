"""The form `evaluation-report` against the auditor: what it writes of real evidence is clean, and says all there is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from hrmctl_audit import tables
from hrmctl_audit.bundle import read_bundle
from hrmctl_audit.report import Audit, audit
from hrmctl_reporters import evaluation
from markdown_it import MarkdownIt

from hrmctl import CheckReport, Evidence, EvidenceReport, Judgement, Verdict
from hrmctl.store import Store

from .bundles import OURS, THEIRS, made, record, samples

QUOTED = Path(evaluation.__file__).parent / "quoted.json"
MANY = samples(*[("passed", "wrong_answer", "timeout")] * 7, ("refused",) * 3, k=[1, 3], stop=["\n```"])


def judged(evidence: tuple[str, ...] = ()) -> CheckReport:
    rows = [
        Judgement(
            "QS", "c" * 64, "At least 90 % | of <all> pass", "claim", "acceptance", Verdict.FAIL, "most",
            "p.value is 0.5, not 0.9", "hrmctl pipeline recipes/x.yaml", {"p": {"value": 0.5}}, evidence,
            {"model": "a" * 64}, {"model": "hrm-tiny"}, "", "20250102T030405-quickstart-ab12", 2,
        ),
        Judgement("OK", "c" * 64, "Nothing is `wrong`", "proxy", "acceptance", Verdict.PASS, evidence=evidence),
        Judgement("NO", "c" * 64, "Something", "claim", "hypothesis", Verdict.UNTESTED, "e", "no evidence e"),
        Judgement("GO", "c" * 64, "Go on", "gate", "gate", Verdict.INCONCLUSIVE, "rest", "HOLD by rule `rest`: a"),
        Judgement("OUT", "c" * 64, "Else", "claim", "acceptance", Verdict.FAIL, "most", "p.value 0 is not ≥ 0.9"),
    ]  # fmt: skip
    return CheckReport("20250103T000000-ff00ff00", "", rows, 3)


class Written:
    """The report on `given`, and the audit of it against a bundle of the same evidence."""

    def __init__(self, folder: Path, *given: Evidence):
        store = Store(folder / "store")
        kept = [store.put_evidence(evidence) for evidence in given]
        digests = tuple(evidence.digest for evidence in kept)
        self.bundle = folder / "bundle"
        (self.bundle / "evidence").mkdir(parents=True)
        asked = judged(digests)
        self.check = record(store, self.bundle, asked.check, asked.judgements)
        self.text = evaluation.report(EvidenceReport(self.check, kept))
        for digest in digests:
            raw = store.object_path(digest).read_bytes()
            (self.bundle / "evidence" / f"{digest}.json").write_bytes(raw)

    def audit(self, text: str = "") -> Audit:
        return audit(text or self.text, read_bundle(self.bundle, QUOTED))


def three() -> list[Evidence]:
    ours, theirs = made("hrm-tiny", "a" * 64), made("gpt2-tiny", "b" * 64)
    return [
        Evidence("samples", "samples/v1", OURS, ours),
        Evidence("latency_median", "measurement/v1", {"value": 0.25, "unit": "s", "n": 8}, ours),
        Evidence("perplexity", "measurement/v1", {"value": 1234567.891, "unit": "", "n": 8}, ours),
        Evidence("samples", "samples/v1", THEIRS, theirs),
        Evidence("samples", "samples/v1", MANY, made("hrm-27m", "e" * 64, data="f" * 64)),
    ]


def test_golden(tmp_path):
    path = Path(__file__).parent / "golden" / "evaluation-report.md"
    shown = Written(tmp_path, *three()).text + "\n"
    if os.environ.get("HRMCTL_UPDATE_GOLDEN"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


def test_what_is_written_is_clean_to_the_auditor(tmp_path):
    found = Written(tmp_path, *three()).audit()
    assert found.findings == []
    assert found.counts["problem_rows"] == 4 + 4 + 8
    assert found.counts["comparisons"] == 1
    assert found.counts["quoted"] == len(evaluation.quoted()) > 0
    assert found.counts["figures"] > 90


def test_every_figure_of_the_text_is_read_by_the_auditor(tmp_path):
    """Each cell with a number, made another, is found: no cell is passed over."""
    written = Written(tmp_path, *three())
    lines = written.text.splitlines()
    changed = 0
    for number, line in enumerate(lines):
        if not line.startswith("|") or "quoted |" in line:
            continue
        cells = line.split(" | ")
        for index, cell in enumerate(cells[1:], 1):
            if not cell.strip("`|. ").replace(".", "").isdecimal():
                continue
            other = [
                *cells[:index],
                cell.replace(cell[0] if cell[0] != "`" else cell[1], "7", 1) + "1",
                *cells[index + 1 :],
            ]
            text = "\n".join([*lines[:number], " | ".join(other), *lines[number + 1 :]])
            changed += 1
            assert written.audit(text).findings, f"line {number}: {cell} became {other[index]} unseen"
    assert changed > 90


def test_nothing_measured_says_so_with_the_commands(tmp_path):
    written = Written(tmp_path)
    assert "No model was evaluated: not measured." in written.text
    assert "* `hrmctl pipeline recipes/x.yaml`" in written.text
    found = written.audit()
    assert found.findings == []
    assert evaluation.report(CheckReport("c0", "", [], 3)).count("`hrmctl pipeline RECIPE`") == 1


def test_ties_are_undecided_and_still_clean(tmp_path):
    same = [Evidence("samples", "samples/v1", OURS, made(name, d * 64)) for name, d in (("a", "a"), ("b", "b"))]
    written = Written(tmp_path, *same)
    assert "| 0 | no interval | undecided |" in written.text
    assert written.audit().findings == []


def test_models_on_other_problems_or_in_another_mode_are_not_compared(tmp_path):
    ours, theirs = made("a", "a" * 64), made("b", "b" * 64)
    elsewhere = replace(theirs, subjects={**theirs.subjects, "dataset": "0" * 64})
    for number, other in enumerate(
        (Evidence("samples", "samples/v1", THEIRS, elsewhere),
         Evidence("samples", "samples/v1", {**THEIRS, "mode": "unsafe"}, theirs))
    ):  # fmt: skip
        written = Written(tmp_path / str(number), Evidence("samples", "samples/v1", OURS, ours), other)
        assert "not compared." in written.text
        assert written.audit().findings == []


def test_two_seeds_of_one_model_are_shown_and_not_compared(tmp_path):
    seeds = [
        Evidence("samples", "samples/v1", {**OURS, "seed": n}, made("hrm-tiny", d * 64))
        for n, d in ((1, "a"), (2, "b"))
    ]
    written = Written(tmp_path, *seeds)
    assert written.text.count("## `hrm-tiny` on") == 2
    assert "not compared." in written.text
    assert written.audit().findings == []


def test_one_model_under_two_names_is_not_compared(tmp_path):
    twice = [
        Evidence("samples", "samples/v1", payload, made(name, "a" * 64))
        for name, payload in (("a", OURS), ("b", THEIRS))
    ]
    written = Written(tmp_path, *twice)
    assert "not compared." in written.text
    assert written.audit().findings == []


def test_samples_without_outcomes_have_no_steps_and_no_comparison(tmp_path):
    bare = {**OURS, "problems": [{k: v for k, v in row.items() if k != "outcomes"} for row in OURS["problems"]]}
    given = [Evidence("samples", "samples/v1", bare, made(name, d * 64)) for name, d in (("a", "a"), ("b", "b"))]
    written = Written(tmp_path, *given)
    assert "syntax valid |" not in written.text
    assert "not compared." in written.text
    counts = written.audit().counts
    assert (counts["figures_without_run"], counts["disagreements"], counts["problem_rows_missing"]) == (0, 0, 8)


def test_the_tables_are_tables_to_a_reader_of_markdown_that_is_not_ours(tmp_path):
    written = Written(tmp_path, *three())
    tokens = MarkdownIt("commonmark").enable("table").parse(written.text)
    rows = sum(token.type == "tr_open" for token in tokens) - sum(token.type == "thead_open" for token in tokens)
    assert rows == sum(isinstance(part, tables.Row) for part in tables.read(written.text))
    shown = [token.content for token in tokens if token.type == "inline"]
    assert "At least 90 % | of &lt;all&gt; pass" in shown
    assert not any(token.type in ("html_block", "html_inline") for token in tokens)


def test_quoted_figures_have_a_source_that_can_be_looked_up():
    for figure in evaluation.quoted():
        assert figure.keys() == {"system", "benchmark", "metric", "figure", "source"}
        assert "arXiv:" in figure["source"] or "https://" in figure["source"]
