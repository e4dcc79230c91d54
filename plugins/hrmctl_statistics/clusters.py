"""Measures of repeated trainings: seeds and problems both vary, and every seed meets the same problems.

Each piece of evidence is a tuple, one entry for each seed. What is compared is the table of differences
(seeds, problems), a crossed design with two random factors; `docs/statistics.md` says how and why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hrmctl import Evidence, MeasureError, Undecidable
from hrmctl_statistics import estimators
from hrmctl_statistics.params import NoParams, PairedDeltaParams
from hrmctl_statistics.read import Measurement, Problem, Values, distinct_evidence, finite, measurement
from hrmctl_statistics.samples import Pairs, discordance, paired

if TYPE_CHECKING:
    from hrmctl_statistics.estimators import Floats

POWER = 0.8
"""Power that the minimum detectable effect is stated for."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean of a table (seeds, problems), its standard error `se` with `df` degrees of freedom, and what it is made of.

    `se_seeds` is the standard error over seeds alone, with one degree of freedom less than there are seeds (`count`).
    `seeds`, `problems` and `rest` are mean squares: between the means of seeds, between the means of problems, and of
    what neither explains.
    """

    mean: float
    se: float
    df: float
    se_seeds: float
    count: int
    seeds: float
    problems: float
    rest: float

    @classmethod
    def of_squares(cls, mean: float, count: int, width: int, seeds: float, problems: float, rest: float) -> Spread:
        """From the mean squares of a table of `count` seeds and `width` problems.

        The variance of the mean is (MS_seeds + max(MS_problems - MS_rest, 0)) / cells, with Satterthwaite's degrees of
        freedom (Hillis 2007, Statistics in Medicine 26, 596, for readers and cases). MS_seeds is not taken to be less
        than MS_rest, which it is by chance alone.
        """
        between, among = max(seeds, rest), max(0.0, problems - rest)
        df = (between + among) ** 2 / (between**2 / (count - 1) + among**2 / max(1, width - 1))
        se, se_seeds = math.sqrt((between + among) / (count * width)), math.sqrt(between / (count * width))
        return cls(mean, se, df, se_seeds, count, seeds, problems, rest)

    @property
    def errors(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Both standard errors with their degrees of freedom."""
        return (self.se, self.df), (self.se_seeds, self.count - 1)

    def half(self, level: float) -> float:
        """Half the width of the t interval, by whichever error makes it wider."""
        from scipy.special import stdtrit

        return max(se * float(stdtrit(df, 0.5 + level / 2)) for se, df in self.errors)

    def detectable(self, level: float, power: float = POWER) -> float:
        """The difference that a two-sided t test finds with probability `power`, by whichever error is the worse."""
        from scipy.special import nctdtrinc, stdtrit

        return max(se * float(nctdtrinc(df, 1 - power, stdtrit(df, 0.5 + level / 2))) for se, df in self.errors)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models compared over seeds and problems; `p` is the greater of two p values, the interval holds both."""

    spread: Spread
    lo: float
    hi: float
    t_p: float
    bootstrap_p: float

    @property
    def p(self) -> float:
        return max(self.t_p, self.bootstrap_p)


def clustered_delta(evidence: Sequence[Sequence[Evidence]], params: PairedDeltaParams) -> Values:
    """Difference of pass@k, first minus second, over the seeds of both and the problems that all of them met.

    The pieces after the second are further baselines of the same family of comparisons: Holm's correction covers
    the first against each of the others. Raises MeasureError where seeds or problems are not paired or there is only
    one seed, Undecidable where the differences do not vary.
    """
    ours, *baselines = evidence
    pairs = [_paired(ours, theirs) for theirs in baselines]
    tables = [_differences(several, params.k) for several in pairs]
    found = compare(tables[0], params)
    family = [found.p, *(_p_or_one(table, params) for table in tables[1:])]
    spread, table = found.spread, tables[0]
    by_seed = [round(math.fsum(row) / len(row), estimators.DECIMALS) for row in table]
    strictest = 1 - (1 - params.level) / len(family)
    return finite(
        {
            "value": round(spread.mean, estimators.DECIMALS),
            "left": _mean_pass((a for row in pairs[0] for a, _ in row), params.k),
            "right": _mean_pass((b for row in pairs[0] for _, b in row), params.k),
            "lo": found.lo,
            "hi": found.hi,
            "p": found.p,
            "holm_p": holm(family)[0],
            "t_p": found.t_p,
            "bootstrap_p": found.bootstrap_p,
            "comparisons": len(family),
            "se": spread.se,
            "df": spread.df,
            "sd_seeds": math.sqrt(max(0.0, spread.seeds - spread.rest) / len(table[0])),
            "mde": spread.detectable(strictest),
            "seeds": len(table),
            "seeds_for": sum(delta > 0 for delta in by_seed),
            "seeds_against": sum(delta < 0 for delta in by_seed),
            "by_seed": " ".join(f"{delta:+.4f}" for delta in by_seed),
            "n": len(table[0]),
            "samples": min(min(a.n, b.n) for several in pairs for row in several for a, b in row),
            **_mcnemar(pairs[0]),
        }
    )


def _paired(ours: Sequence[Evidence], theirs: Sequence[Evidence]) -> list[Pairs]:
    """The same problems of both sides, (seeds, problems)."""
    if len(ours) < 2:
        raise MeasureError(f"{len(ours)} seed; how much seeds differ needs at least 2")
    if len(ours) != len(theirs) or _seeds(ours) != _seeds(theirs):
        raise MeasureError(f"unpaired: the sides have seeds {_seeds(ours)} and {_seeds(theirs)}")
    pairs = [paired(a, b) for a, b in zip(ours, theirs, strict=True)]
    if len({tuple(a.id for a, _ in row) for row in pairs}) > 1:
        raise MeasureError("unpaired: the seeds were evaluated on different problems")
    return pairs


def _differences(pairs: Sequence[Pairs], k: int) -> list[list[float]]:
    """Differences of pass@k, (seeds, problems)."""
    return [[estimators.pass_at_k(a.n, a.c, k) - estimators.pass_at_k(b.n, b.c, k) for a, b in row] for row in pairs]


def _seeds(side: Sequence[Evidence]) -> list[int]:
    """The seeds where the evidence says where it comes from; their places where it does not, as in a control."""
    return [place if item.provenance is None else item.provenance.seed for place, item in enumerate(side)]


def _mean_pass(side: Iterable[Problem], k: int) -> float:
    rates = [estimators.pass_at_k(p.n, p.c, k) for p in side]
    return math.fsum(rates) / len(rates)


def _p_or_one(table: Sequence[Sequence[float]], params: PairedDeltaParams) -> float:
    try:
        return compare(table, params).p
    except Undecidable:
        return 1.0


def compare(table: Sequence[Sequence[float]], params: PairedDeltaParams) -> Comparison:
    """Test whether the mean of `table` (seeds, problems) is zero for other seeds and other problems too.

    By a t test of the crossed design, by a t test over the seeds alone, which keeps the first one honest where seeds
    are few, and by resampling seeds and problems; the least certain of them counts. Raises Undecidable where neither
    seeds nor problems vary, or all seeds differ alike.
    """
    import numpy as np
    from scipy.special import stdtr

    cells = np.asarray(table, dtype=np.float64).round(estimators.DECIMALS)
    if (cells == cells[0, 0]).all():
        raise Undecidable(f"all {cells.size} differences are {cells[0, 0]:g}; there is no spread to judge them by")
    if (cells == cells[0]).all():
        raise Undecidable(f"all {len(cells)} seeds differ alike on every problem; the spread between seeds is not seen")
    spread = spread_of(cells)
    half = spread.half(params.level)
    means = bootstrap_crossed(cells, params.resamples, params.seed)
    low, high = estimators.percentile(means, params.level)
    t_p = 2 * max(float(stdtr(df, -abs(spread.mean) / se)) for se, df in spread.errors)
    return Comparison(
        spread,
        lo=round(min(low, spread.mean - half), estimators.DECIMALS),
        hi=round(max(high, spread.mean + half), estimators.DECIMALS),
        t_p=t_p,
        bootstrap_p=estimators.bootstrap_p(means),
    )


def spread_of(cells: Floats) -> Spread:
    """Two-way analysis of variance without replication, (seeds, problems), both random."""
    count, width = cells.shape
    mean = float(cells.mean())
    rows, columns = cells.mean(axis=1, keepdims=True), cells.mean(axis=0, keepdims=True)
    seeds = width * float(((rows - mean) ** 2).sum()) / (count - 1)
    problems = count * float(((columns - mean) ** 2).sum()) / max(1, width - 1)
    rest = float(((cells - rows - columns + mean) ** 2).sum()) / ((count - 1) * max(1, width - 1))
    return Spread.of_squares(mean, count, width, seeds, problems, rest)


def bootstrap_crossed(cells: Floats, resamples: int, seed: int) -> Floats:
    """Means of tables whose seeds and problems are both drawn again with replacement, shape (resamples,).

    The pigeonhole bootstrap of Owen (2007, Annals of Applied Statistics 1, 386). Problems with equal
    differences are drawn together, as in `estimators.bootstrap_means`.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    count, width = cells.shape
    different, times = np.unique(cells, axis=1, return_counts=True)
    problems = rng.multinomial(width, times / width, size=resamples)
    seeds = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    sums = np.einsum("bs,bs->b", problems @ different.T, seeds.astype(np.float64))
    means: Floats = np.round(sums / cells.size, estimators.DECIMALS)
    return means


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values in the order given (Holm 1979, Scandinavian Journal of Statistics 6, 65)."""
    adjusted, greatest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        greatest = max(greatest, (len(ps) - rank) * ps[index])
        adjusted[index] = min(1.0, greatest)
    return adjusted


def _mcnemar(pairs: Sequence[Pairs]) -> Mapping[str, float | str]:
    """Exact McNemar tests on first samples, one for each seed, and all of them together.

    Together: one-sided p values of each direction are merged by twice their mean, which holds however the
    seeds depend on each other (Vovk and Wang 2020, Biometrika 107, 791); twice the smaller of both. It is about
    the models that were trained, not about others from other seeds.
    """
    tables = [discordance(row) for row in pairs]
    counts = [(t["only_a"], t["only_b"]) for t in tables]
    better = [estimators.binomial_tail(b, a + b) for a, b in counts]
    worse = [estimators.binomial_tail(a, a + b) for a, b in counts]
    merged = min(2 * math.fsum(better), 2 * math.fsum(worse)) / len(tables)
    return {
        "mcnemar_p": min(1.0, 2 * merged),
        "mcnemar_by_seed": " ".join(f"{estimators.mcnemar(a, b):.2g}" for a, b in counts),
    }


def clustered_ratio(evidence: Sequence[Sequence[Evidence]], params: NoParams) -> Values:
    """First measurement divided by the second for each seed, and for all of them added up.

    Raises MeasureError on different seeds or units, or values that are not above zero.
    """
    left, right = evidence
    if len(left) != len(right) or _seeds(left) != _seeds(right):
        raise MeasureError(f"unpaired: the sides have seeds {_seeds(left)} and {_seeds(right)}")
    pairs = [_positive_pair(a, b) for a, b in zip(left, right, strict=True)]
    ratios = [a.value / b.value for a, b in pairs]
    ours, theirs = math.fsum(a.value for a, _ in pairs), math.fsum(b.value for _, b in pairs)
    return finite(
        {
            "value": ours / theirs,
            "min": min(ratios),
            "max": max(ratios),
            "left": ours / len(pairs),
            "right": theirs / len(pairs),
            "seeds": len(pairs),
            "n": min(min(a.n, b.n) for a, b in pairs),
        }
    )


def _positive_pair(left: Evidence, right: Evidence) -> tuple[Measurement, Measurement]:
    distinct_evidence(left, right)
    a, b = measurement(left), measurement(right)
    if a.unit != b.unit:
        raise MeasureError(f"{left.name} is in {a.unit!r} and {right.name} in {b.unit!r}")
    if min(a.value, b.value) <= 0:
        raise MeasureError(f"{left.name} is {a.value} and {right.name} {b.value}; both must be above 0")
    return a, b
