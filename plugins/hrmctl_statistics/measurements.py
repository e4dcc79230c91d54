"""Measures of `measurement/v1`: a value alone, against another, and the loss of guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from hrmctl import Evidence, MeasureError
from hrmctl_statistics import estimators
from hrmctl_statistics.params import AllFiniteParams, CompareParams, NoParams, RateParams, TrialInterval
from hrmctl_statistics.read import (
    Measurement,
    Values,
    curve,
    distinct_evidence,
    finite,
    items,
    measurement,
    number,
    record,
    whole,
)

SHARE_OF = "share of "

FEWEST_TRIALS = 5
"""Below this the extreme percentiles of a resampled median are the smallest and largest trial, no interval."""


def value(evidence: Sequence[Evidence], params: NoParams) -> Values:
    """The measured value; with trials also their least, greatest and median."""
    found = measurement(evidence[0])
    result: dict[str, float | int | str] = {"value": found.value, "n": found.n, "trials": len(found.trials)}
    if found.unit:
        result["unit"] = found.unit
    if found.trials:
        result.update(min=min(found.trials), max=max(found.trials), median=median(found.trials))
    return finite(result)


def ratio(evidence: Sequence[Evidence], params: CompareParams) -> Values:
    """First measurement divided by the second.

    Raises MeasureError on one observation twice, different units, a divisor of zero, or trials of
    the divisor that are zero or change sign.
    """
    left, right = _two(evidence)
    divisors = (right.value, *right.trials)
    if not (all(d > 0 for d in divisors) or all(d < 0 for d in divisors)):
        raise MeasureError(f"{evidence[1].name} is {right.value} with trials {list(right.trials)}; it cannot divide")
    result = _compared(left, right, left.value / right.value)
    medians = _medians(left, right, params.ci)
    if medians is not None:
        result["lo"], result["hi"] = estimators.percentile(medians[0] / medians[1], params.ci.level)
    return finite(result)


def difference(evidence: Sequence[Evidence], params: CompareParams) -> Values:
    """First measurement minus the second, in their unit. Raises MeasureError on one observation twice or two units."""
    left, right = _two(evidence)
    result = _compared(left, right, left.value - right.value)
    medians = _medians(left, right, params.ci)
    if medians is not None:
        result["lo"], result["hi"] = estimators.percentile(medians[0] - medians[1], params.ci.level)
    return finite(result)


def chance(evidence: Sequence[Evidence], params: NoParams) -> Values:
    """Loss in nats of guessing uniformly among the vocabulary: ln(size). Raises MeasureError on a size below 2."""
    found = measurement(evidence[0])
    if found.value != int(found.value) or found.value < 2:
        raise MeasureError(f"{evidence[0].name} is {found.value}; a vocabulary is a whole number of at least 2 tokens")
    return {"value": math.log(found.value), "vocabulary": int(found.value), "n": found.n}


def per(evidence: Sequence[Evidence], params: NoParams) -> Values:
    """First measurement divided by the second, which is in another unit: tokens by seconds.

    Raises MeasureError on one unit (that is `ratio`), a missing unit, or a divisor that is not above zero.
    """
    distinct_evidence(evidence[0], evidence[1])
    left, right = measurement(evidence[0]), measurement(evidence[1])
    if not left.unit or not right.unit:
        raise MeasureError(f"{evidence[0 if not left.unit else 1].name} has no unit")
    if left.unit == right.unit:
        raise MeasureError(f"both are in {left.unit}; `ratio` divides measurements of one unit")
    if right.value <= 0:
        raise MeasureError(f"{evidence[1].name} is {right.value}; it cannot divide")
    result: dict[str, float | int | str] = {"value": left.value / right.value, "unit": f"{left.unit}/{right.unit}"}
    return finite(result | {"left": left.value, "right": right.value, "n": min(left.n, right.n)})


def overlap(evidence: Sequence[Evidence], params: RateParams) -> Values:
    """A share that data screening reports (`share of documents`), as count and n with its Wilson interval.

    Raises MeasureError on another unit, a value that is no whole count of n, or one that its own count contradicts.
    """
    found = measurement(evidence[0])
    if not found.unit.startswith(SHARE_OF):
        raise MeasureError(f"{evidence[0].name} is in {found.unit!r}, not a {SHARE_OF}documents or the like")
    count = round(found.value * found.n)
    if not 0 <= count <= found.n or abs(found.value * found.n - count) > 1e-6 * max(1, count):
        raise MeasureError(f"{evidence[0].name}: {found.value} is no whole count of {found.n}")
    context = evidence[0].payload.get("context")
    if isinstance(context, Mapping) and "count" in context and context["count"] != count:
        raise MeasureError(f"{evidence[0].name}: {found.value} of {found.n} is {count}, its count {context['count']}")
    low, high = estimators.wilson(count / found.n, found.n, params.level)
    of = found.unit.removeprefix(SHARE_OF)
    return {"value": count / found.n, "count": count, "n": found.n, "lo": low, "hi": high, "of": of}


def attempts(evidence: Sequence[Evidence], params: NoParams) -> Values:
    """How many models were judged on a contract and its data set so far, from the ledger.

    Raises MeasureError on anything but the ledger's own `attempts`, a whole number of at least 1.
    """
    item = evidence[0]
    if item.name != "attempts" or (item.provenance is not None and item.provenance.uses != "ledger"):
        raise MeasureError(f"{item.name} is not the ledger's `attempts`; say stage: ledger, name: attempts")
    found = measurement(item)
    return {"value": whole(found.value, "attempts", least=1), "n": found.n}


def all_finite(evidence: Sequence[Evidence], params: AllFiniteParams) -> Values:
    """Whether nothing that was recorded is a null, which stands for NaN or infinity.

    Of a series: every point of every curve. Of a measurement: its value and trials, or with `counted` its value as
    the count of those that were not finite. Raises MeasureError on a count that is not whole or above n.
    """
    item = evidence[0]
    if item.type == "series/v1":
        names = record(record(item.payload, item.name).get("series"), f"{item.name}.series")
        points = [value for name in names for value in curve(item, name)[1]]
        return _finite(sum(value is None for value in points), len(points))
    if params.counted:
        found = measurement(item)
        count = whole(found.value, f"{item.name}.value")
        if count > found.n:
            raise MeasureError(f"{item.name} counts {count} of {found.n}")
        return _finite(count, found.n)
    payload = record(item.payload, item.name)
    values = [payload.get("value"), *(items(payload["trials"], f"{item.name}.trials") if "trials" in payload else ())]
    for value in values:
        if value is not None:
            number(value, f"{item.name}: value")
    return _finite(sum(value is None for value in values), len(values))


def _finite(nonfinite: int, n: int) -> Values:
    if not n:
        raise MeasureError("there is no value to judge")
    return {"value": nonfinite == 0, "nonfinite": nonfinite, "n": n}


def _two(evidence: Sequence[Evidence]) -> tuple[Measurement, Measurement]:
    distinct_evidence(evidence[0], evidence[1])
    left, right = measurement(evidence[0]), measurement(evidence[1])
    if left.unit != right.unit:
        raise MeasureError(f"{evidence[0].name} is in {left.unit!r} and {evidence[1].name} in {right.unit!r}")
    return left, right


def _compared(left: Measurement, right: Measurement, result: float) -> dict[str, float | int]:
    trials = min(len(left.trials), len(right.trials))
    return {"value": result, "left": left.value, "right": right.value, "n": min(left.n, right.n), "trials": trials}


def _medians(
    left: Measurement, right: Measurement, ci: TrialInterval
) -> tuple[estimators.Floats, estimators.Floats] | None:
    if ci.method == "none":
        return None
    reason = _no_interval(left, right)
    if reason and ci.method == "bootstrap":
        raise MeasureError(f"no interval: {reason}")
    if reason:
        return None
    return estimators.bootstrap_medians(left.trials, right.trials, ci.resamples, ci.seed)


def _no_interval(left: Measurement, right: Measurement) -> str:
    if min(len(left.trials), len(right.trials)) < FEWEST_TRIALS:
        return f"{len(left.trials)} and {len(right.trials)} trials; at least {FEWEST_TRIALS} are needed on both sides"
    if not all(math.isclose(side.value, median(side.trials), rel_tol=1e-9) for side in (left, right)):
        return "a value is not the median of its trials"
    return ""
