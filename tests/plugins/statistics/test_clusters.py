"""Seeds and problems as two random factors: against brute force, scipy, enumeration and simulated true nulls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hrmctl_statistics import clusters, estimators
from hrmctl_statistics.clusters import bootstrap_crossed, clustered_delta, clustered_ratio, compare, holm, spread_of
from hrmctl_statistics.params import NoParams, PairedDeltaParams
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import Evidence, MeasureError, Undecidable

from .evidence import measured, provenance, samples

PARAMS = PairedDeltaParams(resamples=2000, seed=3)
RATES = st.floats(-1, 1).map(lambda x: round(x, 3))


def tables(seeds: tuple[int, int] = (2, 5), width: tuple[int, int] = (2, 12)) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(*seeds), st.integers(*width))
    return shapes.flatmap(
        lambda s: st.lists(RATES, min_size=s[0] * s[1], max_size=s[0] * s[1]).map(lambda v: np.array(v).reshape(s))
    )


def side(*rows: Sequence[int], n: int = 10) -> tuple[Evidence, ...]:
    """Evidence of one model for each seed: passes of each problem, in that seed's row."""
    return tuple(samples(row, n=n, outcomes=True) for row in rows)


OURS = side([9, 8, 3, 5, 9, 1], [8, 8, 2, 6, 9, 0], [9, 7, 4, 4, 10, 2])
THEIRS = side([5, 4, 3, 2, 7, 0], [6, 2, 1, 3, 7, 0], [3, 4, 2, 4, 5, 1])


@given(tables())
def test_mean_squares_are_those_of_the_definition(cells):
    count, width = cells.shape
    mean = sum(cells[s, p] for s in range(count) for p in range(width)) / cells.size
    rows = [sum(cells[s]) / width for s in range(count)]
    columns = [sum(cells[:, p]) / count for p in range(width)]
    found = spread_of_checked(cells)
    if found is None:
        return
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.seeds == pytest.approx(width * sum((r - mean) ** 2 for r in rows) / (count - 1), abs=1e-12)
    assert found.problems == pytest.approx(count * sum((c - mean) ** 2 for c in columns) / (width - 1), abs=1e-12)
    rest = sum((cells[s, p] - rows[s] - columns[p] + mean) ** 2 for s in range(count) for p in range(width))
    assert found.rest == pytest.approx(rest / ((count - 1) * (width - 1)), abs=1e-12)
    # The three parts are the whole.
    total = found.seeds * (count - 1) + found.problems * (width - 1) + found.rest * (count - 1) * (width - 1)
    assert total == pytest.approx(float(((cells - mean) ** 2).sum()), abs=1e-9)


def spread_of_checked(cells: np.ndarray) -> clusters.Spread | None:
    return None if (cells == cells[0]).all() else spread_of(cells)


def test_where_only_seeds_differ_it_is_the_t_test_of_their_means():
    cells = np.array([[0.1] * 8, [0.4] * 8, [0.2] * 8, [0.25] * 8]) + np.tile([0.02, -0.02], 4)
    cells[0, :2] += [0.01, -0.01]  # so that the seeds do not differ alike on every problem
    expected = scipy.stats.ttest_1samp(cells.mean(axis=1), 0)
    assert compare(cells, PARAMS).t_p == pytest.approx(expected.pvalue, rel=1e-6)


def test_the_interval_holds_that_of_the_seeds_alone():
    rng = np.random.default_rng(5)
    cells = rng.normal(0.1, 0.2, (3, 40)) + rng.normal(0, 0.1, (3, 1))
    found = compare(cells, PARAMS)
    low, high = scipy.stats.ttest_1samp(cells.mean(axis=1), 0).confidence_interval(0.95)
    assert found.lo <= low + 1e-9
    assert found.hi >= high - 1e-9
    assert found.p == max(found.t_p, found.bootstrap_p)


def test_resampling_agrees_with_every_resample_of_a_small_table():
    cells = np.array([[0.5, -0.2, 0.3], [0.1, 0.4, -0.1]])
    draws = [
        np.mean([cells[s, p] for s in seeds for p in chosen])
        for seeds in itertools.product(range(2), repeat=2)
        for chosen in itertools.product(range(3), repeat=3)
    ]
    found = bootstrap_crossed(cells, 100_000, 1)
    assert set(np.round(draws, 9)) == set(np.round(found, 9))
    for value, share in zip(*np.unique(np.round(draws, 9), return_counts=True), strict=True):
        assert np.mean(np.round(found, 9) == value) == pytest.approx(share / len(draws), abs=0.006)


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_problems_does_not_matter(cells, random):
    if (cells == cells[0]).all():
        return
    order = list(range(cells.shape[1]))
    random.shuffle(order)
    few = replace(PARAMS, resamples=100)
    one, other = compare(cells, few), compare(cells[:, order], few)
    assert (one.lo, one.hi, one.bootstrap_p) == (other.lo, other.hi, other.bootstrap_p)
    assert one.t_p == pytest.approx(other.t_p, abs=1e-12)


