"""The stage `data.quality`: every training document scored from 0 to 100, and what the corpus looks like."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from hrmctl import Artifact, Context, Observation, Output, StageInputs, StageResult
from hrmctl.jsonio import canonical
from hrmctl_data.documents import BadDocument, Document, Reader
from hrmctl_data.ngrams import code_tokens, words
from hrmctl_data.quality_params import QualityParams
from hrmctl_data.quality_parts import Parts, parts_of
from hrmctl_data.quality_rubric import RUBRIC, Score, score

_PASS = 80.0
_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass
class Scores:
    """Scores in tenths of a point, counted, so that memory does not grow with the documents; and points lost."""

    counts: Counter[int] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def add(self, found: Score) -> None:
        """Count one document."""
        self.counts[round(found.value * 10)] += 1
        self.lost.update({name: 1 for name, points in found.lost.items() if points})

    @property
    def n(self) -> int:
        """Documents counted."""
        return self.counts.total()

    def mean(self) -> float:
        """Mean score."""
        return sum(tenths * n for tenths, n in self.counts.items()) / self.n / 10

    def percentile(self, percent: int) -> float:
        """The least score that at least `percent` of 100 documents do not exceed (nearest rank)."""
        rank, seen = max(1, -(-percent * self.n // 100)), 0
        for tenths in sorted(self.counts):
            seen += self.counts[tenths]
            if seen >= rank:
                break
        return tenths / 10

    def below(self, limit: float) -> int:
        """How many documents score less than `limit`."""
        return sum(n for tenths, n in self.counts.items() if tenths < round(limit * 10))


@dataclass
class Screening:
    """One pass: all scores, how many documents were kept, and digests of what was seen (16 bytes a document)."""

    params: QualityParams
    every: Scores = field(default_factory=Scores)
    kept: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seen: set[bytes] = field(default_factory=set)


def run(params: QualityParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Score each document of `data`, report every score, and keep those of at least `keep_above` points.

    Deterministic. The output `data` is left out where nothing is kept, and is the input itself without a limit. What is
    kept is not measured here, where it holds by construction: score it again, without a limit.
    Raises StageError with the line of each bad row.
    """
    data: Artifact = inputs["data"]
    label = f"{data.label}/filtered" if params.keep_above else data.label
    outputs = {"data": Output(ctx.scratch / "data.jsonl", label), "report": Output(ctx.scratch / "report.jsonl", label)}
    screening = Screening(params)
    reader = Reader(data, params.format, ctx)
    with (
        outputs["data"].path.open("wb") as clean,
        outputs["report"].path.open("wb") as report,
        warnings.catch_warnings(),
    ):
        # Programs of others hold invalid escapes; that is their affair and no warning of ours.
        warnings.simplefilter("ignore")
        for document in reader:
            try:
                _screen(document, parts_of(document, params.kind), screening, clean, report)
            except BadDocument as error:
                reader.reject(document.line, str(error))
    if not screening.kept:
        del outputs["data"]
    elif not params.keep_above:
        shutil.copyfile(data.path, outputs["data"].path)
    return StageResult(outputs, _evidence(screening.every, screening.kinds, {"dataset": data}))


def _screen(document: Document, parts: Parts, screening: Screening, clean: BinaryIO, report: BinaryIO) -> None:
    digest = _digest(parts)
    found = score(parts, digest in screening.seen)
    screening.seen.add(digest)
    screening.every.add(found)
    screening.kinds[parts.kind] += 1
    kept = found.value >= screening.params.keep_above
    if kept:
        screening.kept += 1
        clean.write(document.written)
    row = {"line": document.line, "id": document.name, "kind": parts.kind, "score": found.value, "kept": kept}
    report.write(canonical({**row, "lost": found.lost}).encode() + b"\n")


def _digest(parts: Parts) -> bytes:
    """Equal for documents that differ in case, whitespace, punctuation of text or comments of code alone."""
    tokens = code_tokens(parts.answer) if parts.kind == "code" else words(parts.answer)
    tokens = tokens or parts.answer.split()
    body = "\0".join((" ".join(words(parts.prompt)), " ".join(tokens)))
    return hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _evidence(scores: Scores, kinds: Counter[str], about: dict[str, Any]) -> list[Observation]:
    context = {"lost": {name: scores.lost[name] for name in sorted(scores.lost)}, "kinds": dict(sorted(kinds.items()))}
    below = scores.below(_PASS)
    measured: dict[str, tuple[float, str, dict[str, Any]]] = {
        "quality": (scores.mean(), "points", context),
        "quality_min": (min(scores.counts) / 10, "points", {}),
        "below_80": (below / scores.n, "share of documents", {"count": below}),
        **{f"quality_p{p:02}": (scores.percentile(p), "points", {}) for p in _PERCENTILES},
    }
    return [
        Observation(name, "measurement/v1", _payload(value, unit, scores.n, extra), about)
        for name, (value, unit, extra) in measured.items()
    ]


def _payload(value: float, unit: str, n: int, context: dict[str, Any]) -> dict[str, Any]:
    return {"value": value, "unit": unit, "n": n, **({"context": context} if context else {})}


def weights() -> dict[str, dict[str, int]]:
    """The weights of the rubric in points, by kind and criterion."""
    return {kind: {criterion.name: criterion.weight for criterion in rubric} for kind, rubric in RUBRIC.items()}
