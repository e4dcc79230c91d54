"""The JSON Schema of the form `json`: `python -m hrmctl_reporters.schema docs/schema/check.json` writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hrmctl import Verdict
from hrmctl.jsonio import write_atomic
from hrmctl.model import SUBJECT_KINDS

NAME = "hrmctl.check/v1"

_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_TOTALS = {
    "type": "object",
    "description": "number of judgements by verdict",
    "additionalProperties": False,
    "required": [verdict.value for verdict in Verdict],
    "properties": {verdict.value: {"type": "integer", "minimum": 0} for verdict in Verdict},
}


def _groups(*names: str, **more: Any) -> dict[str, Any]:
    properties = {**dict.fromkeys(names, _TOTALS), **more}
    return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}


_FIELDS: dict[str, Any] = {
    "obligation": {**_TEXT, "description": "stable name: CONTRACT/subject, with @profile where one was asked for"},
    "contract": _TEXT,
    "contract_digest": {**_TEXT, "description": "sha256 of the canonical JSON of the contract's document"},
    "title": _TEXT,
    "subject": {**_TEXT, "description": "name of the subject in the contract; a proxy never stands for the claim"},
    "profile": _TEXT,
    "kind": {"enum": ["acceptance", "hypothesis", "gate"]},
    "verdict": {"enum": [verdict.value for verdict in Verdict]},
    "word": {**_TEXT, "description": "the verdict in words: holds, refuted, not measured, …"},
    "because": {**_TEXT, "description": "id of the clause that decided; empty on PASS"},
    "reason": _TEXT,
    "remedy": {**_TEXT, "description": "the command that would change the verdict"},
    "measured": {
        "type": "object",
        "description": "measure → field → value",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": {"type": ["number", "boolean", "string"]},
        },
    },
    "evidence": {"type": "array", "items": _TEXT, "description": "sha256 digests of the evidence"},
    "subjects": {**_TEXTS, "description": "role → digest of the artifact that was judged; several seeds joined by +"},
    "labels": {**_TEXTS, "description": "role → label of that artifact"},
    "run": {**_TEXT, "description": "the run that was judged; empty where no run said anything"},
    "attempts": {
        "type": "integer",
        "minimum": 0,
        "description": "different models tried on this test set so far",
    },
}
CHECK_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": NAME,
    "title": "What one check said",
    "type": "object",
    "additionalProperties": False,
    "required": ["schema", "check", "run", "exit_code", "conclusion", "totals", "judgements"],
    "properties": {
        "schema": {"const": NAME},
        "check": {**_TEXT, "description": "id of the check in the ledger"},
        "run": {**_TEXT, "description": "empty where the judgements are of several runs, or of none"},
        "exit_code": {"type": "integer"},
        "conclusion": _TEXT,
        "totals": _groups("claims", "hypotheses", subjects=_groups(*SUBJECT_KINDS)),
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
"""JSON Schema 2020-12 of `machine.json_report`. A change that a reader could notice gets a new version in `schema`."""


def main(path: Path) -> None:
    """Write the schema."""
    write_atomic(path, json.dumps(CHECK_SCHEMA, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
