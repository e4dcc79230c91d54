"""The stage `audit.report`: is every figure of a report what its evidence says, and does it have any?"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hrmctl import Artifact, Context, MeasureError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl.jsonio import canonical, write_atomic
from hrmctl_audit import figures
from hrmctl_audit.bundle import Bundle, read_bundle
from hrmctl_audit.params import ReportParams
from hrmctl_audit.tables import Prose, Row, numbers, read, said, spans, without_spans

KINDS = {
    "figures": "cells of the report that show a measured number",
    "figures_without_run": "numbers that cite no evidence of the bundle",
    "placeholders": "cells and words that stand for a figure that is not there",
    "disagreements": "cells that say something else than their evidence",
    "comparisons": "rows that compare two models",
    "comparisons_unmeasured": "rows that compare what was not measured on the same problems",
    "quoted": "figures of other systems",
    "quoted_unmarked": "figures of other systems without mark, source or entry in the committed file",
    "problem_rows": "rows of single problems",
    "problem_rows_missing": "problems of a cited evaluation whose row is missing or lacks a step",
    "evidence_altered": "files of the bundle that are not what their name says, no evidence, or a broken ledger",
    "verdicts": "rows that show a verdict",
    "verdicts_missing": "obligations of the check without a row",
    "verdicts_unrecorded": "obligations that the check and the ledger's rows do not say alike",
    "evaluations_missing": "evaluations of the bundle without a row of figures",
}
_WORDS = re.compile(
    r"\b(tbd|tba|todo|fixme|xx+|lorem|ipsum|placeholder|n/a|coming soon|to be (determined|measured|done|filled))\b"
    r"|\?\?+|\{\{|\$\{|<(insert|your|figure|value)\b",
    re.IGNORECASE,
)
_EMPTY = {"", "?", "-", "--", "—", "–", "...", "…", "na", "nan", "none", "null", "unknown", "x", "pending"}
_RECORDED = (
    "verdict", "because", "reason", "remedy", "title", "contract_digest", "kind", "measured", "evidence", "subjects",
    "labels", "run", "attempts",
)  # fmt: skip
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: its kind (of `KINDS`), the line of the report, what stands there, and why it is one."""

    kind: str
    line: int
    text: str
    why: str


@dataclass(frozen=True)
class Audit:
    """`counts` by kind, of what was read and of every fault; `lines` that say anything."""

    lines: int
    counts: dict[str, int]
    findings: Sequence[Finding]


