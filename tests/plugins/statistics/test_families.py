"""Holm's correction over paired comparisons, against scipy and brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hrmctl_statistics.families import holm
from hrmctl_statistics.params import HolmParams, PairedDeltaParams
from hrmctl_statistics.samples import paired_delta
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import MeasureError

from .evidence import samples


def brute(ps: list[float]) -> list[float]:
    """Holm's adjusted p by its definition: the greatest over all p not above it of (how many are left) times p."""
    order = sorted(ps)
    return [min(1.0, max((len(ps) - i) * q for i, q in enumerate(order) if q <= p)) for p in ps]


sides = st.integers(2, 5).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 1), min_size=25, max_size=25), min_size=k, max_size=k)
)


@given(sides)
@settings(deadline=None, max_examples=50)
def test_adjusted_p_are_holms_of_exact_mcnemar(given_):
    first, *others = [samples(rows) for rows in given_]
    found = holm([first, *others], HolmParams())
    ps = []
    for rows in given_[1:]:
        a = sum(x > y for x, y in zip(given_[0], rows, strict=True))
        b = sum(x < y for x, y in zip(given_[0], rows, strict=True))
        ps.append(scipy.stats.binomtest(a, a + b).pvalue if a + b else 1.0)
    expected = brute(ps)
    assert found["max"] == found["value"] == pytest.approx(max(expected))
    assert found["min"] == pytest.approx(min(expected))
    assert [float(p) for p in found["adjusted"].split()] == pytest.approx(expected, rel=1e-3, abs=1e-9)
    deltas = [(sum(given_[0]) - sum(rows)) / 25 for rows in given_[1:]]
    assert (found["least"], found["greatest"]) == pytest.approx((min(deltas), max(deltas)))
    assert found["better"] == sum(p < 0.05 and d > 0 for p, d in zip(expected, deltas, strict=True))
    assert found["worse"] == sum(p < 0.05 and d < 0 for p, d in zip(expected, deltas, strict=True))
    assert (found["comparisons"], found["n"]) == (len(given_) - 1, 25)


def test_one_comparison_is_the_paired_one():
    left, right = (
        samples([1] * 103 + [1] * 53 + [0] * 27 + [0] * 317),
        samples([1] * 103 + [0] * 53 + [1] * 27 + [0] * 317),
    )
    alone = paired_delta([left, right], PairedDeltaParams())
    assert holm([left, right], HolmParams())["value"] == alone["mcnemar_p"] == pytest.approx(0.0049, abs=5e-5)
    assert holm([left, right], HolmParams(test="bootstrap"))["value"] == alone["p"]
    assert holm([left, right], HolmParams())["least"] == pytest.approx(0.052)


def test_a_hard_comparison_hides_behind_an_easy_one_only_after_correction():
    first = samples([1] * 8 + [0] * 12 + [0] * 30)
    easy, hard = samples([0] * 50), samples([0] * 6 + [1] * 2 + [0] * 42)
    found = holm([first, easy, hard], HolmParams())
    raw = [float(p) for p in found["raw"].split()]
    assert raw == [pytest.approx(2 / 2**8, rel=1e-3), pytest.approx(2 / 2**6, rel=1e-3)]
    assert found["max"] == pytest.approx(2 / 2**6)
    assert found["min"] == pytest.approx(4 / 2**8)


def test_equal_sides_count_as_one():
    first, same = samples([1, 0, 1, 0]), samples([1, 0, 1, 0])
    assert holm([first, same], HolmParams())["value"] == 1.0
    assert holm([first, same], HolmParams(test="bootstrap"))["value"] == 1.0


def test_sides_that_are_not_paired_or_come_twice_are_refused():
    first, other = samples([1, 0, 1]), replace(samples([0, 0, 1]), digest="d")
    with pytest.raises(MeasureError, match="unpaired"):
        holm([first, other, samples([1, 0])], HolmParams())
    with pytest.raises(MeasureError, match="twice"):
        holm([first, other, replace(samples([1, 1, 1]), digest="d")], HolmParams())
    with pytest.raises(MeasureError, match="itself"):
        holm([first, other, first], HolmParams())


@pytest.mark.slow
def test_the_family_errs_about_as_often_as_one_comparison_may():
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(400):
        base = rng.random(200)
        rows = [[int(x) for x in (rng.random(200) < base)] for _ in range(4)]
        wrong += holm([samples(r) for r in rows], HolmParams())["min"] < 0.05
    assert wrong <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)
