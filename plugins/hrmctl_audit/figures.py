"""What each row of a report must say, recomputed from the evidence that the row cites.

pass@k, shares and counts are computed here with exact fractions, apart from the code that wrote the report; intervals
and p come from the measures that contracts use, with their default seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from hrmctl import Evidence, Undecidable
from hrmctl.errors import explained
from hrmctl.plugins import catalog
from hrmctl.registry import resolve
from hrmctl_audit.bundle import Bundle
from hrmctl_audit.tables import Row, said, spans

NO_INTERVAL, UNDECIDED = "no interval", "undecided"
HOLDS, NO_EVIDENCE, NO_REMEDY = "every clause holds", "no evidence", "none needed"
FIGURES = ("figure", "value", "unit", "interval", "n", "evidence")
OUTCOMES = ("outcome", "samples", "share", "evidence")
PROBLEMS = ("problem", "samples", "syntax valid", "compiles", "passes tests", "evidence")
COMPARISONS = ("measured", "against", "figure", "difference", "interval", "p", "n", "evidence")
PROVENANCE = ("provenance", "value", "evidence")
VERDICTS = ("verdict", "obligation", "claim", "run", "attempts", "why", "remedy", "evidence")
QUOTED = ("status", "system", "benchmark", "metric", "figure", "source")

Expected = Mapping[str, Any]


class Uncited(Exception):
    """The row cites no evidence of the bundle that could carry its figures; the text says which."""


class Unmeasured(Uncited):
    """A comparison of what was not measured on both sides alike."""


def expected(row: Row, bundle: Bundle) -> Expected | None:
    """What the cells of `row` must say by column; None for a table of a kind that no report has.

    Numbers stand for themselves, pairs for an interval, text for itself. Raises Uncited.
    """
    rule = _RULES.get(row.header)
    return rule(row, bundle) if rule else None


def cited(row: Row, bundle: Bundle) -> list[Evidence]:
    """The evidence that the row's last cell names. Raises Uncited when it names none or one that is not there."""
    digests = spans(row["evidence"])
    found = [bundle.find(digest) for digest in digests]
    if not digests or None in found:
        missing = [digest for digest, one in zip(digests, found, strict=True) if one is None]
        raise Uncited(f"cites {', '.join(missing) or 'nothing'}, which the bundle does not hold")
    return [one for one in found if one is not None]


# --- figures of one model on one data set -----------------------------------------------------------


def _figure(row: Row, bundle: Bundle) -> Expected:
    [evidence] = _exactly(cited(row, bundle), 1)
    name = said(row["figure"])
    if name.startswith("pass@"):
        return _pass_at(evidence, name)
    if evidence.type == "measurement/v1" and evidence.name == name:
        payload = evidence.payload
        shown = {"value": payload["value"], "unit": payload["unit"] or "no unit", "n": payload["n"]}
        return {**shown, "interval": NO_INTERVAL}
    if name in STEPS:
        reached = sum(STEPS[name](outcome) for outcome in outcomes(evidence))
        total = len(outcomes(evidence))
        return {"value": Fraction(reached, total), "unit": "share of samples", "interval": NO_INTERVAL, "n": total}
    raise Uncited(f"{evidence.digest[:12]} is {evidence.type} {evidence.name}, which gives no figure '{name}'")


def _pass_at(evidence: Evidence, name: str) -> Expected:
    k = _k(name)
    value, n = pass_at(evidence, k), len(problems(evidence))
    low_high = _measured("pass_at_k", [evidence], k)
    return {"value": value, "unit": "share of problems", "interval": (low_high["lo"], low_high["hi"]), "n": n}


def _k(name: str) -> int:
    digits = name.removeprefix("pass@")
    if not digits.isdecimal() or int(digits) < 1:
        raise Uncited(f"'{name}' is no pass@k")
    return int(digits)


