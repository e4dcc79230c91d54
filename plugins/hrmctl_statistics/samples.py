"""Measures of `samples/v1`: what share of problems and samples passed, and how two models differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hrmctl import Evidence, MeasureError, Undecidable
from hrmctl_statistics import estimators
from hrmctl_statistics.params import (
    NoParams,
    OutcomeParams,
    PairedDeltaParams,
    PassAtKParams,
    ProportionInterval,
    RateParams,
)
from hrmctl_statistics.read import (
    Problem,
    Values,
    distinct_evidence,
    finite,
    first_passed,
    measurement,
    problems,
    record,
    word,
)

SHARES = frozenset({"fraction", "share", "proportion", "ratio"})
PERCENTAGES = frozenset({"%", "percent", "pct", "pp"})
Pairs = Sequence[tuple[Problem, Problem]]


def pass_at_k(evidence: Sequence[Evidence], params: PassAtKParams) -> Values:
    """Mean unbiased pass@k over problems with an interval over problems.

    Raises MeasureError when a problem has fewer than k samples, or `wilson` is asked for and a
    problem's pass@k is neither 0 nor 1.
    """
    rows = problems(evidence[0])
    scores = [estimators.pass_at_k(p.n, p.c, params.k) for p in rows]
    interval = _interval(scores, params.ci)
    value = math.fsum(scores) / len(scores)
    return finite({"value": value, "n": len(rows), "samples": min(p.n for p in rows), **interval})


def _interval(scores: Sequence[float], ci: ProportionInterval) -> dict[str, float | str]:
    if ci.method == "none":
        return {"ci": "none"}
    if ci.method == "wilson" and not set(scores) <= {0.0, 1.0}:
        raise MeasureError("a Wilson interval needs problems that pass or fail; use `method: bootstrap`")
    # Resampling equal scores gives an interval of no width; Wilson's is the wider, honest one there.
    if ci.method == "wilson" or len(set(scores)) == 1:
        low, high = estimators.wilson(math.fsum(scores) / len(scores), len(scores), ci.level)
        return {"lo": low, "hi": high, "ci": "wilson"}
    means = estimators.bootstrap_means(scores, ci.resamples, ci.seed)
    low, high = estimators.percentile(means, ci.level)
    return {"lo": low, "hi": high, "ci": "bootstrap"}


def pass_rate(evidence: Sequence[Evidence], params: RateParams) -> Values:
    """A proportion with its Wilson interval: problems whose first sample passed, or a measured count out of n.

    Raises MeasureError on a measurement that is neither a count of at most n nor a share of n.
    """
    if evidence[0].type == "samples/v1":
        rows = problems(evidence[0])
        return _rate(sum(first_passed(p) for p in rows), len(rows), params.level)
    return _rate(*_counted(evidence[0]), params.level)


def _counted(evidence: Evidence) -> tuple[int, int]:
    found = measurement(evidence)
    unit = found.unit.casefold()
    if unit in PERCENTAGES:
        raise MeasureError(f"{evidence.name} is in {found.unit}; report the count, or the share between 0 and 1")
    count = found.value * found.n if unit in SHARES else found.value
    if abs(count - round(count)) > 1e-6 or not 0 <= round(count) <= found.n:
        raise MeasureError(f"{evidence.name}: {found.value} {found.unit} is no whole count of {found.n}")
    return round(count), found.n


def _rate(count: int, n: int, level: float) -> Values:
    low, high = estimators.wilson(count / n, n, level)
    return {"value": count / n, "n": n, "count": count, "lo": low, "hi": high}


def outcome_rate(evidence: Sequence[Evidence], params: OutcomeParams) -> Values:
    """Share of all samples whose outcome is `params.outcome`, or one of them, with a Wilson interval over samples.

    Samples of one problem are not independent, so with several samples a problem the interval is
    too narrow: compare `value`, or evaluate one sample a problem. Raises MeasureError without outcomes.
    """
    rows = problems(evidence[0])
    if not all(p.outcomes for p in rows):
        raise MeasureError(f"{evidence[0].name}: samples without outcomes")
    wanted = {params.outcome} if isinstance(params.outcome, str) else set(params.outcome)
    samples = [outcome for p in rows for outcome in p.outcomes]
    return _rate(sum(outcome in wanted for outcome in samples), len(samples), params.level)


def distinct(evidence: Sequence[Evidence], params: NoParams) -> Values:
    """Mean share of different completions within a problem.

    Raises MeasureError without completion digests, and with one sample a problem, which always
    differs from no other.
    """
    rows = _completed(evidence[0])
    counts = [len(set(p.completions)) for p in rows]
    value = math.fsum(count / p.n for count, p in zip(counts, rows, strict=True)) / len(rows)
    return {"value": value, "n": len(rows), "min_distinct": min(counts), "samples": min(p.n for p in rows)}


def same_samples(evidence: Sequence[Evidence], params: NoParams) -> Values:
    """Whether all completions of every problem are the same, as they are without any randomness.

    Raises MeasureError as `distinct` does.
    """
    rows = _completed(evidence[0])
    differing = sum(len(set(p.completions)) > 1 for p in rows)
    return {"value": differing == 0, "differing": differing, "n": len(rows), "samples": min(p.n for p in rows)}


def _completed(evidence: Evidence) -> tuple[Problem, ...]:
    """Problems with at least two completions each."""
    rows = problems(evidence)
    if not all(p.completions for p in rows):
        raise MeasureError(f"{evidence.name}: samples without completion digests")
    if min(p.n for p in rows) < 2:
        raise MeasureError(f"{evidence.name}: needs at least 2 samples a problem")
    return rows


def mode(evidence: Sequence[Evidence], params: NoParams) -> Values:
    """The mode the sandbox ran in, as text. Raises MeasureError where it is not recorded."""
    payload = record(evidence[0].payload, evidence[0].name)
    return {"value": word(payload.get("mode"), f"{evidence[0].name}.mode"), "n": len(problems(evidence[0]))}


def paired_delta(evidence: Sequence[Evidence], params: PairedDeltaParams) -> Values:
    """Difference of pass@k, first minus second, on the same problems.

    Percentile bootstrap over problems for the interval and `p`; exact McNemar on the first
    sample of each problem. Raises MeasureError when the sides are not paired, Undecidable when
    every problem differs alike or no first samples disagree.
    """
    left, right = evidence
    pairs = paired(left, right)
    deltas = [estimators.pass_at_k(a.n, a.c, params.k) - estimators.pass_at_k(b.n, b.c, params.k) for a, b in pairs]
    table = discordance(pairs)
    if round(max(deltas) - min(deltas), estimators.DECIMALS) == 0:
        raise Undecidable(f"all {len(pairs)} problems differ by {deltas[0]:g}; resampling them cannot show a spread")
    if not table["discordant"]:
        raise Undecidable(f"no first samples of {len(pairs)} problems disagree")
    means = estimators.bootstrap_means(deltas, params.resamples, params.seed)
    low, high = estimators.percentile(means, params.level)
    return finite(
        {
            "value": round(math.fsum(deltas) / len(deltas), estimators.DECIMALS),
            "lo": low,
            "hi": high,
            "p": estimators.bootstrap_p(means),
            "mcnemar_p": estimators.mcnemar(table["only_a"], table["only_b"]),
            "n": len(pairs),
            "samples": min(min(a.n, b.n) for a, b in pairs),
            **table,
        }
    )


def paired(left: Evidence, right: Evidence) -> Pairs:
    """The problems of both sides by id, in order of the ids. Raises MeasureError where the sides are not paired."""
    distinct_evidence(left, right)
    _comparable(left, right)
    a, b = {p.id: p for p in problems(left)}, {p.id: p for p in problems(right)}
    if a.keys() != b.keys():
        odd = sorted(a.keys() ^ b.keys())
        raise MeasureError(f"unpaired: {len(odd)} problems are on one side only, the first is {odd[0]}")
    return [(a[name], b[name]) for name in sorted(a)]


def _comparable(left: Evidence, right: Evidence) -> None:
    if left.payload.get("mode") != right.payload.get("mode"):
        raise MeasureError("unpaired: the sides ran in different sandbox modes")
    if left.provenance is None or right.provenance is None:
        return
    if left.provenance.subjects.get("dataset") != right.provenance.subjects.get("dataset"):
        raise MeasureError("unpaired: the sides were evaluated on different data sets")


def discordance(pairs: Pairs) -> dict[str, int]:
    """How often the first samples of both sides passed: both, only one, neither."""
    first = [(first_passed(a), first_passed(b)) for a, b in pairs]
    only_a, only_b = first.count((True, False)), first.count((False, True))
    return {
        "both": first.count((True, True)),
        "only_a": only_a,
        "only_b": only_b,
        "neither": first.count((False, False)),
        "discordant": only_a + only_b,
    }
