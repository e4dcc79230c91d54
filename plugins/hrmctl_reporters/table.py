"""Aligned plain text: one line an obligation, then why."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl_reporters import view


def report(check: CheckReport) -> str:
    """The check as plain text for a terminal of any width."""
    required, asked = view.claims(check.judgements), view.hypotheses(check.judgements)
    blocks = [_head(check)]
    if required:
        blocks.append(_rows(required, [j.verdict.value for j in required]))
    if asked:
        blocks.append("Hypotheses\n" + _rows(asked, [view.word(j) for j in asked]))
    blocks.append("\n".join(_foot(check, required, asked)))
    return "\n\n".join(blocks)


def _head(check: CheckReport) -> str:
    run = f" of run {check.run}" if check.run else ""
    return view.plain(f"Check {check.check}{run}")


def _rows(judgements: Sequence[Judgement], words: Sequence[str]) -> str:
    names = [view.plain(j.obligation) for j in judgements]
    first, second = max(map(_width, words)), max(map(_width, names))
    lines = []
    for judgement, word, name in zip(judgements, words, names, strict=True):
        figures = "; ".join(view.headlines(judgement.measured))
        lines.append(f"{_pad(word, first)}  {_pad(name, second)}  {figures}".rstrip())
        lines += [f"{' ' * first}  {line}" for line in _why(judgement)]
    return "\n".join(lines)


def _why(judgement: Judgement) -> list[str]:
    if judgement.verdict == Verdict.PASS:
        return []
    lines = [view.explanation(judgement)]
    if judgement.remedy:
        lines.append(f"→ {view.plain(judgement.remedy)}")
    return [line for line in lines if line]


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


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
