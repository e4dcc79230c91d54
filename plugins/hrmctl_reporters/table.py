"""Aligned plain text: for each obligation its verdict, what it claims, then why."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from unicodedata import combining, east_asian_width

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl_reporters import view


def report(check: CheckReport, width: int = 0) -> str:
    """The check as plain text; titles are cut to a terminal of `width` columns, 0: to none."""
    required, asked = view.claims(check.judgements), view.hypotheses(check.judgements)
    blocks = [_head(check)]
    if required:
        blocks.append(_rows(check, required, [j.verdict.value for j in required], width))
    if asked:
        blocks.append("Hypotheses\n" + _rows(check, asked, [view.word(j) for j in asked], width))
    blocks.append("\n".join(_foot(check, required, asked)))
    return "\n\n".join(blocks)


def _head(check: CheckReport) -> str:
    return view.plain(f"Check {check.check}{view.runs(check)}")


def _rows(check: CheckReport, judgements: Sequence[Judgement], words: Sequence[str], width: int) -> str:
    names = [view.plain(j.obligation) for j in judgements]
    tried = [view.attempts(j) for j in judgements]
    columns = [column for column in (words, tried, names) if any(column)]
    widths = [max(map(_width, column)) for column in columns]
    lines = []
    for judgement, *cells in zip(judgements, *columns, strict=True):
        figures = "; ".join(view.headlines(judgement.measured))
        padded = [_pad(cell, width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([*padded, figures]).rstrip())
        indent = " " * (widths[0] + 2)
        lines.append(indent + _cut(view.plain(judgement.title), width - len(indent)))
        lines += [indent + line for line in _why(judgement, view.several_runs(check))]
    return "\n".join(lines)


def _why(judgement: Judgement, several: bool) -> list[str]:
    run = f"run {view.plain(judgement.run)}" if several and judgement.run else ""
    if judgement.verdict == Verdict.PASS:
        return [run] if run else []
    remedy = f"→ {view.plain(judgement.remedy)}" if judgement.remedy else ""
    return [line for line in (run, view.explanation(judgement), remedy) if line]


def _foot(check: CheckReport, required: Sequence[Judgement], asked: Sequence[Judgement]) -> list[str]:
    lines = [view.conclusion(check.judgements)]
    if required:
        lines.append(f"{view.count(len(required), 'claim')}: {view.tally(required)}")
    if asked:
        lines.append(f"{view.count(len(asked), 'hypothesis', 'hypotheses')}: {view.tally(asked)}")
    if any(j.verdict == Verdict.FAIL for j in asked):
        lines.append(view.REFUTED_LINE)
    return [*lines, f"Exit code {check.exit_code}"]


def _width(text: str) -> int:
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, width: int) -> str:
    """The text in at most `width` columns, whole where that is less than a few words need."""
    if width < 20 or _width(text) <= width:
        return text
    room = sum(used < width for used in accumulate(map(_width, text)))
    return f"{text[:room].rstrip()}…"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