@given(tables())
def test_exchanging_the_sides_turns_the_sign_only(cells):
    if (cells == cells[0]).all():
        return
    few = replace(PARAMS, resamples=100)
    one, other = compare(cells, few), compare(-cells, few)
    assert one.t_p == pytest.approx(other.t_p)
    assert one.spread.mean == pytest.approx(-other.spread.mean)
    assert 0 < one.p <= 1
    assert one.lo <= one.spread.mean + 1e-9 <= one.hi + 2e-9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_largest_adjusted_p_of_all_that_are_no_greater(ps):
    expected = []
    for p in ps:
        ranked = sorted(ps)
        expected.append(min(1.0, max((len(ps) - i) * q for i, q in enumerate(ranked) if q <= p)))
    assert holm(ps) == pytest.approx(expected)


def test_the_fields_of_a_comparison():
    found = clustered_delta([OURS, THEIRS], PARAMS)
    deltas = [
        (a["c"] - b["c"]) / 10
        for ours, theirs in zip(OURS, THEIRS, strict=True)
        for a, b in zip(ours.payload["problems"], theirs.payload["problems"], strict=True)
    ]
    assert found["value"] == pytest.approx(sum(deltas) / len(deltas))
    assert found["left"] - found["right"] == pytest.approx(found["value"])
    assert (found["n"], found["seeds"], found["samples"], found["comparisons"]) == (6, 3, 10, 1)
    assert (found["seeds_for"], found["seeds_against"]) == (3, 0)
    assert found["holm_p"] == found["p"] == max(found["t_p"], found["bootstrap_p"])
    assert found["by_seed"] == "+0.2333 +0.2333 +0.2833"
    assert found["lo"] < found["value"] < found["hi"]
    assert clustered_delta([OURS, THEIRS], PARAMS) == found


def test_the_minimum_detectable_effect_is_found_at_the_stated_power():
    found = clustered_delta([OURS, THEIRS], PARAMS)
    passes = [np.array([[p["c"] for p in item.payload["problems"]] for item in one]) for one in (OURS, THEIRS)]
    table = (passes[0] - passes[1]) / 10
    spread = spread_of(table)
    errors = [(spread.se, spread.df), (spread.se_seeds, 2)]
    powers = [scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, df), df, found["mde"] / se) for se, df in errors]
    assert min(powers) == pytest.approx(0.8, abs=1e-6)
    three = clustered_delta([OURS, THEIRS, side([1] * 6, [2] * 6, [0] * 6), side([2] * 6, [1] * 6, [0] * 6)], PARAMS)
    assert three["mde"] > found["mde"], "a family of three asks for more"


def test_further_baselines_only_raise_p():
    weak = side([9, 8, 3, 5, 9, 2], [8, 8, 2, 6, 8, 0], [9, 7, 4, 5, 10, 2])
    alone, family = clustered_delta([OURS, THEIRS], PARAMS), clustered_delta([OURS, THEIRS, weak], PARAMS)
    assert alone["p"] == family["p"]
    assert family["holm_p"] == pytest.approx(min(1, 2 * family["p"]))
    assert clustered_delta([OURS, weak, THEIRS], PARAMS)["holm_p"] == clustered_delta([OURS, weak], PARAMS)["p"]


def test_a_further_baseline_that_cannot_be_judged_counts_as_p_1():
    alike = tuple(samples([c["c"] for c in item.payload["problems"]], n=10, outcomes=True) for item in OURS)
    family = clustered_delta([OURS, THEIRS, alike], PARAMS)
    assert family["comparisons"] == 2
    assert family["holm_p"] == pytest.approx(2 * family["p"])


def test_mcnemar_of_each_seed_and_of_all():
    ours = side([1] * 12 + [0] * 3, [1] * 10 + [0] * 5, [1] * 11 + [0] * 4, n=1)
    theirs = side([1] * 4 + [0] * 11, [0] * 9 + [1] * 6, [0] * 12 + [1] * 3, n=1)
    found = clustered_delta([ours, theirs], PARAMS)
    counts = [(8, 0), (9, 5), (11, 3)]
    one_sided = [scipy.stats.binomtest(b, a + b, 0.5, alternative="less").pvalue for a, b in counts]
    each = [scipy.stats.binomtest(a, a + b, 0.5).pvalue for a, b in counts]
    assert found["mcnemar_p"] == pytest.approx(min(1, 2 * 2 * sum(one_sided) / 3))
    assert found["mcnemar_by_seed"] == " ".join(f"{p:.2g}" for p in each)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_one_sided_tail_is_scipys(a, b):
    expected = scipy.stats.binomtest(b, a + b, 0.5, alternative="less").pvalue if a + b else 1.0
    assert estimators.binomial_tail(b, a + b) == pytest.approx(expected)


