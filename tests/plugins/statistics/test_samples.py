"""Measures of samples: known tables, refusals, and what cannot be decided."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hrmctl_statistics.params import (
    NoParams,
    OutcomeParams,
    PairedDeltaParams,
    PassAtKParams,
    ProportionInterval,
    RateParams,
)
from hrmctl_statistics.samples import distinct, mode, outcome_rate, paired_delta, pass_at_k, pass_rate, same_samples

from hrmctl import Evidence, MeasureError, Undecidable

from .evidence import measured, provenance, samples

# 103 solved by both, 53 by the first only, 27 by the second only, 317 by neither.
FIRST = [1] * 103 + [1] * 53 + [0] * 27 + [0] * 317
SECOND = [1] * 103 + [0] * 53 + [1] * 27 + [0] * 317


def with_completions(*problems: list[str]) -> Evidence:
    rows = [{"id": f"t/{i}", "n": len(p), "c": 0, "completions": p} for i, p in enumerate(problems)]
    return Evidence("samples", "samples/v1", {"problems": rows})


def changed(evidence: Evidence, index: int, **row: object) -> Evidence:
    rows = [dict(r) for r in evidence.payload["problems"]]
    rows[index] |= row
    return replace(evidence, payload={**evidence.payload, "problems": rows})


def test_pass_at_1_of_100_in_500():
    found = pass_at_k([samples([1] * 100 + [0] * 400)], PassAtKParams(ci=ProportionInterval(seed=7)))
    assert found["value"] == 0.2
    assert (found["n"], found["samples"], found["ci"]) == (500, 1, "bootstrap")
    assert found["lo"] == pytest.approx(0.166, abs=0.003)
    assert found["hi"] == pytest.approx(0.236, abs=0.003)


def test_pass_at_k_averages_over_problems_not_over_samples():
    found = pass_at_k([samples([0, 1, 2], n=2)], PassAtKParams(k=2))
    assert found["value"] == pytest.approx(2 / 3)
    assert found["samples"] == 2


def test_pass_at_k_takes_problems_with_unequal_samples():
    uneven = changed(samples([1, 1], n=2), 0, n=4)
    found = pass_at_k([uneven], PassAtKParams())
    assert found["value"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert found["samples"] == 2


def test_pass_at_k_refuses_fewer_samples_than_k():
    with pytest.raises(MeasureError, match="pass@10"):
        pass_at_k([samples([1, 0], n=9)], PassAtKParams(k=10))


@pytest.mark.parametrize(("passed", "low", "high"), [(0, 0.0, 0.0076), (500, 0.9924, 1.0)])
def test_equal_problems_get_an_interval_that_has_a_width(passed, low, high):
    found = pass_at_k([samples([1] * passed + [0] * (500 - passed))], PassAtKParams())
    assert found["ci"] == "wilson"
    assert (found["lo"], found["hi"]) == pytest.approx((low, high), abs=1e-4)


def test_a_wilson_interval_needs_problems_that_pass_or_fail():
    wilson = PassAtKParams(ci=ProportionInterval(method="wilson"))
    assert pass_at_k([samples([1] * 118 + [0] * 382)], wilson)["lo"] > 0.2
    with pytest.raises(MeasureError, match="Wilson"):
        pass_at_k([samples([1, 2], n=2)], wilson)


def test_without_interval_there_are_no_bounds():
    assert set(pass_at_k([samples([1, 0])], PassAtKParams(ci=ProportionInterval(method="none")))) == {
        "value",
        "n",
        "samples",
        "ci",
    }


def test_pass_rate_counts_first_samples():
    found = pass_rate([samples([2, 1, 0], n=2, outcomes=True)], RateParams())
    assert (found["value"], found["count"], found["n"]) == (pytest.approx(2 / 3), 2, 3)
    late = changed(samples([1], n=2), 0, outcomes=["timeout", "passed"])
    assert pass_rate([late], RateParams())["count"] == 0


def test_which_sample_is_the_first_is_not_guessed():
    with pytest.raises(MeasureError, match="without outcomes"):
        pass_rate([samples([1], n=2)], RateParams())


@pytest.mark.parametrize(
    ("evidence", "count"),
    [(measured(3, "problems", 200), 3), (measured(0.015, "fraction", 200), 3), (measured(1.0, "share", 200), 200)],
)
def test_pass_rate_of_a_measured_count_or_share(evidence, count):
    found = pass_rate([evidence], RateParams())
    assert (found["count"], found["n"], found["value"]) == (count, 200, count / 200)


@pytest.mark.parametrize(
    "evidence",
    [
        measured(201, "problems", 200),
        measured(-1, "problems", 200),
        measured(0.5, "problems", 200),
        measured(0.0123, "share", 200),
        measured(30, "%", 200),
    ],
)
def test_pass_rate_refuses_what_is_no_count_of_n(evidence):
    with pytest.raises(MeasureError):
        pass_rate([evidence], RateParams())


def test_outcome_rate():
    found = outcome_rate([samples([2, 1], n=4, outcomes=True)], OutcomeParams("wrong_answer"))
    assert (found["value"], found["count"], found["n"]) == (5 / 8, 5, 8)
    assert outcome_rate([samples([2], n=4, outcomes=True)], OutcomeParams("timeout"))["value"] == 0
    several = outcome_rate([samples([2, 1], n=4, outcomes=True)], OutcomeParams(("passed", "timeout", "passed")))
    assert (several["count"], several["n"]) == (3, 8)
    with pytest.raises(MeasureError, match="without outcomes"):
        outcome_rate([samples([2], n=4)], OutcomeParams("timeout"))


def test_distinct():
    found = distinct([with_completions(["a", "a", "a", "b"], ["c", "d", "e", "f"])], NoParams())
    assert (found["value"], found["n"], found["min_distinct"], found["samples"]) == (0.75, 2, 2, 4)


def test_same_samples():
    same = [with_completions(["a", "a"], ["b", "b"])]
    assert same_samples(same, NoParams()) == {"value": True, "differing": 0, "n": 2, "samples": 2}
    found = same_samples([with_completions(["a", "a", "b"], ["c", "c", "c"])], NoParams())
    assert (found["value"], found["differing"]) == (False, 1)
    for wrong in (with_completions(["a"]), samples([1, 0], n=2)):
        with pytest.raises(MeasureError):
            same_samples([wrong], NoParams())


def test_distinct_refuses_one_sample_and_no_digests():
    with pytest.raises(MeasureError, match="at least 2"):
        distinct([with_completions(["a"])], NoParams())
    with pytest.raises(MeasureError, match="digests"):
        distinct([samples([1, 0], n=2)], NoParams())


def test_mode():
    assert mode([samples([1], mode="seccomp")], NoParams())["value"] == "seccomp"
    for wrong in ("TBD", "", None, 3):
        with pytest.raises(MeasureError):
            mode([samples([1], mode=wrong)], NoParams())


# --- paired ---------------------------------------------------------------------------------------


def test_the_check_figure():
    found = paired_delta([samples(FIRST), samples(SECOND)], PairedDeltaParams(seed=7))
    table = {key: found[key] for key in ("both", "only_a", "only_b", "neither", "discordant", "n")}
    assert table == {"both": 103, "only_a": 53, "only_b": 27, "neither": 317, "discordant": 80, "n": 500}
    assert found["value"] == pytest.approx(0.052)
    assert (found["lo"], found["hi"]) == pytest.approx((0.018, 0.086), abs=0.0025)
    assert found["mcnemar_p"] == pytest.approx(0.004868, abs=1e-6)
    assert found["p"] == pytest.approx(0.0049, abs=0.003)


def test_swapped_sides_swap_the_sign():
    there = paired_delta([samples(FIRST), samples(SECOND)], PairedDeltaParams(seed=1))
    back = paired_delta([samples(SECOND), samples(FIRST)], PairedDeltaParams(seed=1))
    assert back["value"] == -there["value"]
    assert back["mcnemar_p"] == there["mcnemar_p"]
    assert (back["only_a"], back["only_b"]) == (27, 53)
    assert back["hi"] < 0 < there["lo"]


def test_the_same_seed_gives_the_same_figures_in_any_order():
    first, second = samples(FIRST), samples(SECOND)
    shuffled = replace(second, payload={**second.payload, "problems": second.payload["problems"][::-1]})
    params = PairedDeltaParams(resamples=1000, seed=3)
    assert paired_delta([first, second], params) == paired_delta([first, shuffled], params)
    assert paired_delta([first, second], params) != paired_delta([first, second], replace(params, seed=4))


def test_paired_at_k_uses_all_samples_and_mcnemar_the_first():
    first = samples([2, 1, 0, 0], n=2, outcomes=True)
    second = samples([0, 1, 0, 1], n=2, outcomes=True)
    found = paired_delta([first, second], PairedDeltaParams(k=2))
    assert found["value"] == pytest.approx(0.0)
    assert paired_delta([first, second], PairedDeltaParams(k=1))["value"] == pytest.approx(1 / 8)
    assert (found["both"], found["only_a"], found["only_b"], found["neither"]) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1, 0, 1], [1, 0, 1]), ([0, 0], [0, 0]), ([1, 1, 1], [0, 0, 0]), ([1], [0])],
    ids=["equal", "zero", "all-differ-alike", "one-problem"],
)
def test_what_shows_no_spread_is_undecided(first, second):
    with pytest.raises(Undecidable, match="resampling"):
        paired_delta([samples(first), samples(second)], PairedDeltaParams())


def test_differences_that_are_equal_but_for_rounding_are_undecided():
    # 3/10 - 2/10 and 2/10 - 1/10 are not the same float.
    first, second = samples([3, 2], 10, outcomes=True), samples([2, 1], 10, outcomes=True)
    with pytest.raises(Undecidable, match=r"differ by 0\.1"):
        paired_delta([first, second], PairedDeltaParams())


def test_no_disagreeing_first_samples_is_undecided():
    with pytest.raises(Undecidable, match="disagree"):
        paired_delta([samples([2, 0], 2, outcomes=True), samples([1, 0], 2, outcomes=True)], PairedDeltaParams())


def test_every_table_of_four_problems_is_measured_or_refused_with_a_reason():
    for first, second in product(product([0, 1], repeat=4), repeat=2):
        deltas = {a - b for a, b in zip(first, second, strict=True)}
        arguments = [samples(first), samples(second)], PairedDeltaParams(resamples=100)
        if len(deltas) == 1:
            with pytest.raises(Undecidable):
                paired_delta(*arguments)
            continue
        found = paired_delta(*arguments)
        assert found["lo"] <= found["hi"]
        assert 0 < found["p"] <= 1
        assert 0 < found["mcnemar_p"] <= 1


def unpaired(**problem: object) -> Evidence:
    return changed(samples(SECOND), 3, **problem)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (samples(SECOND[:-1]), "unpaired: 1 problems are on one side only, the first is t/499"),
        (unpaired(id="other/1"), "unpaired: 2 problems"),
        (samples(SECOND, mode="none"), "unpaired: the sides ran in different sandbox modes"),
    ],
)
def test_unpaired_samples_are_refused(second, message):
    with pytest.raises(MeasureError, match=message):
        paired_delta([samples(FIRST), second], PairedDeltaParams())


def test_different_data_sets_with_the_same_ids_are_unpaired():
    first = replace(samples(FIRST), provenance=provenance(subjects={"model": "a", "dataset": "d1"}))
    second = replace(samples(SECOND), provenance=provenance(subjects={"model": "b", "dataset": "d2"}))
    with pytest.raises(MeasureError, match="different data sets"):
        paired_delta([first, second], PairedDeltaParams())
    same = replace(second, provenance=provenance(subjects={"model": "b", "dataset": "d1"}))
    assert paired_delta([first, same], PairedDeltaParams())["n"] == 500


def test_a_model_is_not_compared_with_itself():
    one = samples(FIRST)
    with pytest.raises(MeasureError, match="itself"):
        paired_delta([one, one], PairedDeltaParams())
    with pytest.raises(MeasureError, match="itself"):
        paired_delta([replace(one, digest="d"), replace(samples(SECOND), digest="d")], PairedDeltaParams())


# --- samples that cannot be measured ---------------------------------------------------------------

GOOD = {"id": "t/1", "n": 2, "c": 1}
BROKEN_PROBLEMS = {
    "no-id": {"n": 2, "c": 1},
    "placeholder-id": GOOD | {"id": "TBD"},
    "zero-n": GOOD | {"n": 0, "c": 0},
    "string-n": GOOD | {"n": "2"},
    "boolean-n": GOOD | {"n": True},
    "boolean-c": GOOD | {"c": True},
    "float-c": GOOD | {"c": 1.0},
    "nan-c": GOOD | {"c": float("nan")},
    "negative-c": GOOD | {"c": -1},
    "c-above-n": GOOD | {"c": 3},
    "too-few-outcomes": GOOD | {"outcomes": ["passed"]},
    "contradicting-outcomes": GOOD | {"outcomes": ["passed", "passed"]},
    "placeholder-outcome": GOOD | {"outcomes": ["passed", "n/a"]},
    "number-for-outcome": GOOD | {"outcomes": ["passed", 0]},
    "padded-placeholder-completion": GOOD | {"completions": ["a", " TBD\n"]},
    "too-few-completions": GOOD | {"completions": ["a"]},
    "text-for-completions": GOOD | {"completions": "ab"},
    "text-for-outcomes": GOOD | {"outcomes": "passed"},
    "no-object": "TBD",
}


@pytest.mark.parametrize("problem", BROKEN_PROBLEMS.values(), ids=BROKEN_PROBLEMS)
def test_a_broken_problem_is_refused(problem):
    with pytest.raises(MeasureError):
        pass_at_k([Evidence("s", "samples/v1", {"problems": [problem]})], PassAtKParams())


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"problems": []},
        {"problems": None},
        {"problems": "TBD"},
        {"problems": {"t/1": GOOD}},
        {"problems": [GOOD, GOOD]},
        {"n": 10, "problems": [GOOD]},
        {"n": True, "problems": [GOOD | {"n": 1}]},
    ],
    ids=["empty", "none", "null", "text", "object", "same-id-twice", "wrong-n", "boolean-n"],
)
def test_broken_samples_are_refused(payload):
    with pytest.raises(MeasureError):
        pass_at_k([Evidence("s", "samples/v1", payload)], PassAtKParams())


def test_the_good_problem_is_good():
    assert pass_at_k([Evidence("s", "samples/v1", {"n": 2, "problems": [GOOD]})], PassAtKParams())["value"] == 0.5
