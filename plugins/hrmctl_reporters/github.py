"""Workflow commands of GitHub Actions: annotations on the run."""

from __future__ import annotations

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl_reporters import view


def report(check: CheckReport) -> str:
    """One annotation for each claim that does not hold and each hypothesis, then the conclusion.

    A claim that is not proven is an `error`, an unanswered hypothesis a `warning`, an answered one
    a `notice`, and a broken instrument always an `error`.
    """
    several = view.several_runs(check)
    lines = [line for judgement in check.judgements if (line := _annotation(judgement, several))]
    level = "notice" if check.judgements else "error"
    return "\n".join([*lines, _command(level, "hrmctl", view.conclusion(check.judgements))])


def _annotation(judgement: Judgement, several: bool) -> str:
    level = _level(judgement)
    if not level:
        return ""
    title = f"{_named(judgement)} {judgement.obligation}"
    why = view.explanation(judgement) if judgement.verdict != Verdict.PASS else ""
    figures = "; ".join(view.headlines(judgement.measured))
    run = f"run {view.plain(judgement.run)}" if several and judgement.run else ""
    parts = (view.plain(judgement.title), why, figures, view.attempts(judgement), run)
    message = " — ".join(part for part in parts if part)
    if judgement.remedy and judgement.verdict != Verdict.PASS:
        message += f"\n{view.plain(judgement.remedy)}"
    return _command(level, title, message)


def _level(judgement: Judgement) -> str:
    if judgement.verdict == Verdict.INVALID:
        return "error"
    if judgement.kind != "hypothesis":
        return "" if judgement.verdict == Verdict.PASS else "error"
    return "warning" if judgement.verdict in (Verdict.BLOCKED, Verdict.UNTESTED) else "notice"


def _named(judgement: Judgement) -> str:
    return view.word(judgement) if judgement.kind == "hypothesis" else judgement.verdict.value


def _command(level: str, title: str, message: str) -> str:
    name = _data(view.plain(title)).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{_data(message)}"


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
