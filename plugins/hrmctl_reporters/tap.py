"""TAP version 14. What is not proven is `not ok`, with no directive ever: to a harness `# SKIP` is `ok`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hrmctl import CheckReport, Judgement
from hrmctl_reporters import view


def report(check: CheckReport) -> str:
    """One test point an obligation, each with a YAML block: verdict, reason, remedy and every measured value.

    A check of nothing is one failed point, because a plan of none (`1..0`) counts as skipped.
    """
    points = [_point(number, judgement) for number, judgement in enumerate(check.judgements, 1)]
    if not points:
        points = [f"not ok 1 - check\n{_block({'verdict': 'UNTESTED', 'message': view.NOTHING})}"]
    comment = f"# {view.conclusion(check.judgements)}"
    return "\n".join(["TAP version 14", f"1..{len(points)}", *points, comment])


def _point(number: int, judgement: Judgement) -> str:
    word = "ok" if view.passed(judgement) else "not ok"
    return f"{word} {number} - {_described(judgement.obligation)}\n{_block(_diagnostic(judgement))}"


def _described(name: str) -> str:
    escaped = view.plain(name).replace("\\", "\\\\").replace("#", "\\#")
    # A reader that knows no escapes must find no directive either.
    return re.sub(r"#(\s*)(?=todo|skip)", "#\u2060\\1", escaped, flags=re.IGNORECASE)


def _diagnostic(judgement: Judgement) -> Mapping[str, Any]:
    shown: dict[str, Any] = {"message": view.plain(judgement.title), "verdict": judgement.verdict.value}
    shown |= {"answer" if judgement.kind == "hypothesis" else "claim": view.word(judgement)}
    why = "" if judgement.verdict.value == "PASS" else view.explanation(judgement)
    told = {"because": why, "remedy": view.plain(judgement.remedy), "run": view.plain(judgement.run)}
    measured = {
        view.plain(name): {view.plain(key): _value(value) for key, value in values.items()}
        for name, values in judgement.measured.items()
    }
    shown |= {name: text for name, text in told.items() if text} | {"attempts": judgement.attempts}
    return shown | ({"measured": measured} if measured else {})


def _value(value: Any) -> Any:
    return view.plain(value) if isinstance(value, str) else value


def _block(diagnostic: Mapping[str, Any]) -> str:
    import yaml

    text = yaml.safe_dump(dict(diagnostic), sort_keys=False, allow_unicode=True, width=float("inf"))
    return "\n".join(f"  {line}" for line in ["---", *text.splitlines(), "..."])