def pass_at(evidence: Evidence, k: int) -> Fraction:
    """Mean over problems of 1 - C(n-c, k) / C(n, k) (Chen et al. 2021), exactly. Raises Uncited below k samples."""
    rows = problems(evidence)
    if min(row["n"] for row in rows) < k:
        raise Uncited(f"pass@{k} needs {k} samples a problem; {evidence.digest[:12]} has fewer")
    parts = [1 - Fraction(math.comb(row["n"] - row["c"], k), math.comb(row["n"], k)) for row in rows]
    return sum(parts, Fraction(0)) / len(parts)


def problems(evidence: Evidence) -> Sequence[Mapping[str, Any]]:
    """The problems of samples. Raises Uncited for evidence of another type."""
    if evidence.type != "samples/v1":
        raise Uncited(f"{evidence.digest[:12]} is {evidence.type}, not samples/v1")
    found: Sequence[Mapping[str, Any]] = evidence.payload["problems"]
    return found


def outcomes(evidence: Evidence) -> list[str]:
    """How each sample ended. Raises Uncited for evidence without outcomes."""
    rows = problems(evidence)
    if not all(row.get("outcomes") for row in rows):
        raise Uncited(f"{evidence.digest[:12]} does not say how each sample ended")
    return [outcome for row in rows for outcome in row["outcomes"]]


STEPS: Mapping[str, Callable[[str], bool]] = {
    "syntax valid": lambda outcome: outcome not in ("syntax", "refused"),
    "compiles": lambda outcome: outcome not in ("syntax", "compile", "refused"),
    "passes tests": lambda outcome: outcome == "passed",
}
"""How far a sample came, from its outcome; one that was refused was never looked at."""


def programs(evidence: Evidence) -> bool:
    """Whether the samples are programs, so that a report must say how far each came."""
    return evidence.provenance is not None and evidence.provenance.uses == "eval"


def of_model(evidence: Evidence) -> bool:
    """Whether the evidence says which model it is about, so that a report must show it."""
    return evidence.provenance is not None and "model" in evidence.provenance.subjects


def _outcome(row: Row, bundle: Bundle) -> Expected:
    [evidence] = _exactly(cited(row, bundle), 1)
    found = outcomes(evidence)
    count = Counter(found)[said(row["outcome"])]
    return {"outcome": said(row["outcome"]), "samples": count, "share": Fraction(count, len(found))}


def _problem(row: Row, bundle: Bundle) -> Expected:
    [evidence] = _exactly(cited(row, bundle), 1)
    outcomes(evidence)
    found = {problem["id"]: problem for problem in problems(evidence)}
    problem = found.get(said(row["problem"]))
    if problem is None:
        raise Uncited(f"{evidence.digest[:12]} has no problem '{said(row['problem'])}'")
    reached = {name: sum(map(step, problem["outcomes"])) for name, step in STEPS.items()}
    return {"problem": problem["id"], "samples": problem["n"], **reached}


# --- comparisons, provenance, verdicts --------------------------------------------------------------


def _comparison(row: Row, bundle: Bundle) -> Expected:
    try:
        ours, theirs = _exactly(cited(row, bundle), 2)
        _require_pair(ours, theirs)
    except Uncited as error:
        raise Unmeasured(str(error)) from error
    k = _k(said(row["figure"]))
    names = {"measured": _label(ours), "against": _label(theirs), "n": len(problems(ours))}
    difference = pass_at(ours, k) - pass_at(theirs, k)
    try:
        found = _measured("paired_delta", [ours, theirs], k)
    except Undecidable:
        return {**names, "difference": difference, "interval": NO_INTERVAL, "p": UNDECIDED}
    p = mcnemar(_first(ours), _first(theirs))
    return {**names, "difference": difference, "interval": (found["lo"], found["hi"]), "p": p}


def _require_pair(ours: Evidence, theirs: Evidence) -> None:
    sides = (ours.provenance, theirs.provenance)
    if any(side is None or not side.run for side in sides):
        raise Unmeasured("a side comes from no run")
    a, b = (side.subjects for side in sides if side is not None)
    if a.get("dataset") != b.get("dataset") or {p["id"] for p in problems(ours)} != {p["id"] for p in problems(theirs)}:
        raise Unmeasured("the sides were not measured on the same problems")
    if a.get("model") is None or b.get("model") is None or a["model"] == b["model"]:
        raise Unmeasured("the sides are not two models")
    outcomes(ours), outcomes(theirs)


