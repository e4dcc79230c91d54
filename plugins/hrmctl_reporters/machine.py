"""The form for programs: canonical JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl.jsonio import canonical, to_json
from hrmctl.model import SUBJECT_KINDS, subject_kind
from hrmctl_reporters import view
from hrmctl_reporters.schema import NAME


def json_report(check: CheckReport) -> str:
    """The check as one line of canonical JSON (sorted keys, no NaN); `schema.CHECK_SCHEMA` describes it."""
    required, asked = view.claims(check.judgements), view.hypotheses(check.judgements)
    subjects = {
        kind: _counted([j for j in check.judgements if subject_kind(j.subject) == kind]) for kind in SUBJECT_KINDS
    }
    return canonical(
        {
            "schema": NAME,
            "check": check.check,
            "run": check.run,
            "exit_code": check.exit_code,
            "conclusion": view.conclusion(check.judgements),
            "totals": {"claims": _counted(required), "hypotheses": _counted(asked), "subjects": subjects},
            "judgements": [_judgement(j) for j in check.judgements],
        }
    )


def _counted(judgements: Sequence[Judgement]) -> dict[str, int]:
    found = view.totals(judgements)
    return {verdict.value: found.get(verdict, 0) for verdict in Verdict}


def _judgement(judgement: Judgement) -> dict[str, Any]:
    return {**to_json(judgement), "obligation": judgement.obligation, "word": view.word(judgement)}