def test_what_cannot_be_decided_says_so():
    with pytest.raises(Undecidable, match=r"all 6 differences are 0\.4"):
        clustered_delta([side([9, 7, 5], [8, 6, 4]), side([5, 3, 1], [4, 2, 0])], PARAMS)
    with pytest.raises(Undecidable, match="all 2 seeds differ alike"):
        clustered_delta([side([9, 7, 5], [9, 7, 5]), side([5, 4, 1], [5, 4, 1])], PARAMS)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (side([1, 2]), side([2, 1]), "1 seed"),
        (side([1, 2], [2, 2], [1, 1]), side([2, 1], [0, 1]), "unpaired: the sides have seeds"),
        (side([1, 2], [2, 2]), side([2, 1, 0], [0, 1, 0]), "unpaired: 1 problems"),
        (side([1, 2], [2, 2, 3]), side([2, 1], [0, 1, 0]), "the seeds were evaluated on different problems"),
    ],
)
def test_what_is_not_paired_is_refused(ours, theirs, said):
    with pytest.raises(MeasureError, match=said):
        clustered_delta([ours, theirs], PARAMS)


def seeded(items: Sequence[Evidence], seeds: Sequence[int], label: str) -> tuple[Evidence, ...]:
    return tuple(
        replace(item, digest=f"{label}{seed}", provenance=provenance(seed=seed, key=f"{label}{seed}", subjects={}))
        for item, seed in zip(items, seeds, strict=True)
    )


def test_seeds_are_paired_by_their_provenance():
    theirs = seeded(THEIRS, [1, 2, 3], "t")
    assert clustered_delta([seeded(OURS, [1, 2, 3], "o"), theirs], PARAMS)["seeds"] == 3
    with pytest.raises(MeasureError, match=r"seeds \[1, 2, 4\] and \[1, 2, 3\]"):
        clustered_delta([seeded(OURS, [1, 2, 4], "o"), theirs], PARAMS)


def test_ratio_of_each_seed():
    left = tuple(measured(v) for v in (2.0, 3.0, 4.0))
    right = tuple(measured(v, n=n) for v, n in ((2.0, 1), (2.0, 5), (5.0, 2)))
    found = clustered_ratio([left, right], NoParams())
    assert found == {"value": 1.0, "min": 0.8, "max": 1.5, "left": 3.0, "right": 3.0, "seeds": 3, "n": 1}


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        ((measured(1), measured(1)), (measured(1),), "unpaired"),
        ((measured(1),), (measured(1, unit="seconds"),), "seconds"),
        ((measured(1),), (measured(0),), "above 0"),
        ((measured(-1),), (measured(2),), "above 0"),
    ],
)
def test_what_has_no_ratio_is_refused(left, right, said):
    with pytest.raises(MeasureError, match=said):
        clustered_ratio([left, right], NoParams())


# --- how often a true null is rejected ------------------------------------------------------------


def null_table(
    rng: np.random.Generator, seeds: int, between_seeds: float, between_problems: float, both: float
) -> np.ndarray:
    """Differences of two models that are alike but for chance: 200 problems of varying difficulty, ten samples each.

    On the scale of log-odds each model has its own effect of the seed, of the problem, and of both together.
    """
    difficulty = rng.normal(0, 2, 200)
    rates = []
    for _ in range(2):
        own = rng.normal(0, between_problems, 200) + rng.normal(0, between_seeds, (seeds, 1))
        odds = difficulty + own + rng.normal(0, both, (seeds, 200))
        rates.append(rng.binomial(10, 1 / (1 + np.exp(-odds))) / 10)
    return rates[0] - rates[1]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("between_seeds", "between_problems", "both"),
    [(0.0, 1.0, 1.0), (0.3, 1.0, 1.0), (1.0, 1.0, 1.0), (0.3, 0.0, 0.0), (0.5, 2.0, 1.0)],
)
def test_a_true_null_is_rejected_no_more_often_than_stated(seeds, between_seeds, between_problems, both):
    simulations, rejected = 600, 0
    rng = np.random.default_rng(20411)
    for _ in range(simulations):
        table = null_table(rng, seeds, between_seeds, between_problems, both)
        rejected += compare(table, PairedDeltaParams(resamples=500)).p < 0.05
    # Two standard errors of 600 draws at 5 % are 1.8 points.
    assert rejected / simulations <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / simulations)


@pytest.mark.slow
def test_resampling_alone_would_reject_far_too_often_where_seeds_differ():
    simulations, naive, rng = 300, 0, np.random.default_rng(1)
    for _ in range(simulations):
        table = null_table(rng, 3, 1.0, 1.0, 1.0)
        naive += compare(table, PairedDeltaParams(resamples=500)).bootstrap_p < 0.05
    assert naive / simulations > 0.15


@pytest.mark.slow
def test_an_effect_of_the_stated_size_is_found_about_as_often_as_stated():
    simulations, found, rng = 400, 0, np.random.default_rng(2)
    # What an experiment states varies with its own spread; the effect of the mean spread is the one it stands for.
    stated = [spread_of(null_table(rng, 5, 0.3, 1.0, 1.0)).detectable(0.95) for _ in range(100)]
    effect = float(np.sqrt(np.mean(np.square(stated))))
    for _ in range(simulations):
        table = null_table(rng, 5, 0.3, 1.0, 1.0) + effect
        found += compare(table, PairedDeltaParams(resamples=500)).p < 0.05
    assert 0.7 <= found / simulations <= 0.95