def _first(evidence: Evidence) -> Mapping[str, bool]:
    return {row["id"]: row["outcomes"][0] == "passed" for row in problems(evidence)}


def mcnemar(ours: Mapping[str, bool], theirs: Mapping[str, bool]) -> float:
    """Exact two-sided McNemar p over the first samples, summed in whole numbers; 1 where none differ."""
    only_ours = sum(ours[name] and not theirs[name] for name in ours)
    only_theirs = sum(theirs[name] and not ours[name] for name in ours)
    total = only_ours + only_theirs
    tail = sum(math.comb(total, i) for i in range(min(only_ours, only_theirs) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**total)))


def _provenance(row: Row, bundle: Bundle) -> Expected:
    [evidence] = _exactly(cited(row, bundle), 1)
    facts = facts_of(evidence)
    name = said(row["provenance"])
    if name not in facts:
        raise Uncited(f"{evidence.digest[:12]} does not say '{name}'")
    return {"value": facts[name]}


def facts_of(evidence: Evidence) -> Mapping[str, str]:
    """What evidence says of its making, by the names that a report uses. Raises Uncited without a run."""
    made = evidence.provenance
    if made is None:
        raise Uncited(f"{evidence.digest[:12]} comes from no run")
    settings = {name: value for name, value in evidence.payload.items() if isinstance(value, (str, int, float, list))}
    return {
        **{"run": made.run, "stage": made.uses, "seed": str(made.seed), "started": made.started, "ended": made.ended},
        **{"command": " ".join(["hrmctl", *made.argv]), "code": made.code_version, "parameters": made.params_digest},
        **{f"{role} digest": digest for role, digest in made.subjects.items()},
        **{f"hardware {name}": value for name, value in made.hardware.items()},
        **{f"version of {name}": value for name, value in made.tools.items()},
        **{f"setting {name}": _spelt(value) for name, value in settings.items() if name != "problems"},
    }


def _spelt(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _verdict(row: Row, bundle: Bundle) -> Expected:
    judged = bundle.judgements.get(said(row["obligation"]))
    if judged is None:
        raise Uncited(f"the check holds no obligation '{said(row['obligation'])}'")
    evidence = [digest[:12] for digest in judged["evidence"]]
    missing = [digest for digest in evidence if bundle.find(digest) is None]
    if missing:
        raise Uncited(f"cites {', '.join(missing)}, which the bundle does not hold")
    shown = {"verdict": judged["verdict"], "claim": judged["title"], "run": judged["run"] or "no run"}
    cell = ", ".join(evidence) or NO_EVIDENCE
    told = {
        "why": explained(judged["because"], judged["reason"]) or HOLDS,
        "remedy": judged["remedy"] or NO_REMEDY,
        "evidence": cell,
    }
    return {**shown, **told, "attempts": judged["attempts"]}


def _exactly(found: list[Evidence], number: int) -> list[Evidence]:
    if len(found) != number:
        raise Uncited(f"cites {len(found)} pieces of evidence, not {number}")
    return found


def _label(evidence: Evidence) -> str:
    return evidence.provenance.labels.get("model", "") if evidence.provenance else ""


def _measured(name: str, evidence: list[Evidence], k: int) -> Mapping[str, Any]:
    spec = catalog().measures[name]
    found: Mapping[str, Any] = resolve(spec.target)(evidence, spec.params(k=k))
    return found


_RULES: Mapping[tuple[str, ...], Callable[[Row, Bundle], Expected]] = {
    FIGURES: _figure,
    OUTCOMES: _outcome,
    PROBLEMS: _problem,
    COMPARISONS: _comparison,
    PROVENANCE: _provenance,
    VERDICTS: _verdict,
}
