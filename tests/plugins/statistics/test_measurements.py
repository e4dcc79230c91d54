"""Measures of measurements, curves and files."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import scipy.stats
from hrmctl_statistics.curves import count, series, total_bytes
from hrmctl_statistics.measurements import all_finite, attempts, chance, difference, overlap, per, ratio, value
from hrmctl_statistics.params import (
    AllFiniteParams,
    CompareParams,
    FilesParams,
    NoParams,
    RateParams,
    SeriesParams,
    TrialInterval,
)

from hrmctl import Evidence, MeasureError

from .evidence import curve, listing, measured, provenance

LEFT = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0]
RIGHT = [5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0]


def trials(values: list[float], **extra: object) -> Evidence:
    return measured(sorted(values)[len(values) // 2], "tokens/s", len(values), trials=values, **extra)


def test_value_alone_and_with_trials():
    assert value([measured(3, "tokens", 5)], NoParams()) == {"value": 3, "unit": "tokens", "n": 5, "trials": 0}
    assert "unit" not in value([measured(3, "")], NoParams())
    found = value([trials([4.0, 1.0, 3.0])], NoParams())
    assert found == {"value": 3.0, "unit": "tokens/s", "n": 3, "trials": 3, "min": 1.0, "max": 4.0, "median": 3.0}


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"value": "TBD", "unit": "bytes", "n": 1},
        {"value": "3", "unit": "bytes", "n": 1},
        {"value": None, "unit": "bytes", "n": 1},
        {"value": True, "unit": "bytes", "n": 1},
        {"value": float("nan"), "unit": "bytes", "n": 1},
        {"value": float("inf"), "unit": "bytes", "n": 1},
        {"value": 10**400, "unit": "bytes", "n": 1},
        {"value": 3, "unit": "bytes"},
        {"value": 3, "unit": "bytes", "n": 0},
        {"value": 3, "unit": "bytes", "n": 1.5},
        {"value": 3, "unit": "bytes", "n": True},
        {"value": 3, "unit": "TBD", "n": 1},
        {"value": 3, "unit": 7, "n": 1},
        {"value": 3, "unit": "s", "n": 1, "trials": []},
        {"value": 3, "unit": "s", "n": 1, "trials": "3"},
        {"value": 3, "unit": "s", "n": 1, "trials": [3, "n/a"]},
        {"value": 3, "unit": "s", "n": 1, "trials": [3, float("nan")]},
        {"value": 9, "unit": "s", "n": 2, "trials": [3, 4]},
    ],
    ids=str,
)
def test_broken_measurements_are_refused(payload):
    with pytest.raises(MeasureError):
        value([Evidence("m", "measurement/v1", payload)], NoParams())


def test_ratio_and_difference_without_trials_have_no_interval():
    sides = [measured(30, n=2), measured(100, n=5)]
    assert ratio(sides, CompareParams()) == {"value": 0.3, "left": 30, "right": 100, "n": 2, "trials": 0}
    assert difference(sides, CompareParams()) == {"value": -70, "left": 30, "right": 100, "n": 2, "trials": 0}


def test_paired_trials_give_an_interval_around_the_value():
    found = ratio([trials(LEFT), trials([x / 2 + 0.1 * (-1) ** i for i, x in enumerate(LEFT)])], CompareParams())
    assert found["lo"] < found["value"] < found["hi"]
    assert found["hi"] - found["lo"] < 0.2
    exact = ratio([trials(LEFT), trials(RIGHT)], CompareParams())
    assert (exact["lo"], exact["value"], exact["hi"]) == (2.0, 2.0, 2.0)
    unpaired = ratio([trials(LEFT), trials([*RIGHT, 6.5, 6.5])], CompareParams())
    assert unpaired["lo"] < 1.9 < 2.1 < unpaired["hi"]


def test_difference_of_trials():
    found = difference([trials(LEFT), trials(RIGHT)], CompareParams())
    assert found["lo"] < found["value"] == 6.5 < found["hi"]


def test_the_interval_repeats_with_its_seed():
    sides = [trials(LEFT), trials(RIGHT[:-2])]
    first = ratio(sides, CompareParams(TrialInterval(seed=1, resamples=200)))
    assert first == ratio(sides, CompareParams(TrialInterval(seed=1, resamples=200)))
    assert first != ratio(sides, CompareParams(TrialInterval(seed=2, resamples=200)))
    assert "lo" not in ratio(sides, CompareParams(TrialInterval(method="none")))


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (trials(LEFT), trials(RIGHT[:4]), "7 and 4 trials"),
        (trials(LEFT), measured(6.5, "tokens/s"), "7 and 0 trials"),
        (measured(10, "tokens/s", 7, trials=LEFT), trials(RIGHT), "not the median"),
    ],
)
def test_an_interval_that_is_asked_for_and_cannot_be_had_is_refused(left, right, message):
    assert "lo" not in ratio([left, right], CompareParams())
    with pytest.raises(MeasureError, match=message):
        ratio([left, right], CompareParams(TrialInterval(method="bootstrap")))


@pytest.mark.parametrize(
    "right",
    [measured(0), measured(0.0), measured(5, trials=[0, 5, 9]), measured(5, trials=[-1, 5, 9])],
    ids=["zero", "zero-float", "zero-trial", "sign-change"],
)
def test_a_divisor_of_zero_is_refused(right):
    with pytest.raises(MeasureError, match="cannot divide"):
        ratio([measured(3), right], CompareParams())


def test_a_ratio_too_large_for_a_number_is_refused():
    with pytest.raises(MeasureError, match="not a finite number"):
        ratio([measured(1e100), measured(5e-324)], CompareParams())


@pytest.mark.parametrize("measure", [ratio, difference])
def test_units_must_agree(measure):
    with pytest.raises(MeasureError, match="'MB' and size in 'bytes'"):
        measure([measured(3, "MB"), measured(3, "bytes")], CompareParams())


@pytest.mark.parametrize("measure", [ratio, difference])
def test_nothing_is_compared_with_itself(measure):
    one = measured(3)
    with pytest.raises(MeasureError, match="itself"):
        measure([one, one], CompareParams())
    with pytest.raises(MeasureError, match="itself"):
        measure([replace(one, digest="d"), replace(measured(4), digest="d")], CompareParams())


def test_one_subject_benchmarked_against_itself_is_refused():
    model, baseline = replace(measured(3), provenance=provenance()), replace(measured(4), provenance=provenance())
    with pytest.raises(MeasureError, match="itself"):
        ratio([model, baseline], CompareParams())
    other = replace(baseline, provenance=provenance(subjects={"model": "m2"}))
    assert ratio([model, other], CompareParams())["value"] == 0.75
    renamed = replace(baseline, name="fp16_size")
    assert ratio([model, renamed], CompareParams())["value"] == 0.75


def test_chance():
    assert chance([measured(512, "tokens")], NoParams()) == {"value": math.log(512), "vocabulary": 512, "n": 1}
    for wrong in (1, 0, -3, 51.5):
        with pytest.raises(MeasureError, match="vocabulary"):
            chance([measured(wrong, "tokens")], NoParams())


def test_per_divides_two_units():
    found = per([measured(1000, "tokens", 5), measured(4, "seconds", 2)], NoParams())
    assert found == {"value": 250.0, "unit": "tokens/seconds", "left": 1000, "right": 4, "n": 2}


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (measured(3, "tokens"), measured(3, "tokens"), "`ratio` divides"),
        (measured(3, "tokens"), measured(0, "seconds"), "cannot divide"),
        (measured(3, "tokens"), measured(-1, "seconds"), "cannot divide"),
        (measured(3, ""), measured(1, "seconds"), "has no unit"),
        (measured(3, "tokens"), measured(1, ""), "has no unit"),
    ],
)
def test_a_quotient_that_means_nothing_is_refused(left, right, message):
    with pytest.raises(MeasureError, match=message):
        per([left, right], NoParams())


def test_overlap_is_a_count_with_an_interval():
    found = overlap([measured(3 / 70, "share of documents", 70, context={"count": 3})], RateParams())
    expected = scipy.stats.binomtest(3, 70).proportion_ci(method="wilson")
    assert (found["count"], found["n"], found["of"], found["value"]) == (3, 70, "documents", 3 / 70)
    assert (found["lo"], found["hi"]) == pytest.approx((expected.low, expected.high))
    none = overlap([measured(0.0, "share of n-grams", 9)], RateParams())
    assert (none["count"], none["lo"], none["of"]) == (0, 0.0, "n-grams")
    assert none["hi"] > 0.2


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (measured(0.5, "share", 4), "not a share of"),
        (measured(50, "%", 4), "not a share of"),
        (measured(0.3, "share of documents", 4), "no whole count"),
        (measured(1.25, "share of documents", 4), "no whole count"),
        (measured(-0.25, "share of documents", 4), "no whole count"),
        (measured(0.5, "share of documents", 4, context={"count": 1}), "its count 1"),
    ],
)
def test_a_share_that_is_none_is_refused(evidence, message):
    with pytest.raises(MeasureError, match=message):
        overlap([evidence], RateParams())


def test_attempts_are_those_of_the_ledger():
    def of(value: object, name: str = "attempts", **changes: object) -> Evidence:
        given = provenance(**changes) if changes else None
        return Evidence(name, "measurement/v1", {"value": value, "unit": "attempts", "n": 1}, given)

    assert attempts([of(3)], NoParams()) == {"value": 3, "n": 1}
    assert attempts([of(1, uses="ledger")], NoParams())["value"] == 1
    for wrong in (of(0), of(1.5), of(1, "tries"), of(1, uses="eval"), of(-1), of(True)):
        with pytest.raises(MeasureError):
            attempts([wrong], NoParams())


def test_all_finite_counts_nulls():
    assert all_finite([curve([1.0, 2.0])], AllFiniteParams()) == {"value": True, "nonfinite": 0, "n": 2}
    assert all_finite([curve([1.0, None, None])], AllFiniteParams()) == {"value": False, "nonfinite": 2, "n": 3}
    both = curve([1.0, 2.0])
    both.payload["series"]["lr"] = {"steps": [1], "values": [None]}
    assert all_finite([both], AllFiniteParams()) == {"value": False, "nonfinite": 1, "n": 3}
    trial = measured(3, trials=[3, 4])
    assert all_finite([trial], AllFiniteParams()) == {"value": True, "nonfinite": 0, "n": 3}
    assert all_finite([measured(None)], AllFiniteParams()) == {"value": False, "nonfinite": 1, "n": 1}
    counted = AllFiniteParams(counted=True)
    assert all_finite([measured(0, "steps", 600)], counted) == {"value": True, "nonfinite": 0, "n": 600}
    assert all_finite([measured(2, "steps", 600)], counted) == {"value": False, "nonfinite": 2, "n": 600}


@pytest.mark.parametrize(
    ("evidence", "counted"),
    [
        (measured(7, "steps", 6), True),
        (measured(0.5, "steps", 6), True),
        (measured(-1, "steps", 6), True),
        (measured("TBD"), False),
        (measured(1, trials=[]), False),
        (curve([1.0, "nan"]), False),
        (Evidence("t", "series/v1", {"series": {}}), False),
        (Evidence("t", "series/v1", {}), False),
    ],
    ids=str,
)
def test_finiteness_of_what_is_no_evidence_is_refused(evidence, counted):
    with pytest.raises(MeasureError):
        all_finite([evidence], AllFiniteParams(counted))


# --- curves ------------------------------------------------------------------------------------------


def test_series_of_a_straight_line():
    found = series([curve([10.0 - i for i in range(10)], steps=[5 * i for i in range(10)])], SeriesParams(window=2))
    assert found == {
        "first": 9.5,
        "last": 1.5,
        "min": 1.0,
        "max": 10.0,
        "median": 5.5,
        "n": 10,
        "slope": pytest.approx(-0.2),
        "nonfinite": 0,
        "drop": pytest.approx(8 / 9.5),
    }


def test_a_rise_is_a_negative_drop_and_from_zero_there_is_none():
    assert series([curve([1, 3])], SeriesParams(window=1))["drop"] == -2.0
    assert series([curve([-2, -1])], SeriesParams(window=1))["drop"] == -0.5
    assert "drop" not in series([curve([0, 1])], SeriesParams(window=1))


def test_null_points_are_counted_and_left_out():
    found = series([curve([4.0, None, 2.0, 1.0])], SeriesParams(window=1))
    assert (found["nonfinite"], found["n"], found["first"], found["last"]) == (1, 3, 4.0, 1.0)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (curve([1.0, 2.0, 3.0]), "3 points"),
        (curve([1.0, 2.0, 3.0, None]), "not finite"),
        (curve([None, 2.0, 3.0, 1.0]), "not finite"),
        (curve([1.0, float("nan"), 3.0, 4.0]), "finite"),
        (curve([1.0, float("inf"), 3.0, 4.0]), "finite"),
        (curve([1.0, "TBD", 3.0, 4.0]), "not a number"),
        (curve([1.0, True, 3.0, 4.0]), "not a number"),
        (curve([1.0, 2.0, 3.0, 4.0], steps=[1, 2, 3]), "3 steps and 4 values"),
        (curve([1.0, 2.0, 3.0, 4.0], steps=[1, 3, 2, 4]), "do not increase"),
        (curve([1.0, 2.0, 3.0, 4.0], steps=[1, 1, 2, 4]), "do not increase"),
        (curve([1.0, 2.0, 3.0, 4.0], steps=[1, 2, 3, True]), "whole number"),
        (curve([]), "empty"),
        (Evidence("t", "series/v1", {}), "not an object"),
        (Evidence("t", "series/v1", {"series": {"lr": {"steps": [1], "values": [1]}}}), "no curve 'loss'; it has: lr"),
        (Evidence("t", "series/v1", {"series": {"loss": [1, 2, 3, 4]}}), "not an object"),
    ],
)
def test_broken_curves_are_refused(evidence, message):
    with pytest.raises(MeasureError, match=message):
        series([evidence], SeriesParams(window=2))


# --- files -------------------------------------------------------------------------------------------

FILES = listing(a__safetensors=30, b__safetensors=12, config__json=5)


def test_files_are_added_up_and_counted():
    assert total_bytes([FILES], FilesParams()) == {"value": 47, "n": 3}
    assert total_bytes([FILES], FilesParams("*.safetensors")) == {"value": 42, "n": 2}
    assert count([FILES], FilesParams("*.safetensors")) == {"value": 2, "n": 3}
    assert count([FILES], FilesParams("*.pkl")) == {"value": 0, "n": 3}


def test_the_size_of_no_file_is_not_zero():
    with pytest.raises(MeasureError, match=r"no file matches '\*.bin'"):
        total_bytes([FILES], FilesParams("*.bin"))


GOOD = {"path": "a", "bytes": 3, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        "TBD",
        [GOOD, GOOD],
        [GOOD | {"bytes": -1}],
        [GOOD | {"bytes": "3"}],
        [GOOD | {"bytes": True}],
        [GOOD | {"bytes": 3.0}],
        [GOOD | {"sha256": "TBD"}],
        [GOOD | {"sha256": "0" * 63}],
        [GOOD | {"sha256": None}],
        [GOOD | {"path": ""}],
        [3],
    ],
    ids=str,
)
@pytest.mark.parametrize("measure", [total_bytes, count])
def test_broken_listings_are_refused(measure, rows):
    with pytest.raises(MeasureError):
        measure([Evidence("f", "files/v1", {"files": rows})], FilesParams())
