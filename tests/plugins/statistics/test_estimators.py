"""The mathematics against brute force, scipy.stats and published figures."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hrmctl_statistics import estimators
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import MeasureError

passed = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize("n", range(1, 13))
def test_pass_at_k_is_the_share_of_draws_with_a_pass(n):
    for k in range(1, n + 1):
        # A draw holds a pass where its first sample is one of the first c.
        first = [draw[0] for draw in combinations(range(n), k)]
        for c in range(n + 1):
            assert estimators.pass_at_k(n, c, k) == sum(i < c for i in first) / len(first)


def test_pass_at_k_of_two_hundred_samples_stays_exact():
    expected = 1 - math.prod(1 - 100 / (200 - i) for i in range(37))
    assert estimators.pass_at_k(200, 37, 100) == pytest.approx(expected, rel=1e-12)


def test_pass_at_k_refuses_fewer_samples_than_k():
    with pytest.raises(MeasureError, match="pass@10 needs at least 10 samples a problem, there are 9"):
        estimators.pass_at_k(9, 9, 10)


@given(passed, st.sampled_from([0.9, 0.95, 0.99]))
@settings(deadline=None)
def test_wilson_is_scipys(case, level):
    c, n = case
    low, high = estimators.wilson(c / n, n, level)
    expected = scipy.stats.binomtest(c, n).proportion_ci(level, method="wilson")
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)
    assert c > 0 or low == 0.0
    assert c < n or high == 1.0


def test_wilson_needs_118_and_171_of_500_to_be_above_20_and_30_percent():
    assert estimators.wilson(117 / 500, 500)[0] < 0.20 <= estimators.wilson(118 / 500, 500)[0]
    assert estimators.wilson(170 / 500, 500)[0] < 0.30 <= estimators.wilson(171 / 500, 500)[0]


@given(st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None)
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    expected = scipy.stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert estimators.mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(st.lists(st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 1.0]), min_size=2, max_size=40), st.randoms())
@settings(deadline=None, max_examples=30)
def test_bootstrap_does_not_depend_on_the_order_and_repeats_with_its_seed(values, random):
    shuffled = random.sample(values, len(values))
    first = estimators.bootstrap_means(values, 200, 3)
    assert np.array_equal(first, estimators.bootstrap_means(shuffled, 200, 3))
    if len(set(values)) > 1:
        assert not np.array_equal(first, estimators.bootstrap_means(values, 200, 4))


def test_bootstrap_interval_is_that_of_index_resampling():
    rng = np.random.default_rng(0)
    values = rng.choice([0.0, 0.3, 0.7, 1.0], size=120)
    plain = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    low, high = estimators.percentile(estimators.bootstrap_means(list(values), 10_000, 2), 0.95)
    assert low == pytest.approx(plain.low, abs=0.005)
    assert high == pytest.approx(plain.high, abs=0.005)


def test_bootstrap_p_counts_ties_on_both_sides():
    assert estimators.bootstrap_p(np.array([-1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])) == pytest.approx(0.8)
    assert estimators.bootstrap_p(np.zeros(99)) == 1.0
    assert estimators.bootstrap_p(np.ones(99)) == pytest.approx(0.02)


def test_a_tie_does_not_fall_to_one_side_by_rounding():
    assert 0.3 - 3 * 0.1 != 0
    means = estimators.bootstrap_means([0.3, -0.1, -0.1, -0.1], 2000, 0)
    assert (means == 0).any()
    assert not ((means != 0) & (abs(means) < 1e-9)).any()


def test_bootstrap_p_has_about_the_nominal_share_of_false_positives():
    rng = np.random.default_rng(20)
    hits = 0
    for trial in range(1000):
        deltas = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=50)
        if deltas.max() > deltas.min():
            hits += estimators.bootstrap_p(estimators.bootstrap_means(list(deltas), 400, trial)) < 0.05
    # 1000 trials at 5 %: 99.9 % of the time between 29 and 74.
    assert 25 <= hits <= 75


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(21)
    covered = 0
    for trial in range(500):
        low, high = estimators.percentile(
            estimators.bootstrap_means(list(rng.binomial(10, 0.4, size=80) / 10), 400, trial), 0.95
        )
        covered += low <= 0.4 <= high
    assert 455 <= covered <= 492


def test_paired_medians_cancel_what_both_sides_share():
    noise = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    left, right = estimators.bootstrap_medians([2 * x for x in noise], noise, 500, 0)
    assert set(left / right) == {2.0}
    left, right = estimators.bootstrap_medians([2 * x for x in noise], noise[:-1], 500, 0)
    assert len(set(left / right)) > 3


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.integers(1, 50))
@settings(deadline=None)
def test_slope_is_least_squares(values, stride):
    steps = [i * stride for i in range(len(values))]
    assert estimators.slope(steps, values) == pytest.approx(np.polyfit(steps, values, 1)[0], rel=1e-6, abs=1e-6)
