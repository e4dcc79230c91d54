"""What a number of problems can show: detectable differences, needed numbers, passes needed for a lower bound.

Exact where it can be: the power of McNemar's exact test is summed over its binomial tables, passes are counted one by
one against the bound. Over several seeds, the noncentral t distribution at the errors of `clustered_delta`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from hrmctl_statistics.estimators import wilson

if TYPE_CHECKING:
    from hrmctl_statistics.clusters import Spread
    from hrmctl_statistics.estimators import Floats

MOST = 10_000_000
"""More problems than this are not looked for."""
STEPS = 60
"""Halvings of an interval: more than a float has digits."""


# --- a paired comparison ---------------------------------------------------------------------------------------


def mcnemar_power(n: int, discordant: float, effect: float, alpha: float = 0.05) -> float:
    """P(the exact two-sided McNemar p is at most alpha) of n paired problems.

    A problem is discordant with probability `discordant`, and `effect` is how much more often the first side is the
    one that passes: P(only a) = (discordant + effect) / 2. The number of discordant problems is binomial and so are
    those of one side among them (Connor 1987, Biometrics 43, 207); both are summed over exactly.
    """
    import numpy as np
    from scipy.special import bdtr, bdtrc, gammaln, xlogy

    spread = 12 * math.sqrt(n * discordant * (1 - discordant)) + 12
    low, high = max(0, int(n * discordant - spread)), min(n, int(n * discordant + spread) + 1)
    tables = np.arange(low, high + 1, dtype=np.float64)
    choices = gammaln(n + 1) - gammaln(tables + 1) - gammaln(n - tables + 1)
    weights = np.exp(choices + xlogy(tables, discordant) + xlogy(n - tables, 1 - discordant))
    few = _critical(tables, alpha)
    ours = (discordant + effect) / (2 * discordant) if discordant else 0.5
    rejects = few >= 0
    at_most, size = few[rejects], tables[rejects].astype(np.int64)
    # b of the discordant problems for the other side: b ≤ few, or its mirror b ≥ size - few.
    found = bdtr(at_most, size, 1 - ours) + bdtrc(size - at_most - 1, size, 1 - ours)
    return float(min(1.0, (weights[rejects] * found).sum()))


def _critical(tables: Floats, alpha: float) -> Floats:
    """The most problems of the weaker side at which each table is still significant, -1 where none is."""
    import numpy as np
    from scipy.special import bdtr, bdtrik

    guess = np.floor(np.nan_to_num(bdtrik(alpha / 2, np.maximum(tables, 1), 0.5), nan=-1.0))
    found, whole = np.full(len(tables), -1.0), tables.astype(np.int64)
    for shift in (-1.0, 0.0, 1.0):
        few = guess + shift
        # Both tails overlap where the weaker side is not weaker.
        fits = (few >= 0) & (2 * few < tables) & (2 * bdtr(np.maximum(few, 0), whole, 0.5) <= alpha)
        found = np.where(fits, few, found)
    return found


def detectable(n: int, discordant: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest effect that n paired problems show with this power; None where even the greatest is not."""
    return _least_effect(lambda effect: mcnemar_power(n, discordant, effect, alpha), discordant, power)


def _least_effect(of: Callable[[float], float], most: float, power: float) -> float | None:
    if of(most) < power:
        return None
    low, high = 0.0, most
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if of(middle) >= power else (middle, high)
    return high


def problems_needed(effect: float, discordant: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """The fewest problems at which McNemar's exact test shows `effect` with this power; None above ten million."""
    return _least_n(lambda n: mcnemar_power(n, discordant, effect, alpha) >= power)


def _least_n(enough: Callable[[int], bool], teeth: int = 2) -> int | None:
    """The least n from which on it is enough. Exact tests have powers like saws: so many n must be enough on end."""

    def lasting(n: int) -> bool:
        return all(enough(n + i) for i in range(teeth))

    high = 1
    while not lasting(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if lasting(middle) else (middle, high)
    while high > 1 and enough(high - 1):
        high -= 1
    return high


# --- one proportion ----------------------------------------------------------------------------------------------


def lower_bound(passes: int, n: int, level: float, method: str) -> float:
    """The lower end of the two-sided interval of a proportion: `wilson`, or `exact` (Clopper and Pearson 1934)."""
    if method == "wilson":
        return wilson(passes / n, n, level)[0]
    from scipy.special import betaincinv

    return float(betaincinv(passes, n - passes + 1, (1 - level) / 2)) if passes else 0.0


def passes_needed(n: int, at_least: float, level: float = 0.95, method: str = "wilson") -> int | None:
    """The fewest passes of n whose lower bound is at least `at_least`; None where even n of n are too few."""
    if lower_bound(n, n, level, method) < at_least:
        return None
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if lower_bound(middle, n, level, method) >= at_least else (middle, high)
    return high


def proportion_power(n: int, rate: float, at_least: float, level: float = 0.95, method: str = "wilson") -> float:
    """P(the lower bound is at least `at_least`) of n problems that pass with probability `rate`."""
    from scipy.special import bdtrc

    needed = passes_needed(n, at_least, level, method)
    if needed is None:
        return 0.0
    return float(bdtrc(needed - 1, n, rate)) if needed else 1.0


def rate_needed(n: int, at_least: float, level: float, power: float, method: str) -> float | None:
    """The smallest true rate whose lower bound reaches `at_least` with this power; None where none does."""
    needed = passes_needed(n, at_least, level, method)
    if needed is None:
        return None
    return _least_effect(lambda rate: proportion_power(n, rate, at_least, level, method), 1.0, power)


def trials_needed(rate: float, at_least: float, level: float, power: float, method: str) -> int | None:
    """The fewest problems at which a true `rate` gets its lower bound there with this power; None above ten million."""
    teeth = 2 + math.ceil(1 / at_least)
    return _least_n(lambda n: proportion_power(n, rate, at_least, level, method) >= power, teeth)


# --- several seeds -----------------------------------------------------------------------------------------------


def clustered(n: int, seeds: int, discordant: float, sd_seeds: float, shared: float = 1.0) -> Spread:
    """The spread of a difference over seeds and problems that `clustered_delta` would find on average.

    One sample a problem: the difference of a problem has the variance `discordant`, of which the share `shared` is the
    problem's own, the same for all seeds; 1 is the careful assumption. `sd_seeds` is the standard deviation of the true
    difference between seeds, the field of that name in the measure.
    """
    from hrmctl_statistics.clusters import Spread

    own, rest = discordant * shared, discordant * (1 - shared)
    return Spread.of_squares(0.0, seeds, n, n * sd_seeds**2 + rest, seeds * own + rest, rest)


def clustered_problems(
    effect: float, seeds: int, discordant: float, sd_seeds: float, shared: float, alpha: float, power: float
) -> int | None:
    """The fewest problems at which so many seeds show `effect`; None where no number of problems helps."""
    return _least_n(
        lambda n: clustered(n, seeds, discordant, sd_seeds, shared).detectable(1 - alpha, power) <= effect, teeth=1
    )
