"""An in-toto Statement that says how the models and data of a check were tested; unsigned, as an envelope's payload."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from hrmctl import CheckReport, Judgement
from hrmctl.jsonio import canonical
from hrmctl_reporters import view
from hrmctl_reporters.machine import json_report

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def report(check: CheckReport) -> str:
    """The check as a Statement v1 with the predicate test-result v0.1, one line of canonical JSON.

    Subjects are the artifacts that were judged; where none was, the check's own JSON form, since a Statement is about
    something. `configuration` names every contract with the digest of its document.
    """
    tests = _sorted(check)
    return canonical(
        {
            "_type": STATEMENT,
            "subject": _subjects(check) or [_itself(check)],
            "predicateType": PREDICATE,
            "predicate": {"result": _result(check, tests), "configuration": _contracts(check), **tests},
        }
    )


def _sorted(check: CheckReport) -> dict[str, list[str]]:
    """Names of obligations: claims have passed or failed, and an answered question is told, which is no passed test."""
    found: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for judgement in check.judgements:
        group = "warnedTests" if judgement.kind == "hypothesis" else "passedTests"
        group = group if view.passed(judgement) else "failedTests"
        found[group].append(view.plain(judgement.obligation))
    return found


def _result(check: CheckReport, tests: dict[str, list[str]]) -> str:
    if tests["failedTests"] or not view.claims(check.judgements):
        return "FAILED"
    return "WARNED" if tests["warnedTests"] else "PASSED"


def _subjects(check: CheckReport) -> list[dict[str, Any]]:
    found = {
        (role, digest): {"name": label, "digest": {"sha256": digest}, "annotations": {"role": role}}
        for judgement in check.judgements
        for role, label, digest in _artifacts(judgement)
    }
    return [found[key] for key in sorted(found)]


def _artifacts(judgement: Judgement) -> Iterator[tuple[str, str, str]]:
    for role, digests in judgement.subjects.items():
        label = view.plain(judgement.labels.get(role, role))
        # What was observed over several seeds is about all of their models.
        yield from ((view.plain(role), label, digest) for digest in digests.split("+") if _SHA256.fullmatch(digest))


def _itself(check: CheckReport) -> dict[str, Any]:
    digest = hashlib.sha256(json_report(check).encode()).hexdigest()
    return {"name": view.plain(f"check {check.check}"), "digest": {"sha256": digest}, "annotations": {"role": "check"}}


def _contracts(check: CheckReport) -> list[dict[str, Any]]:
    found = {
        judgement.contract: {"name": view.plain(judgement.contract), "digest": {"sha256": judgement.contract_digest}}
        for judgement in check.judgements
        if _SHA256.fullmatch(judgement.contract_digest)
    }
    return [found[name] for name in sorted(found)]
