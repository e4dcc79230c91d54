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

SHORTEST = 12
"""Digits of a digest that a report must give; fewer are no citation."""


@dataclass(frozen=True)
class Bundle:
    """`evidence` by whole digest; `altered` are files that are not what their name says, or no evidence at all."""

    evidence: Mapping[str, Evidence]
    judgements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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
    """The bundle in `folder`: `evidence/DIGEST.json`, and `check.json` where it is; `quoted` is the committed file.

    Raises StageError when it holds no folder `evidence` or a file that is no JSON.
    """
    if not (folder / "evidence").is_dir():
        raise StageError("the bundle has no folder 'evidence'; hrmctl report --export FOLDER writes one")
    evidence: dict[str, Evidence] = {}
    altered: list[str] = []
    for path in sorted((folder / "evidence").iterdir()):
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != path.stem:
            altered.append(path.name)
            continue
        found = _evidence(_parsed(path, raw), path.stem)
        if fault(found.type, found.payload):
            altered.append(path.name)
        else:
            evidence[path.stem] = found
    check = _optional(folder / "check.json")
    judgements = {row["obligation"]: row for row in check.get("judgements", ())}
    figures = _parsed(quoted, quoted.read_bytes())["figures"] if quoted else []
    words = frozenset(_texts([[e.provenance and _plain(e.provenance) for e in evidence.values()], check]))
    return Bundle(evidence, judgements, figures, altered, words)


def _optional(path: Path) -> dict[str, Any]:
    return _parsed(path, path.read_bytes()) if path.is_file() else {}


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        found = loads(raw.decode(), path.name)
    except (HrmctlError, UnicodeDecodeError) as error:
        raise StageError(f"{path.name} of the bundle: {error}") from error
    if not isinstance(found, dict):
        raise StageError(f"{path.name} of the bundle is no JSON object")
    return found


def _evidence(body: Mapping[str, Any], digest: str) -> Evidence:
    try:
        provenance = Provenance(**body["provenance"]) if body["provenance"] else None
        if body["type"] not in get_args(EvidenceType):
            raise TypeError(f"no type of evidence is called {body['type']!r}")
        return Evidence(body["name"], body["type"], body["payload"], provenance, digest)
    except (KeyError, TypeError) as error:
        raise StageError(f"{digest[:SHORTEST]} of the bundle is no evidence: {error}") from error


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
