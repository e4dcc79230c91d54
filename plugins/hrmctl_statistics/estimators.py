"""The mathematics, on plain numbers. numpy and scipy.special are imported where they are used: they cost 0.3 s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from hrmctl import MeasureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DECIMALS = 12
"""Means of pass rates that agree so far are equal: a tie must not fall to one side by rounding."""


@lru_cache(maxsize=4096)
def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of P(at least one of k draws passes) from c passes in n samples.

    1 - C(n-c, k) / C(n, k), in exact integers (Chen et al. 2021, arXiv:2107.03374, equation 1).
    Raises MeasureError when n < k: no unbiased estimator exists then.
    """
    if n < k:
        raise MeasureError(f"pass@{k} needs at least {k} samples a problem, there are {n}")
    total = math.comb(n, k)
    return (total - math.comb(n - c, k)) / total


def wilson(p: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion `p` of `n` trials (Wilson 1927), without continuity correction."""
    from scipy.special import ndtri

    z2 = float(ndtri(0.5 + level / 2)) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At p = 0 and p = 1 the bound is exact; the formula only gets there within rounding.
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return low, high


def binomial_tail(at_most: int, trials: int) -> float:
    """P(at most so many heads in so many tosses of a fair coin): the one-sided exact McNemar p; 1.0 without any."""
    from scipy.special import bdtr

    return float(bdtr(at_most, trials, 0.5))


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p: a binomial test of the discordant pairs against one half; 1.0 without any."""
    return min(1.0, 2 * binomial_tail(min(only_a, only_b), only_a + only_b))


def bootstrap_means(values: Sequence[float], resamples: int, seed: int) -> Floats:
    """Means of `resamples` resamples of `values` with replacement, shape (resamples,), to 12 decimals.

    Equal values are drawn together from a multinomial distribution: the same distribution as
    drawing indices, in time that grows with the number of different values, and independent of
    the order of `values`.
    """
    import numpy as np

    different, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    total = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(total, counts / total, size=resamples)
    return np.round(drawn @ different / total, DECIMALS)


def percentile(statistics: Floats, level: float) -> tuple[float, float]:
    """The percentile interval of bootstrap statistics (Efron 1979): equal tails outside `level`."""
    import numpy as np

    tail = (1 - level) / 2
    low, high = np.quantile(statistics, [tail, 1 - tail])
    return round(float(low), DECIMALS), round(float(high), DECIMALS)


def bootstrap_p(deltas: Floats) -> float:
    """Two-sided bootstrap p of "the difference is zero".

    min(1, 2 (min(#δ* ≤ 0, #δ* ≥ 0) + 1) / (B + 1)): ties at zero count on both sides, so that a
    small n does not make false positives (a strict inequality gave 19 % at n = 50).
    """
    below = int((deltas <= 0).sum())
    above = int((deltas >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(deltas) + 1))


def bootstrap_medians(
    left: Sequence[float], right: Sequence[float], resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Medians of resampled trials of both sides, each of shape (resamples,).

    With equally many trials the same indices are drawn on both sides: interleaved trials share
    what the machine was doing at the time. Otherwise the sides are resampled independently.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(left), size=(resamples, len(left)))
    others = rows if len(left) == len(right) else rng.integers(0, len(right), size=(resamples, len(right)))
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return np.median(a[rows], axis=1), np.median(b[others], axis=1)


def slope(steps: Sequence[int], values: Sequence[float]) -> float:
    """Least-squares slope of values over steps; 0.0 for a single point."""
    n = len(steps)
    centre, level = sum(steps) / n, math.fsum(values) / n
    spread = math.fsum((s - centre) ** 2 for s in steps)
    if spread == 0:
        return 0.0
    return math.fsum((s - centre) * (v - level) for s, v in zip(steps, values, strict=True)) / spread
