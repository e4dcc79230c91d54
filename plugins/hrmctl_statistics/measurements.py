"""Measures of `measurement/v1`: a value alone, against another, and the loss of guessing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from hrmctl import Evidence, MeasureError
from hrmctl_statistics import estimators
from hrmctl_statistics.params import CompareParams, NoParams, TrialInterval
from hrmctl_statistics.read import Measurement, Values, distinct_evidence, finite, measurement

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
