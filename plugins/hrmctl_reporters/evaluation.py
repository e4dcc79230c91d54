"""The evaluation report: what was measured of every evaluated model, each figure with the digest of its evidence.

`audit.report` (plugin audit) reads these tables by their headers; docs/reports.md lists them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import combinations
from typing import Any

from hrmctl import CheckReport, Evidence, EvidenceReport, Judgement, MeasureError, Provenance, Undecidable
from hrmctl.plugins import catalog
from hrmctl.registry import resolve
from hrmctl_reporters import view
from hrmctl_reporters.markdown import code, text

DIGITS = 12
FIGURES = ("figure", "value", "unit", "interval", "n", "evidence")
OUTCOMES = ("outcome", "samples", "share", "evidence")
PROBLEMS = ("problem", "samples", "syntax valid", "compiles", "passes tests", "evidence")
COMPARISONS = ("measured", "against", "figure", "difference", "interval", "p", "n", "evidence")
PROVENANCE = ("provenance", "value", "evidence")
VERDICTS = ("verdict", "obligation", "claim", "run", "attempts", "why", "remedy", "evidence")
QUOTED = ("status", "system", "benchmark", "metric", "figure", "source")
NO_INTERVAL, UNDECIDED = "no interval", "undecided"
STEPS: Mapping[str, Callable[[str], bool]] = {
    "syntax valid": lambda outcome: outcome not in ("syntax", "refused"),
    "compiles": lambda outcome: outcome not in ("syntax", "compile", "refused"),
    "passes tests": lambda outcome: outcome == "passed",
}
HOW = (
    "Every figure names its evidence by the first digits of its digest. Intervals are at ninety-five per cent: "
    "percentile bootstrap over problems, Wilson's where all problems are alike. p is exact McNemar's over first "
    "samples. How far a sample came is told by its outcome; one that was refused was never looked at."
)


def report(given: EvidenceReport | CheckReport) -> str:
    """The report as Markdown; of a check without evidence it says that nothing was measured, and the commands."""
    if isinstance(given, CheckReport):
        given = EvidenceReport(given, ())
    evaluated = [e for e in given.evidence if e.type == "samples/v1" and e.provenance and "model" in _about(e)]
    blocks = ["# Evaluation report", *_head(given.check), HOW]
    blocks += [block for evidence in evaluated for block in _evaluation(evidence, given.evidence)] or [
        _unmeasured(given)
    ]
    blocks += ["## Comparisons", *_comparisons(evaluated)]
    blocks += ["## Verdicts", *_verdicts(given.check)]
    return "\n\n".join([*blocks, *_quoted()])


def _about(evidence: Evidence) -> Mapping[str, str]:
    return evidence.provenance.subjects if evidence.provenance else {}


def _head(check: CheckReport) -> Iterator[str]:
    runs = sorted({j.run for j in check.judgements if j.run} or ({check.run} - {""}))
    of = f" of {', '.join(map(code, runs))}" if runs else ", which no run has evidence for"
    yield f"Check {code(check.check)}{of}."


def _unmeasured(given: EvidenceReport) -> str:
    remedies = sorted({j.remedy for j in given.check.judgements if j.remedy and j.verdict != "PASS"})
    commands = [f"* {code(remedy)}" for remedy in remedies] or ["* `hrmctl pipeline RECIPE`, then `hrmctl check`"]
    return "\n".join(
        ["## Evaluations", "", "No model was evaluated: not measured. What would measure it:", "", *commands]
    )


# --- one model on one data set ----------------------------------------------------------------------


def _evaluation(evidence: Evidence, every: Sequence[Evidence]) -> Iterator[str]:
    made = evidence.provenance
    assert made is not None
    yield f"## {code(made.labels.get('model', 'model'))} on {code(made.labels.get('dataset', 'data'))}"
    yield _table(FIGURES, [*_passes(evidence), *_steps(evidence), *_measurements(evidence, every)])
    ended = _outcomes(evidence)
    if ended:
        rows = [(text(o), str(n), _number(n / len(ended)), _cite(evidence)) for o, n in Counter(ended).most_common()]
        yield _table(OUTCOMES, rows)
    if _programs(evidence):
        yield _table(PROBLEMS, [_problem(evidence, row) for row in evidence.payload["problems"]])
    yield _table(PROVENANCE, [(name, code(value), _cite(evidence)) for name, value in _facts(evidence, made)])


def _passes(evidence: Evidence) -> Iterator[tuple[str, ...]]:
    for k in _ks(evidence):
        found = _measured("pass_at_k", [evidence], k)
        interval = f"{_number(found['lo'])} to {_number(found['hi'])}"
        yield (f"pass@{k}", _number(found["value"]), "share of problems", interval, str(found["n"]), _cite(evidence))


def _ks(evidence: Evidence) -> list[int]:
    """The k that were asked for, as far as every problem has as many samples; 1 in any case."""
    fewest = min(row["n"] for row in evidence.payload["problems"])
    return sorted({1, *(k for k in evidence.payload.get("k", ()) if k <= fewest)})


def _steps(evidence: Evidence) -> Iterator[tuple[str, ...]]:
    outcomes = _outcomes(evidence)
    for name, step in STEPS.items() if _programs(evidence) else ():
        share = _number(sum(map(step, outcomes)) / len(outcomes))
        yield (name, share, "share of samples", NO_INTERVAL, str(len(outcomes)), _cite(evidence))


def _measurements(evidence: Evidence, every: Sequence[Evidence]) -> Iterator[tuple[str, ...]]:
    """What the same stage measured of the same model and data."""
    for other in every:
        if other.type == "measurement/v1" and _place(other) == _place(evidence):
            value, unit, n = (other.payload[name] for name in ("value", "unit", "n"))
            yield (text(other.name), _number(value), text(unit) or "no unit", NO_INTERVAL, str(n), _cite(other))


def _place(evidence: Evidence) -> tuple[Any, ...]:
    made = evidence.provenance
    return (made.key, dict(made.subjects)) if made else ()


def _programs(evidence: Evidence) -> bool:
    return evidence.provenance is not None and evidence.provenance.uses == "eval" and bool(_outcomes(evidence))


def _outcomes(evidence: Evidence) -> list[str]:
    return [outcome for row in evidence.payload["problems"] for outcome in row.get("outcomes", ())]


def _problem(evidence: Evidence, row: Mapping[str, Any]) -> tuple[str, ...]:
    reached = [str(sum(map(step, row["outcomes"]))) for step in STEPS.values()]
    return (code(row["id"]), str(row["n"]), *reached, _cite(evidence))


def _facts(evidence: Evidence, made: Provenance) -> list[tuple[str, str]]:
    own = {"run": made.run, "stage": made.uses, "seed": str(made.seed), "started": made.started, "ended": made.ended}
    own |= {"command": " ".join(["hrmctl", *made.argv]), "code": made.code_version, "parameters": made.params_digest}
    own |= {f"{role} digest": digest for role, digest in made.subjects.items()}
    own |= {f"hardware {name}": value for name, value in made.hardware.items()}
    own |= {f"version of {name}": value for name, value in made.tools.items()}
    settings = {name: value for name, value in evidence.payload.items() if isinstance(value, (str, int, float, list))}
    own |= {f"setting {name}": _spelt(value) for name, value in settings.items() if name != "problems"}
    return [(text(name), value) for name, value in own.items() if value.strip()]


def _spelt(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# --- comparisons, verdicts, quoted figures ----------------------------------------------------------


def _comparisons(evaluated: Sequence[Evidence]) -> list[str]:
    rows = [row for ours, theirs in combinations(evaluated, 2) for row in _pair(ours, theirs)]
    if not rows:
        return ["No two models were measured on the same problems in the same way: not compared."]
    return ["Only what was measured on both sides, on the same problems, is compared.", _table(COMPARISONS, rows)]


def _pair(ours: Evidence, theirs: Evidence) -> Iterator[tuple[str, ...]]:
    labels = [e.provenance.labels.get("model", "model") for e in (ours, theirs) if e.provenance]
    # Two seeds of one model are no comparison, nor is one model under two names.
    if labels[0] == labels[1] or _about(ours)["model"] == _about(theirs)["model"]:
        return
    if not (_outcomes(ours) and _outcomes(theirs)):
        return
    for k in sorted({*_ks(ours)} & {*_ks(theirs)}):
        try:
            value, interval, p = _difference(ours, theirs, k)
        except MeasureError:
            return
        n = str(len(ours.payload["problems"]))
        yield (*map(code, labels), f"pass@{k}", value, interval, p, n, f"{_cite(ours)} {_cite(theirs)}")


def _difference(ours: Evidence, theirs: Evidence, k: int) -> tuple[str, str, str]:
    try:
        found = _measured("paired_delta", [ours, theirs], k)
    except Undecidable:
        both = [_measured("pass_at_k", [side], k)["value"] for side in (ours, theirs)]
        return _number(both[0] - both[1]), NO_INTERVAL, UNDECIDED
    return _number(found["value"]), f"{_number(found['lo'])} to {_number(found['hi'])}", _number(found["mcnemar_p"])


def _verdicts(check: CheckReport) -> list[str]:
    if not check.judgements:
        return [view.NOTHING]
    return [_table(VERDICTS, [_verdict(judgement) for judgement in check.judgements])]


def _verdict(judgement: Judgement) -> tuple[str, ...]:
    run = code(judgement.run) if judgement.run else "no run"
    remedy = code(judgement.remedy) if judgement.remedy else "none needed"
    why = text(view.explanation(judgement)) or "every clause holds"
    cited = ", ".join(code(digest[:DIGITS]) for digest in judgement.evidence) or "no evidence"
    named = (judgement.verdict.value, code(judgement.obligation), text(judgement.title))
    return (*named, run, str(judgement.attempts), why, remedy, cited)


def quoted() -> list[dict[str, str]]:
    """The committed figures of other systems, each with its source."""
    found: list[dict[str, str]] = json.loads(files("hrmctl_reporters").joinpath("quoted.json").read_text())["figures"]
    return found


def _quoted() -> list[str]:
    rows = [("quoted", *(text(figure[column]) for column in QUOTED[1:])) for figure in quoted()]
    said = (
        "Published figures of other systems, measured by others in other ways: no contract compares them with anything."
    )
    return ["## Quoted figures", said, _table(QUOTED, rows)]


# --- cells ------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _cite(evidence: Evidence) -> str:
    return code(evidence.digest[:DIGITS])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _measured(name: str, evidence: Sequence[Evidence], k: int) -> Mapping[str, Any]:
    spec = catalog().measures[name]
    found: Mapping[str, Any] = resolve(spec.target)(evidence, spec.params(k=k))
    return found
