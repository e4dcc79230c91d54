"""The stage `data.decontaminate`: which training documents hold parts of a benchmark, by n-grams of tokens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from hrmctl_sandbox.formats import read_tasks

from hrmctl import Artifact, Context, Observation, Output, Problem, StageError, StageInputs, StageResult
from hrmctl.jsonio import canonical
from hrmctl_data.decontaminate_index import Benchmark, Index, Overlap, planted, self_overlap
from hrmctl_data.decontaminate_params import DecontaminateParams
from hrmctl_data.documents import Document, Reader, shown
from hrmctl_data.reading import faults_of, read_faults

_SHOWN = 20


@dataclass
class Tally:
    """What one benchmark has in common with the documents seen so far."""

    documents: int = 0
    problems: set[int] = field(default_factory=set)

    def add(self, overlaps: Sequence[Overlap]) -> None:
        """Count one document's overlaps with this benchmark."""
        self.documents += bool(overlaps)
        self.problems.update(overlap.field.problem for overlap in overlaps)


@dataclass
class Screening:
    """One pass over the documents: what is kept, what is reported, and the counts."""

    params: DecontaminateParams
    source: str
    tallies: list[Tally]
    documents: int = 0
    overlapping: int = 0
    kept: int = 0
    first: list[Problem] = field(default_factory=list)


def run(params: DecontaminateParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Compare each document of `data` with every problem of `benchmarks`; keep those that hold nothing of them.

    One pass in constant memory; deterministic. The output `data` is left out where no document is left, and is the
    input itself where none may be dropped. Raises StageError with the line of each bad row, for a benchmark
    given twice, and with `action: fail` where a document overlaps.
    """
    data: Artifact = inputs["data"]
    benchmarks = _benchmarks(inputs["benchmarks"])
    index = Index(benchmarks, params)
    label = f"{data.label}/decontaminated" if params.action == "drop" else data.label
    outputs = {"data": Output(ctx.scratch / "data.jsonl", label), "report": Output(ctx.scratch / "report.jsonl", label)}
    screening = Screening(params, data.label, [Tally() for _ in benchmarks])
    with outputs["data"].path.open("wb") as clean, outputs["report"].path.open("wb") as report:
        for document in Reader(data, params.format, ctx):
            _screen(document, index, benchmarks, screening, clean, report)
    if params.action == "fail" and screening.overlapping:
        more = screening.overlapping - len(screening.first)
        raise StageError(*screening.first, *([f"{more} more documents overlap"] if more else []))
    if not screening.kept:
        del outputs["data"]
    elif params.action != "drop":
        shutil.copyfile(data.path, outputs["data"].path)
    return StageResult(outputs, _evidence(data, inputs["benchmarks"], benchmarks, index, screening))


def _benchmarks(given: Sequence[Artifact]) -> list[Benchmark]:
    if len({artifact.digest for artifact in given}) < len(given):
        raise StageError("a benchmark is given twice; give each once")
    result = []
    for artifact in given:
        if not artifact.path.is_file():
            raise StageError(f"the benchmark {artifact.label} is a folder; give one file of problems")
        with faults_of(artifact), read_faults():
            result.append(Benchmark(artifact.label, read_tasks(artifact.path)))
    return result


def _screen(
    document: Document,
    index: Index,
    benchmarks: Sequence[Benchmark],
    screening: Screening,
    clean: BinaryIO,
    report: BinaryIO,
) -> None:
    overlaps = index.find(document.text)
    screening.documents += 1
    screening.overlapping += bool(overlaps)
    for number, tally in enumerate(screening.tallies):
        tally.add([overlap for overlap in overlaps if overlap.field.benchmark == number])
    for overlap in overlaps:
        report.write(_line(document, screening.documents, benchmarks[overlap.field.benchmark], overlap))
    if overlaps and len(screening.first) < _SHOWN:
        screening.first.append(_problem(document, screening.source, benchmarks, overlaps[0]))
    if not overlaps or screening.params.action != "drop":
        screening.kept += 1
        clean.write(document.written)


def _line(document: Document, number: int, benchmark: Benchmark, overlap: Overlap) -> bytes:
    row = {
        "document": number,
        "line": document.line,
        "id": document.name,
        "benchmark": benchmark.label,
        "task_id": overlap.field.task_id,
        "field": overlap.field.name,
        "match": overlap.match,
        "share": round(overlap.share, 4),
        "excerpt": shown(overlap.excerpt),
    }
    return canonical(row).encode() + b"\n"


def _problem(document: Document, source: str, benchmarks: Sequence[Benchmark], overlap: Overlap) -> Problem:
    found = overlap.field
    what = f"holds {overlap.share:.0%} of the {found.name} of {found.task_id} ({benchmarks[found.benchmark].label})"
    return Problem(what, source, document.line, 1, "remove it, or say action: drop")


def _evidence(
    data: Artifact, given: Sequence[Artifact], benchmarks: Sequence[Benchmark], index: Index, screening: Screening
) -> list[Observation]:
    params = screening.params
    context = {"ngram": params.n, "granularity": params.granularity, "threshold": params.threshold}
    about = {"dataset": data}
    total = _share(screening.overlapping, screening.documents, "share of documents", context)
    result = [Observation("overlap_any", "measurement/v1", total, about)]
    for number, (artifact, benchmark, tally) in enumerate(zip(given, benchmarks, screening.tallies, strict=True)):
        problems, both = len(benchmark.tasks), {**about, "benchmark": artifact}
        found, asked = planted(index, benchmark, number)
        measured = {
            "overlap": _share(tally.documents, screening.documents, "share of documents", context),
            "problems_found": _share(len(tally.problems), problems, "share of problems", context),
            "self_overlap": _share(self_overlap(index, benchmark, number), problems, "share of problems", context),
            "ngram": {"value": params.n, "unit": params.granularity, "n": problems},
            "threshold": {"value": params.threshold, "unit": "share", "n": problems},
        }
        if asked:
            measured["planted_found"] = _share(found, asked, "share of problems", context)
        result += [Observation(name, "measurement/v1", payload, both) for name, payload in measured.items()]
    return result


def _share(count: int, n: int, unit: str, context: dict[str, Any]) -> dict[str, Any]:
    return {"value": count / n, "unit": unit, "n": n, "context": {**context, "count": count}}
