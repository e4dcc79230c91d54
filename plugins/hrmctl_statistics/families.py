"""Several paired comparisons of one set of samples against others, corrected for being several."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hrmctl import Evidence, MeasureError
from hrmctl_statistics import estimators
from hrmctl_statistics.clusters import holm as adjusted
from hrmctl_statistics.params import HolmParams
from hrmctl_statistics.read import Problem, Values, finite, first_passed
from hrmctl_statistics.samples import discordance, paired


def holm(evidence: Sequence[Evidence], params: HolmParams) -> Values:
    """The first set of samples against each of the others, with p values adjusted by Holm's method.

    A comparison without a discordant problem, or whose differences are all equal, counts as p = 1. Raises MeasureError
    where a side is not paired with the first, or is given twice.
    """
    first, *others = evidence
    for place, other in enumerate(others):
        for later in others[place + 1 :]:
            if other is later or (other.digest and other.digest == later.digest):
                raise MeasureError(f"{other.name} is among the others twice")
    pairs = [paired(first, other) for other in others]
    deltas = [[_difference(a, b, params) for a, b in table] for table in pairs]
    means = [round(math.fsum(d) / len(d), estimators.DECIMALS) for d in deltas]
    ps = [_p(table, d, params) for table, d in zip(pairs, deltas, strict=True)]
    found = adjusted(ps)
    sure = [p < 1 - params.level for p in found]
    return finite(
        {
            "value": max(found),
            "min": min(found),
            "max": max(found),
            "adjusted": " ".join(f"{p:.4g}" for p in found),
            "raw": " ".join(f"{p:.4g}" for p in ps),
            "deltas": " ".join(f"{mean:+.4f}" for mean in means),
            "least": min(means),
            "greatest": max(means),
            "better": sum(s and mean > 0 for s, mean in zip(sure, means, strict=True)),
            "worse": sum(s and mean < 0 for s, mean in zip(sure, means, strict=True)),
            "comparisons": len(others),
            "n": len(pairs[0]),
        }
    )


def _difference(a: Problem, b: Problem, params: HolmParams) -> float:
    """What the test is about: McNemar's looks at first samples only."""
    if params.test == "mcnemar":
        return float(first_passed(a)) - float(first_passed(b))
    return estimators.pass_at_k(a.n, a.c, params.k) - estimators.pass_at_k(b.n, b.c, params.k)


def _p(pairs: Sequence[tuple[Problem, Problem]], deltas: Sequence[float], params: HolmParams) -> float:
    if params.test == "mcnemar":
        table = discordance(pairs)
        return estimators.mcnemar(table["only_a"], table["only_b"])
    if round(max(deltas) - min(deltas), estimators.DECIMALS) == 0:
        return 1.0
    return estimators.bootstrap_p(estimators.bootstrap_means(deltas, params.resamples, params.seed))
