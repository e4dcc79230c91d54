"""GitHub-flavoured Markdown: tables that no name can break out of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl_reporters import view

MARKS = {
    Verdict.PASS: "✅",
    Verdict.FAIL: "❌",
    Verdict.INVALID: "⛔",
    Verdict.BLOCKED: "🚧",
    Verdict.UNTESTED: "⬜",
    Verdict.INCONCLUSIVE: "❔",
}


def report(check: CheckReport) -> str:
    """The check as Markdown: the conclusion, the claims, the hypotheses, and what to do about what does not hold."""
    required, asked = view.claims(check.judgements), view.hypotheses(check.judgements)
    blocks = [f"## {text(view.conclusion(check.judgements))}", f"Check {code(check.check)}{_runs(check)}."]
    if required:
        blocks += [
            f"### {view.count(len(required), 'claim')}: {view.tally(required)}",
            _table("verdict", check, required),
        ]
    if asked:
        number = view.count(len(asked), "hypothesis", "hypotheses")
        blocks += [f"### {number}: {view.tally(asked)}", _table("answer", check, asked)]
    if any(j.verdict == Verdict.FAIL for j in asked):
        blocks.append(view.REFUTED_LINE)
    return "\n\n".join(blocks)


def _runs(check: CheckReport) -> str:
    before, word, name = view.runs(check).partition(" run ")
    return f"{before}{word}{code(name)}" if name else before


def _table(first: str, check: CheckReport, judgements: Sequence[Judgement]) -> str:
    several = view.several_runs(check)
    columns = [first, "attempts", "obligation", "claim", "measured", *(["run"] if several else []), "why"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for judgement in judgements:
        run = [code(judgement.run) if judgement.run else ""] if several else []
        named = [_verdict(judgement), str(judgement.attempts), code(judgement.obligation), text(judgement.title)]
        lines.append(f"| {' | '.join([*named, _measured(judgement), *run, _why(judgement)])} |")
    return "\n".join(lines)


def _verdict(judgement: Judgement) -> str:
    if judgement.kind == "hypothesis":
        return f"**{view.word(judgement)}**"
    return f"{MARKS[judgement.verdict]} **{judgement.verdict.value}**"


def _measured(judgement: Judgement) -> str:
    return "<br>".join(text(line) for line in view.headlines(judgement.measured))


def _why(judgement: Judgement) -> str:
    if judgement.verdict == Verdict.PASS:
        return ""
    lines = [text(view.explanation(judgement)), code(judgement.remedy) if judgement.remedy else ""]
    return "<br>".join(line for line in lines if line)


def text(value: str) -> str:
    """`value` with everything that Markdown or HTML would read as markup made literal."""
    escaped = view.plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A word joiner after @ keeps a name from notifying a person, one within :// and www. from linking.
    escaped = escaped.replace("@", "@\u2060").replace("://", ":\u2060//").replace("www.", "www\u2060.")
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", escaped)


def code(value: str) -> str:
    """`value` as a code span, whatever backticks it holds."""
    inner = view.plain(value).replace("|", "\\|") or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", inner)), default=0))
    pad = " " if inner[0] == "`" or inner[-1] == "`" else ""
    return f"{fence}{pad}{inner}{pad}{fence}"
