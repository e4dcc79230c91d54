"""The ratchet: verdicts that were accepted and committed, so that CI notices whatever becomes worse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from hrmctl.errors import InputError, Problem
from hrmctl.jsonio import write_atomic
from hrmctl.model import Judgement, Verdict
from hrmctl.schema import decode_or_raise, doc
from hrmctl.yamlio import load

VERSION = 1
MEASURED = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was accepted of one obligation."""

    verdict: Annotated[Literal["PASS", "FAIL", "INCONCLUSIVE", "UNTESTED", "BLOCKED"], doc("the verdict")]
    kind: Annotated[Literal["acceptance", "hypothesis", "gate"], doc("what was asked")]
    contract_digest: Annotated[str, doc("digest of the contract that gave it")]


@dataclass(frozen=True, slots=True)
class AcceptedFile:
    """The accepted verdicts, committed beside the contracts."""

    version: Annotated[int, Ge(1), doc("format of this file")]
    obligations: Annotated[dict[str, Accepted], doc("by CONTRACT/subject, with @profile where there is one")]


def load_accepted(path: Path) -> Mapping[str, Accepted]:
    """The accepted verdicts in `path`. Raises InputError with the place of every fault."""
    root = load(path)  # JSON is YAML, and YAML here has positions
    found = decode_or_raise(root, AcceptedFile)
    if found.version > VERSION:
        text = f"written by a newer hrmctl (version {found.version}, this one reads {VERSION})"
        raise InputError(root.value["version"].problem(text, "upgrade"))
    return found.obligations


def compare(accepted: Mapping[str, Accepted], judgements: Sequence[Judgement]) -> list[str]:
    """What stands against the judgements, one sentence each: worse, missing, not accepted, INVALID or changed."""
    now = {judgement.obligation: judgement for judgement in judgements}
    gone = sorted(set(accepted) - set(now))
    missing = [f"{name}: accepted as {accepted[name].verdict}, missing now" for name in gone]
    return missing + [text for name in sorted(now) if (text := _compared(accepted.get(name), now[name]))]


def _compared(old: Accepted | None, new: Judgement) -> str:
    name, because = new.obligation, f" ({new.reason})" if new.reason else ""
    if new.verdict == Verdict.INVALID:
        return f"{name}: INVALID{because}"
    if old is None:
        return f"{name}: {new.verdict}, not accepted yet; review and --accept"
    if old.kind != new.kind:
        return f"{name}: was accepted as {old.kind}, is {new.kind} now; review and --accept"
    if old.contract_digest != new.contract_digest:
        return f"{name}: the contract changed since it was accepted; review and --accept"
    if old.verdict in MEASURED and new.verdict not in MEASURED:
        return f"{name}: was measured ({old.verdict}), is {new.verdict} now{because}"
    answered = new.kind == "hypothesis" and new.verdict in MEASURED
    if not answered and new.verdict.severity > Verdict(old.verdict).severity:
        return f"{name}: {old.verdict} became {new.verdict}{because}"
    return ""


def accept(path: Path, judgements: Sequence[Judgement]) -> None:
    """Write the judgements as the accepted ones, sorted. Raises InputError on an INVALID or where there is none."""
    broken = [Problem(f"{j.obligation} is INVALID: {j.reason}", remedy="an INVALID cannot be accepted; mend it")
              for j in judgements if j.verdict == Verdict.INVALID]  # fmt: skip
    if broken or not judgements:
        raise InputError(*(broken or [Problem("nothing was checked, so nothing can be accepted")]))
    entries = {
        j.obligation: {"verdict": j.verdict.value, "kind": j.kind, "contract_digest": j.contract_digest}
        for j in judgements
    }
    text = json.dumps({"version": VERSION, "obligations": entries}, indent=2, sort_keys=True, ensure_ascii=False)
    write_atomic(path, text + "\n")
