"""One self-contained page of a run: what holds, what was refuted, what was not measured, and what that rests on."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hrmctl import CheckReport, Judgement, RunReport, StageFinished, Verdict
from hrmctl_reporters import view
from hrmctl_reporters.chart import Curve, chart
from hrmctl_reporters.style import CSS, POLICY

LOOKS = {
    Verdict.PASS: ("good", "✓"),
    Verdict.FAIL: ("bad", "✕"),
    Verdict.INVALID: ("broken", "!"),
    Verdict.BLOCKED: ("wait", "■"),
    Verdict.UNTESTED: ("none", "○"),
    Verdict.INCONCLUSIVE: ("wait", "?"),
}
STAGES = {
    "done": ("good", "✓"),
    "cached": ("good", "✓"),
    "failed": ("bad", "✕"),
    "blocked": ("wait", "■"),
    "cancelled": ("none", "○"),
}


def run_page(report: RunReport | CheckReport) -> str:
    """The page as one HTML document that loads nothing and runs no script; a check without a run has fewer sections."""
    if isinstance(report, CheckReport):
        report = RunReport(report, "", (), {}, {})
    judgements = report.check.judgements
    numbered = {id(j): i for i, j in enumerate(judgements)}
    title = safe(f"{report.recipe or 'hrmctl check'}: {view.conclusion(judgements)}")
    parts = [
        _header(report),
        _claims(view.claims(judgements), numbered),
        _hypotheses(view.hypotheses(judgements), numbered),
        _curves(report),
        _stages(report.stages),
        _details(judgements),
        _provenance(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{title}</title><style>{CSS}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def safe(text: object) -> str:
    """`text` on one line and escaped for element content and quoted attributes."""
    return escape(view.plain(str(text)), quote=True)


def _header(report: RunReport) -> str:
    judgements = report.check.judgements
    runs = safe(view.runs(report.check))
    recipe = f"{safe(report.recipe)} · " if report.recipe else ""
    groups = [_counts(view.claims(judgements)), _counts(view.hypotheses(judgements), "hypothesis", "hypotheses")]
    return (
        f'<header><p class="kicker">{recipe}check {safe(report.check.check)}{runs}</p>'
        f"<h1>{safe(view.conclusion(judgements))}</h1>{''.join(groups)}</header>"
    )


def _counts(judgements: Sequence[Judgement], one: str = "claim", many: str = "claims") -> str:
    if not judgements:
        return ""
    firsts = {verdict: next(j for j in judgements if j.verdict == verdict) for verdict in view.totals(judgements)}
    items = [
        f"<li>{_mark(firsts[verdict], f'{number} {view.plural(view.word(firsts[verdict]), number)}')}</li>"
        for verdict, number in view.totals(judgements).items()
    ]
    return f'<ul class="counts"><li class="soft">{view.count(len(judgements), one, many)}:</li>{"".join(items)}</ul>'


def _mark(judgement: Judgement, text: str) -> str:
    look, sign = LOOKS[judgement.verdict]
    # An answer is no failure: refuted looks like supported, not like FAIL.
    if judgement.kind == "hypothesis" and judgement.verdict in (Verdict.PASS, Verdict.FAIL):
        look = "answer"
    return _badge(look, sign, text)


def _badge(look: str, sign: str, text: str) -> str:
    return f'<span class="v {look}"><span aria-hidden="true">{sign}</span>{safe(text)}</span>'


def _label(judgement: Judgement) -> str:
    return view.word(judgement).upper() if judgement.kind == "hypothesis" else judgement.verdict.value


# --- the tables -------------------------------------------------------------------------------------


def _claims(judgements: Sequence[Judgement], numbered: dict[int, int]) -> str:
    if not judgements:
        return ""
    return f"<section><h2>Claims</h2>{_table('Verdict', 'Claim', judgements, numbered)}</section>"


def _hypotheses(judgements: Sequence[Judgement], numbered: dict[int, int]) -> str:
    if not judgements:
        return ""
    refuted = any(j.verdict == Verdict.FAIL for j in judgements)
    note = f'<p class="note">{safe(view.REFUTED_LINE)}</p>' if refuted else ""
    return f"<section><h2>Hypotheses</h2>{note}{_table('Answer', 'Question', judgements, numbered)}</section>"


def _table(first: str, second: str, judgements: Sequence[Judgement], numbered: dict[int, int]) -> str:
    rows = "".join(_row(j, numbered[id(j)]) for j in judgements)
    head = "".join(f'<th scope="col">{name}</th>' for name in (first, second, "Measured"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(judgement: Judgement, number: int) -> str:
    figures = "".join(f"<p>{safe(line)}</p>" for line in view.headlines(judgement.measured))
    return (
        f"<tr><td>{_mark(judgement, _label(judgement))}</td>"
        f'<td><p>{safe(judgement.title)}</p><p><a href="#o{number}"><code>{safe(judgement.obligation)}</code></a></p>'
        f'{_tried(judgement)}{_why(judgement)}</td><td class="figures">{figures}</td></tr>'
    )


def _tried(judgement: Judgement) -> str:
    return f'<p class="why">{view.attempts(judgement)}</p>' if judgement.attempts else ""


def _why(judgement: Judgement) -> str:
    if judgement.verdict == Verdict.PASS:
        return ""
    remedy = f'<p class="why">→ {_code(judgement.remedy)}</p>' if judgement.remedy else ""
    return _reason(view.explanation(judgement)) + remedy


def _stages(stages: Sequence[StageFinished]) -> str:
    if not stages:
        return ""
    rows = "".join(
        f"<tr><td>{_badge(*STAGES.get(s.status, ('none', '○')), s.status)}</td>"
        f'<td>{safe(s.stage)}{_reason(s.error)}</td><td class="figures">{_time(s)}</td></tr>'
        for s in stages
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Status", "Stage", "Time"))
    return f"<section><h2>Stages</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"


def _time(stage: StageFinished) -> str:
    if stage.status in ("blocked", "cancelled"):
        return ""
    return "from the cache" if stage.status == "cached" else f"{view.shown(float(stage.seconds))} s"


def _reason(error: str) -> str:
    return f'<p class="why">{safe(error)}</p>' if error else ""


# --- curves -----------------------------------------------------------------------------------------


def _curves(report: RunReport) -> str:
    metrics: dict[str, dict[str, Curve]] = {}
    for stage, curves in report.series.items():
        for metric, curve in curves.items():
            metrics.setdefault(metric, {})[stage] = curve
    figures = "".join(chart(metric, curves) for metric, curves in metrics.items())
    return f'<section><h2>Training</h2><div class="charts">{figures}</div></section>' if figures else ""


# --- details ----------------------------------------------------------------------------------------


def _details(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return ""
    return "<section><h2>Details</h2>" + "".join(_detail(j, i) for i, j in enumerate(judgements)) + "</section>"


def _detail(judgement: Judgement, number: int) -> str:
    # The anchor lies inside: a browser that follows a link to it opens the element.
    return (
        f"<details><summary>{_mark(judgement, _label(judgement))}<code>{safe(judgement.obligation)}</code></summary>"
        f'<div class="body" id="o{number}"><p>{safe(judgement.title)}</p>{_list(_facts(judgement))}</div></details>'
    )


def _facts(judgement: Judgement) -> list[tuple[str, str]]:
    measured = [
        (f"{measure}.{name}", safe(value))
        for measure, values in judgement.measured.items()
        for name, value in values.items()
    ]
    subjects = [
        (role, f"{safe(judgement.labels.get(role, ''))} {_code(digest)}".strip())
        for role, digest in judgement.subjects.items()
    ]
    facts = [
        ("Decided by", safe(judgement.because)),
        ("Reason", safe(judgement.reason)),
        ("Remedy", _code(judgement.remedy)),
        *measured,
        *subjects,
        *(("Evidence", _code(digest)) for digest in judgement.evidence),
        ("Contract", _code(judgement.contract_digest)),
        ("Run", _code(judgement.run)),
        ("Attempts", str(judgement.attempts) if judgement.attempts else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _code(text: str) -> str:
    return f"<code>{safe(text)}</code>" if text else ""


def _list(facts: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{safe(name)}</dt><dd>{value}</dd>" for name, value in facts) + "</dl>"


def _provenance(report: RunReport) -> str:
    facts = [(name, safe(value)) for name, value in report.provenance.items()]
    facts.append(("exit code", str(report.check.exit_code)))
    return f"<section><h2>Provenance</h2>{_list(facts)}</section>"
