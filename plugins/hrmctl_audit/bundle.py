"""The evidence that an auditor is handed: files named by the digest of their bytes, and what was judged on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from hrmctl import Evidence, HrmctlError, Provenance, StageError
from hrmctl.contract.payload import fault
from hrmctl.jsonio import loads
from hrmctl.model import EvidenceType
from hrmctl_audit import chain

SHORTEST = 12
"""Digits of a digest that a report must give; fewer are no citation."""
_AGAIN = "write it anew with hrmctl report RUN --export FOLDER"
_TEXTS = ("obligation", "verdict", "title", "because", "reason", "remedy", "run")
_QUOTED = ("system", "benchmark", "metric", "figure", "source")
_MAPPINGS = ("subjects", "labels", "tools", "hardware")


@dataclass(frozen=True)
class Bundle:
    """`evidence` by whole digest, `judgements` of the check and `recorded` rows of the ledger by obligation.

    `altered` are files that are not what their name says, no evidence at all, or a ledger whose chain is broken;
    `words` the names and commands that running text may say.
    """

    evidence: Mapping[str, Evidence]
    judgements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recorded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    quoted: Sequence[Mapping[str, Any]] = ()
    altered: Sequence[str] = ()
    words: frozenset[str] = frozenset()

    def find(self, cited: str) -> Evidence | None:
        """The evidence whose digest begins with `cited`; None where there is none, or the citation is too short."""
        if len(cited) < SHORTEST:
            return None
        found = [digest for digest in self.evidence if digest.startswith(cited)]
        return self.evidence[found[0]] if len(found) == 1 else None


def read_bundle(folder: Path, quoted: Path | None = None) -> Bundle:
    """The bundle in `folder`: `evidence/DIGEST.json`, `check.json`, `ledger.jsonl`; `quoted` is the committed file.

    Raises StageError when it lacks evidence or the check, or a file is not what it should hold.
    """
    if not (folder / "evidence").is_dir():
        raise StageError("the bundle has no folder 'evidence'; hrmctl report --export FOLDER writes one")
    if not (folder / "check.json").is_file():
        raise StageError("the bundle has no file 'check.json'; hrmctl report --export FOLDER writes one")
    evidence: dict[str, Evidence] = {}
    altered: list[str] = []
    for path in sorted((folder / "evidence").iterdir()):
        if not path.is_file():
            raise StageError(f"evidence/{path.name} of the bundle is no file; {_AGAIN}")
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != path.stem:
            altered.append(path.name)
            continue
        found = _evidence(_parsed(path, raw), path.stem)
        if fault(found.type, found.payload):
            altered.append(path.name)
        else:
            evidence[path.stem] = found
    check = _parsed(folder / "check.json", (folder / "check.json").read_bytes())
    judgements = _judgements(check)
    rows, broken = chain.recorded(folder, str(check.get("check", "")))
    altered += [f"{chain.ROWS}: {broken}"] if broken else []
    made = [_plain(e.provenance) for e in evidence.values() if e.provenance]
    # Titles and reasons are prose, in which anything may stand; names and commands are not.
    told = [check.get("check"), check.get("run"), *([row["run"], row["remedy"]] for row in judgements.values())]
    return Bundle(evidence, judgements, rows, _figures(quoted), altered, frozenset(_texts([made, told])))


def _judgements(check: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    rows = check.get("judgements")
    if not isinstance(rows, list):
        raise StageError(f"check.json of the bundle has no list 'judgements'; {_AGAIN}")
    for number, row in enumerate(rows, 1):
        kinds = {**dict.fromkeys(_TEXTS, str), "evidence": list, "attempts": int}
        bad = [k for k, kind in kinds.items() if not isinstance(row, dict) or not isinstance(row.get(k), kind)]
        if bad or not all(isinstance(digest, str) for digest in row["evidence"]):
            wanted = bad[0] if bad else "evidence"
            raise StageError(f"check.json of the bundle: judgement {number} lacks '{wanted}' or says no such; {_AGAIN}")
    return {row["obligation"]: row for row in rows}


def _figures(quoted: Path | None) -> list[Mapping[str, Any]]:
    rows = _parsed(quoted, quoted.read_bytes()).get("figures") if quoted else []
    if not isinstance(rows, list):
        raise StageError(f"{quoted and quoted.name} has no list 'figures'; see plugins/hrmctl_reporters/quoted.json")
    for number, row in enumerate(rows, 1):
        bad = [
            name for name in _QUOTED if not isinstance(row, dict) or not isinstance(row.get(name), (str, int, float))
        ]
        if bad:
            raise StageError(f"{quoted and quoted.name}: figure {number} lacks '{bad[0]}'; give {', '.join(_QUOTED)}")
    return rows


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        found = loads(raw.decode(), path.name)
    except (HrmctlError, UnicodeDecodeError) as error:
        raise StageError(f"{path.name}: {error}; {_AGAIN}") from error
    if not isinstance(found, dict):
        raise StageError(f"{path.name} is no JSON object; {_AGAIN}")
    return found


def _evidence(body: Mapping[str, Any], digest: str) -> Evidence:
    try:
        provenance = Provenance(**body["provenance"]) if body["provenance"] else None
        if body["type"] not in get_args(EvidenceType):
            raise TypeError(f"no type of evidence is called {body['type']!r}")
        if provenance and not all(isinstance(getattr(provenance, name), Mapping) for name in _MAPPINGS):
            raise TypeError(f"of its provenance, {', '.join(_MAPPINGS)} are not all objects")
        return Evidence(body["name"], body["type"], body["payload"], provenance, digest)
    except (KeyError, TypeError) as error:
        raise StageError(f"{digest[:SHORTEST]} of the bundle is no evidence: {error}; {_AGAIN}") from error


def _plain(provenance: Provenance) -> list[Any]:
    return [getattr(provenance, name) for name in Provenance.__dataclass_fields__]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
