"""Norms and signs of a merge against tensors that were really merged."""

from __future__ import annotations

import numpy as np
import pytest
from hrmctl_statistics.merges import norm_deviation, sign_conflicts
from hrmctl_statistics.params import NoParams, NormParams
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import Evidence, MeasureError


def tensors(**curves: list[float | None]) -> Evidence:
    series = {name: {"steps": list(range(1, len(values) + 1)), "values": values} for name, values in curves.items()}
    return Evidence("norms", "series/v1", {"series": series})


@given(st.integers(2, 4), st.integers(1, 6), st.integers(0, 2**32 - 1), st.floats(0, 0.5))
@settings(deadline=None, max_examples=40)
def test_the_deviation_is_that_of_tensors_merged(models, count, seed, tolerance):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(models, count, 30)) * rng.uniform(0.5, 2, size=(models, 1, 1))
    norms = np.linalg.norm(inputs, axis=2)
    merged = np.linalg.norm(inputs.mean(axis=0), axis=1)
    given_ = {f"model-{i}": [float(v) for v in row] for i, row in enumerate(norms)}
    found = norm_deviation([tensors(result=[float(v) for v in merged], **given_)], NormParams(tolerance))
    low, high = norms.min(axis=0), norms.max(axis=0)
    away = np.maximum(0, np.maximum((low - merged) / low, (merged - high) / high))
    assert found["value"] == pytest.approx(away.max())
    assert found["outside"] == int((away > tolerance).sum())
    assert (found["n"], found["inputs"]) == (count, models)
    assert away[found["worst"] - 1] == away.max()


def test_a_norm_between_those_of_the_inputs_is_no_deviation():
    found = norm_deviation([tensors(a=[1.0, 4.0, 0.0], b=[2.0, 2.0, 0.0], result=[2.0, 2.0, 0.0])], NormParams())
    assert found == {"value": 0.0, "n": 3, "outside": 0, "worst": 1, "inputs": 2}
    over = norm_deviation([tensors(a=[1.0, 4.0], b=[2.0, 2.0], result=[2.0, 5.0])], NormParams(0.25))
    assert (over["value"], over["outside"], over["worst"]) == (0.25, 0, 2)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (tensors(a=[1.0], result=[1.0]), "norms of 1 inputs"),
        (tensors(a=[1.0], b=[1.0]), "no curve 'result'"),
        (tensors(a=[1.0, 2.0], b=[1.0], result=[1.0]), "different tensors"),
        (tensors(a=[-1.0], b=[1.0], result=[1.0]), "no norm"),
        (tensors(a=[None], b=[1.0], result=[1.0]), "no norm"),
        (tensors(a=[0.0], b=[0.0], result=[1.0]), "tensor 1 is zero in every input"),
    ],
)
def test_norms_that_are_none_are_refused(evidence, message):
    with pytest.raises(MeasureError, match=message):
        norm_deviation([evidence], NormParams())


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_conflicts_are_counted_over_all_tensors(count, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.choice([-1, 0, 1], size=(count, 3, 20))
    plain = ((vectors > 0).any(axis=1) & (vectors < 0).any(axis=1)).sum(axis=1)
    result = rng.integers(0, plain + 1)
    counts = {"elements": [20] * count, "sum": [int(v) for v in plain], "result": [int(v) for v in result]}
    found = sign_conflicts([tensors(**counts)], NoParams())
    total = 20 * count
    assert found["value"] == pytest.approx(result.sum() / total)
    assert found["difference"] == pytest.approx((result.sum() - plain.sum()) / total)
    assert (found["sum"], found["result"], found["n"], found["tensors"]) == (plain.sum(), result.sum(), total, count)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (tensors(elements=[4], result=[1]), "no curve 'sum'"),
        (tensors(elements=[4], result=[5], sum=[1]), "tensor 1 has more conflicts in `result` than elements"),
        (tensors(elements=[4, 4], result=[1], sum=[1, 1]), "different tensors"),
        (tensors(elements=[4], result=[1.5], sum=[1]), "not a whole number"),
        (tensors(elements=[4], result=[-1], sum=[1]), "at least 0"),
        (tensors(elements=[0], result=[0], sum=[0]), "no element"),
    ],
)
def test_counts_that_are_none_are_refused(evidence, message):
    with pytest.raises(MeasureError, match=message):
        sign_conflicts([evidence], NoParams())
