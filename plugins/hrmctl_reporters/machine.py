"""Forms for programs: canonical JSON, and the document behind a badge."""

from __future__ import annotations

from typing import Any

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl.jsonio import canonical, to_json
from hrmctl_reporters import view

SCHEMA = "hrmctl.check/v1"


def json_report(check: CheckReport) -> str:
    """The check as one line of canonical JSON (sorted keys, no NaN); `CHECK_SCHEMA` describes it."""
    required, asked = view.claims(check.judgements), view.hypotheses(check.judgements)
    return canonical(
        {
            "schema": SCHEMA,
            "check": check.check,
            "run": check.run,
            "exit_code": check.exit_code,
            "conclusion": view.conclusion(check.judgements),
            "totals": {"claims": _counted(required), "hypotheses": _counted(asked)},
            "judgements": [_judgement(j) for j in check.judgements],
        }
    )


def _counted(judgements: list[Judgement]) -> dict[str, int]:
    found = view.totals(judgements)
    return {verdict.value: found.get(verdict, 0) for verdict in Verdict}


def _judgement(judgement: Judgement) -> dict[str, Any]:
    return {**to_json(judgement), "obligation": judgement.obligation, "word": view.word(judgement)}


def badge(check: CheckReport) -> str:
    """The endpoint document of shields.io: how many acceptance claims hold, and the colour of the worst verdict."""
    required = view.claims(check.judgements)
    broken = sum(j.verdict == Verdict.INVALID for j in check.judgements)
    found = view.totals(required)
    message = f"{found.get(Verdict.PASS, 0)} of {len(required)} hold" if required else "nothing checked"
    color = _color(found, broken)
    return canonical(
        {
            "schemaVersion": 1,
            "label": "hrmctl",
            "message": f"{broken} invalid, {message}" if broken else message,
            "color": color,
            "isError": color == "red",
        }
    )


def _color(found: dict[Verdict, int], broken: int) -> str:
    if broken or Verdict.FAIL in found:
        return "red"
    if not found:
        return "lightgrey"
    return "brightgreen" if set(found) == {Verdict.PASS} else "orange"


_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_TOTALS = {
    "type": "object",
    "additionalProperties": False,
    "required": [verdict.value for verdict in Verdict],
    "properties": {verdict.value: {"type": "integer", "minimum": 0} for verdict in Verdict},
}
_FIELDS: dict[str, Any] = {
    "obligation": {**_TEXT, "description": "stable name: CONTRACT/subject, with @profile where one was asked for"},
    "contract": _TEXT,
    "contract_digest": _TEXT,
    "title": _TEXT,
    "subject": _TEXT,
    "profile": _TEXT,
    "kind": {"enum": ["acceptance", "hypothesis", "gate"]},
    "verdict": {"enum": [verdict.value for verdict in Verdict]},
    "word": {**_TEXT, "description": "the verdict in words: holds, refuted, not measured, …"},
    "because": {**_TEXT, "description": "id of the clause that decided; empty on PASS"},
    "reason": _TEXT,
    "remedy": _TEXT,
    "measured": {
        "type": "object",
        "description": "measure → field → value",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": {"type": ["number", "boolean", "string"]},
        },
    },
    "evidence": {"type": "array", "items": _TEXT, "description": "sha256 digests of the evidence"},
    "subjects": {**_TEXTS, "description": "role → digest of the artifact that was judged"},
    "labels": {**_TEXTS, "description": "role → label of that artifact"},
    "run": _TEXT,
    "attempts": {"type": "integer", "minimum": 0},
}
CHECK_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": SCHEMA,
    "type": "object",
    "additionalProperties": False,
    "required": ["schema", "check", "run", "exit_code", "conclusion", "totals", "judgements"],
    "properties": {
        "schema": {"const": SCHEMA},
        "check": _TEXT,
        "run": {**_TEXT, "description": "empty where no run was checked"},
        "exit_code": {"type": "integer"},
        "conclusion": _TEXT,
        "totals": {
            "type": "object",
            "additionalProperties": False,
            "required": ["claims", "hypotheses"],
            "properties": {"claims": _TOTALS, "hypotheses": _TOTALS},
        },
        "judgements": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": list(_FIELDS),
                "properties": _FIELDS,
            },
        },
    },
}
"""JSON Schema 2020-12 of `json_report`. A change that a reader could notice gets a new version in `schema`."""