def run(params: ReportParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Audit the input `report` against the input `bundle`. Raises StageError when either cannot be read."""
    report: Artifact = inputs["report"]
    bundle: Artifact = inputs["bundle"]
    if not report.path.is_file():
        raise StageError(f"{report.label} is a folder; give the Markdown file of the report")
    try:
        text = report.path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StageError(f"{report.label} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    found = audit(text, read_bundle(bundle.path, inputs["quoted"].path if "quoted" in inputs else None))
    if not found.lines:
        raise StageError(f"{report.label} is empty; there is nothing to audit")
    ctx.progress(found.lines, found.lines, findings=len(found.findings))
    output = Output(ctx.scratch / "findings.jsonl", f"{report.label}/findings")
    write_atomic(output.path, "".join(canonical(asdict(f)) + "\n" for f in found.findings))
    about = {"report": report, "bundle": bundle}
    seen = [_observed(kind, found, about) for kind in KINDS]
    return StageResult({"findings": output}, seen)


def _observed(kind: str, found: Audit, about: dict[str, Artifact]) -> Observation:
    payload = {"value": found.counts[kind], "unit": "count", "n": found.lines}
    return Observation(kind, "measurement/v1", payload, about)


def audit(text: str, bundle: Bundle) -> Audit:
    """Everything that an auditor finds in the report `text`, given the evidence."""
    parts = list(read(text))
    findings = [
        Finding("evidence_altered", 0, name, "its bytes are not what its name says, are no evidence, or no chain")
        for name in bundle.altered
    ]
    counts = dict.fromkeys(KINDS, 0)
    for part in parts:
        if isinstance(part, Prose):
            findings += _of_prose(part, bundle)
            continue
        quoted = part.header == figures.QUOTED
        counts["figures"] += 0 if quoted else sum(bool(_NUMBER.fullmatch(said(cell))) for cell in part.cells)
        counts["comparisons"] += part.header == figures.COMPARISONS
        counts["quoted"] += quoted
        counts["verdicts"] += part.header == figures.VERDICTS
        counts["problem_rows"] += part.header == figures.PROBLEMS
        findings += _of_row(part, bundle)
    rows = [part for part in parts if isinstance(part, Row) and len(part.cells) == len(part.header)]
    findings += [*_missing_rows(rows, bundle), *_left_out(rows, bundle), *_unrecorded(bundle)]
    for finding in findings:
        counts[finding.kind] += 1
    return Audit(len(parts), counts, sorted(findings, key=lambda finding: finding.line))


# --- prose ------------------------------------------------------------------------------------------


def _of_prose(prose: Prose, bundle: Bundle) -> Iterator[Finding]:
    open_text = without_spans(prose.text)
    if _WORDS.search(open_text):
        yield Finding("placeholders", prose.line, prose.text, "stands for something that is not there")
    for number in numbers(open_text):
        yield Finding("figures_without_run", prose.line, prose.text, f"{number} in running text cites no evidence")
    for span in spans(prose.text):
        if numbers(span) and not _known(span, bundle):
            yield Finding("figures_without_run", prose.line, span, "a figure that is no name the bundle knows")


def _known(span: str, bundle: Bundle) -> bool:
    return bundle.find(span) is not None or span in bundle.words


# --- rows -------------------------------------------------------------------------------------------


def _of_row(row: Row, bundle: Bundle) -> Iterator[Finding]:
    line = " | ".join(map(said, row.cells))
    if len(row.cells) != len(row.header):
        yield Finding("disagreements", row.line, line, f"{len(row.cells)} cells under {len(row.header)} columns")
        return
    if row.header == figures.QUOTED:
        yield from _quoted(row, bundle, line)
        yield from _placeholders(row, line, ())
        return
    try:
        wanted = figures.expected(row, bundle)
    except figures.Unmeasured as error:
        yield Finding("comparisons_unmeasured", row.line, line, str(error))
        wanted = {}
    except (figures.Uncited, MeasureError) as error:
        yield Finding("figures_without_run", row.line, line, str(error))
        wanted = {}
    if wanted is None:
        wanted = {}
        for number in (n for cell in row.cells for n in numbers(said(cell))):
            yield Finding("figures_without_run", row.line, line, f"{number} stands in a table that cites no evidence")
    right = {column for column, value in wanted.items() if agrees(row[column], value)}
    for column in wanted.keys() - right:
        why = f"{column} says {said(row[column])!r}, the evidence {_shown(wanted[column])!r}"
        yield Finding("disagreements", row.line, line, why)
    yield from _placeholders(row, line, right)


def _placeholders(row: Row, line: str, right: Collection[str]) -> Iterator[Finding]:
    """Cells that say nothing; what evidence itself says (in a column of `right`) is no placeholder."""
    for column, cell in zip(row.header, row.cells, strict=True):
        text = said(cell)
        if column not in right and (text.strip().casefold() in _EMPTY or _WORDS.search(text)):
            yield Finding("placeholders", row.line, line, f"{column} says {text!r}")


def agrees(cell: str, value: Any) -> bool:
    """Whether a cell says `value`: a number to the digits that it shows, an interval `LOW to HIGH`, or the text."""
    text = said(cell)
    if isinstance(value, tuple):
        ends = text.split(" to ")
        return len(ends) == 2 and all(_same(end, wanted) for end, wanted in zip(ends, value, strict=True))
    if isinstance(value, str):
        return text.split() == value.split()
    return _same(text, value)


def _same(text: str, value: Fraction | float) -> bool:
    """Whether `text` is `value` rounded to the digits shown; at least four of them where it has as many."""
    if not _NUMBER.fullmatch(text):
        return False
    away = abs(float(text) - float(value))
    last_digit = float(Decimal(1).scaleb(int(Decimal(text).as_tuple().exponent)))
    # Trailing zeros are left out, so fewer digits are right only where the next ones are zeros.
    return away <= 0.5000001 * last_digit and away <= 0.0005000001 * abs(float(value))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " to ".join(f"{end:.4g}" for end in value)
    return value if isinstance(value, str) else f"{float(value):.6g}"


def _quoted(row: Row, bundle: Bundle, line: str) -> Iterator[Finding]:
    named = [q for q in bundle.quoted if all(str(q[c]) == said(row[c]) for c in figures.QUOTED[1:-1])]
    if said(row["status"]) != "quoted":
        yield Finding("quoted_unmarked", row.line, line, "is not marked as quoted")
    if not named:
        yield Finding("quoted_unmarked", row.line, line, "is no figure of the committed file of quoted figures")
    elif not named[0].get("source") or named[0]["source"] not in said(row["source"]):
        yield Finding("quoted_unmarked", row.line, line, "does not give its source")


def _missing_rows(rows: Sequence[Row], bundle: Bundle) -> Iterator[Finding]:
    """Problems that an evaluation of programs holds and the report does not show step by step."""
    shown: dict[str, set[str]] = {}
    wanted: dict[str, int] = {}
    for row in rows:
        if row.header not in (figures.FIGURES, figures.PROBLEMS):
            continue
        for evidence in filter(None, map(bundle.find, spans(row["evidence"]))):
            if row.header == figures.PROBLEMS:
                shown.setdefault(evidence.digest, set()).add(said(row["problem"]))
            elif evidence.type == "samples/v1" and figures.programs(evidence):
                wanted.setdefault(evidence.digest, row.line)
    for digest, line in wanted.items():
        for problem in figures.problems(bundle.evidence[digest]):
            if problem["id"] not in shown.get(digest, ()):
                yield Finding("problem_rows_missing", line, problem["id"], f"no row of this problem of {digest[:12]}")


def _left_out(rows: Sequence[Row], bundle: Bundle) -> Iterator[Finding]:
    """Obligations of the check and evaluations of a model that no row of the report shows."""
    shown = {said(row["obligation"]) for row in rows if row.header == figures.VERDICTS}
    for name in bundle.judgements.keys() - shown:
        yield Finding("verdicts_missing", 0, name, f"the check says {bundle.judgements[name]['verdict']}; no row does")
    evaluated = {e.digest for e in bundle.evidence.values() if e.type == "samples/v1" and figures.of_model(e)}
    cited = {digest for row in rows if row.header == figures.FIGURES for digest in spans(row["evidence"])}
    for digest in evaluated - {found.digest for found in map(bundle.find, cited) if found}:
        yield Finding("evaluations_missing", 0, digest, "no row shows a figure of these samples")


def _unrecorded(bundle: Bundle) -> Iterator[Finding]:
    for name in sorted(bundle.judgements.keys() | bundle.recorded.keys()):
        judged, row = bundle.judgements.get(name), bundle.recorded.get(name)
        if judged is None or row is None:
            why = (
                "no row of the ledger records it" if row is None else f"recorded as {row['verdict']}, not in the check"
            )
        else:
            why = ", ".join(key for key in _RECORDED if judged.get(key) != row.get(key))
            why = why and f"the ledger records another {why}"
        if why:
            yield Finding("verdicts_unrecorded", 0, name, why)
