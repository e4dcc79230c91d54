"""What n problems can show: against enumeration, scipy, closed forms, simulation, and DESIGN's figures."""

from __future__ import annotations

import json
import math
from itertools import product

import jsonschema
import numpy as np
import pytest
import scipy.stats
from hrmctl_statistics import power
from hrmctl_statistics.clusters import spread_of
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl.cli import run


def enumerated(n: int, discordant: float, effect: float, alpha: float) -> float:
    """McNemar's power over all tables of n problems."""
    ours, theirs = (discordant + effect) / 2, (discordant - effect) / 2
    total = 0.0
    for a, b in product(range(n + 1), repeat=2):
        if a + b > n or a + b == 0:
            continue
        if scipy.stats.binomtest(a, a + b).pvalue <= alpha:
            total += scipy.stats.multinomial.pmf([a, b, n - a - b], n, [ours, theirs, 1 - discordant])
    return total


@pytest.mark.parametrize("n", [5, 6, 9, 14])
@pytest.mark.parametrize(("discordant", "effect"), [(0.2, 0.0), (0.5, 0.3), (0.9, 0.9), (1.0, 0.4)])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_mcnemars_power_is_the_sum_over_all_tables(n, discordant, effect, alpha):
    assert power.mcnemar_power(n, discordant, effect, alpha) == pytest.approx(
        enumerated(n, discordant, effect, alpha), abs=1e-10
    )


@given(st.integers(1, 300), st.floats(0.01, 1.0), st.sampled_from([0.01, 0.05, 0.1]))
@settings(deadline=None, max_examples=60)
def test_an_exact_test_never_errs_more_often_than_its_level(n, discordant, alpha):
    assert power.mcnemar_power(n, discordant, 0.0, alpha) <= alpha + 1e-12


def test_500_problems_of_which_a_fifth_are_discordant_show_about_5_7_points():
    effect = power.detectable(500, 0.2)
    assert effect == pytest.approx(0.057, abs=0.001)
    # Connor's normal approximation (1987) is near.
    z = scipy.stats.norm.ppf(0.975) * math.sqrt(0.2) + scipy.stats.norm.ppf(0.8) * math.sqrt(0.2 - effect**2)
    assert effect == pytest.approx(z / math.sqrt(500), abs=0.003)
    assert power.mcnemar_power(500, 0.2, effect) == pytest.approx(0.8)
    assert power.detectable(10, 0.2) is None


@given(st.floats(0.05, 0.6), st.floats(0.3, 1.0), st.sampled_from([0.7, 0.8, 0.9]))
@settings(deadline=None, max_examples=12)
def test_the_problems_needed_are_the_first_that_are_enough(discordant, share, wanted):
    effect = discordant * share
    n = power.problems_needed(effect, discordant, 0.05, wanted)
    assert n is not None
    assert power.mcnemar_power(n, discordant, effect) >= wanted
    assert power.mcnemar_power(n - 1, discordant, effect) < wanted
    assert power.detectable(n, discordant, 0.05, wanted) <= effect + 1e-9


def test_no_number_of_problems_is_enough_for_next_to_nothing():
    assert power.problems_needed(1e-6, 0.5) is None


# --- one proportion ----------------------------------------------------------------------------------


def test_118_and_171_of_500_must_pass():
    assert power.passes_needed(500, 0.20) == 118
    assert power.passes_needed(500, 0.30) == 171
    assert power.passes_needed(3, 0.9) is None


@given(st.integers(1, 400), st.floats(0.01, 0.99), st.sampled_from(["wilson", "exact"]), st.sampled_from([0.9, 0.95]))
@settings(deadline=None, max_examples=80)
def test_the_passes_needed_are_the_first_that_scipys_interval_grants(n, at_least, method, level):
    def bound(passes: int) -> float:
        return scipy.stats.binomtest(passes, n).proportion_ci(level, method=method).low

    needed = power.passes_needed(n, at_least, level, method)
    if needed is None:
        assert bound(n) < at_least + 1e-12
        return
    assert bound(needed) >= at_least - 1e-12
    assert needed == 0 or bound(needed - 1) < at_least + 1e-12


@given(st.integers(5, 300), st.floats(0.05, 0.8), st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=40)
def test_the_power_of_one_proportion_is_binomial(n, at_least, rate):
    needed = power.passes_needed(n, at_least)
    expected = 0.0 if needed is None else scipy.stats.binom.sf(needed - 1, n, rate)
    assert power.proportion_power(n, rate, at_least) == pytest.approx(expected, abs=1e-12)
    found = power.rate_needed(n, at_least, 0.95, 0.8, "wilson")
    assert (found is None) == (needed is None)
    assert found is None or power.proportion_power(n, found, at_least) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(("rate", "at_least"), [(0.25, 0.2), (0.4, 0.3), (0.9, 0.5)])
def test_from_the_trials_needed_on_the_power_does_not_fall_back_at_once(rate, at_least):
    n = power.trials_needed(rate, at_least, 0.95, 0.8, "wilson")
    assert power.proportion_power(n - 1, rate, at_least) < 0.8
    assert all(power.proportion_power(n + i, rate, at_least) >= 0.8 for i in range(math.ceil(1 / at_least)))


# --- seeds -------------------------------------------------------------------------------------------


def table(rng: np.random.Generator, seeds: int, n: int, shared: float, sd: float, effect: float) -> np.ndarray:
    """Differences of one variance 0.2: a share of it the problem's own, and a deviation of each seed."""
    own = rng.normal(scale=math.sqrt(0.2 * shared), size=(1, n))
    rest = rng.normal(scale=math.sqrt(0.2 * (1 - shared)), size=(seeds, n))
    return effect + rng.normal(scale=sd, size=(seeds, 1)) + own + rest


@pytest.mark.parametrize("shared", [1.0, 0.4])
def test_the_spread_over_seeds_is_that_of_simulated_tables(shared):
    rng = np.random.default_rng(6)
    found = [spread_of(table(rng, 5, 200, shared, 0.03, 0.0)) for _ in range(300)]
    expected = power.clustered(200, 5, 0.2, 0.03, shared)
    assert expected.se**2 == pytest.approx(np.mean([s.se**2 for s in found]), rel=0.1)
    assert expected.se_seeds**2 == pytest.approx(np.mean([s.se_seeds**2 for s in found]), rel=0.1)


def test_more_seeds_and_more_problems_show_less_and_seeds_that_differ_set_a_floor():
    def mde(n: int, seeds: int, sd: float = 0.03) -> float:
        return power.clustered(n, seeds, 0.2, sd).detectable(0.95, 0.8)

    assert mde(500, 3) > mde(500, 5) > mde(2000, 5) > mde(10**6, 5)
    assert mde(500, 5, 0.0) < mde(500, 5)
    assert power.clustered_problems(0.01, 5, 0.2, 0.03, 1.0, 0.05, 0.8) is None
    n = power.clustered_problems(0.08, 5, 0.2, 0.03, 1.0, 0.05, 0.8)
    assert mde(n, 5) <= 0.08 < mde(n - 1, 5)


# --- simulation --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_simulated_experiments_show_the_detectable_effect_as_often_as_said():
    rng = np.random.default_rng(7)
    effect = power.detectable(500, 0.2)
    drawn = rng.multinomial(500, [(0.2 + effect) / 2, (0.2 - effect) / 2, 0.8], size=4000)
    shown = sum(scipy.stats.binomtest(int(a), int(a + b)).pvalue <= 0.05 for a, b, _ in drawn)
    assert shown / 4000 == pytest.approx(0.8, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_simulated_seeds_show_the_detectable_effect_about_as_often_as_said(seeds):
    rng = np.random.default_rng(8)
    effect = power.clustered(200, seeds, 0.2, 0.03, 0.5).detectable(0.95, 0.8)
    shown = 0
    for _ in range(1000):
        spread = spread_of(table(rng, seeds, 200, 0.5, 0.03, effect))
        shown += max(2 * scipy.stats.t.sf(abs(spread.mean) / se, df) for se, df in spread.errors) <= 0.05
    assert shown / 1000 == pytest.approx(0.8, abs=0.06)


# --- the command -------------------------------------------------------------------------------------

NUMBER = {"type": ["number", "null"]}
COUNT = {"type": ["integer", "null"]}


def strict(**properties: object) -> dict[str, object]:
    levels = {"alpha": NUMBER, "alpha_each": NUMBER, "comparisons": {"type": "integer"}, "power": NUMBER}
    known = {**properties, **levels, "answer": {"enum": ["n", "effect", "power", "passes"]}, "n": COUNT}
    return {"type": "object", "properties": known, "required": list(known), "additionalProperties": False}


SCHEMA = {
    "oneOf": [
        strict(test={"const": "mcnemar"}, discordant=NUMBER, effect=NUMBER),
        strict(
            test={"const": "clustered"}, discordant=NUMBER, effect=NUMBER, seeds=COUNT, sd_seeds=NUMBER, shared=NUMBER
        ),
        strict(test={"enum": ["wilson", "exact"]}, at_least=NUMBER, passes=COUNT, rate=NUMBER),
    ]
}


@pytest.mark.parametrize(
    ("options", "code", "answer", "said"),
    [
        ("--n 500 --discordant 0.2", 0, "effect", "500 problems show a difference of 5.74 points with 80.0 % power"),
        ("--n 500 --discordant 0.2 --effect 0.05", 0, "power", "with 67.6 % power"),
        ("--effect 0.05 --discordant 0.2", 0, "n", "658 problems show a difference of 5.00 points"),
        ("--effect 0.05 --discordant 0.2 --comparisons 2", 0, "n", "789 problems show"),
        ("--n 10 --discordant 0.2", 3, "effect", "10 problems show no difference"),
        ("--n 500 --at-least 0.2", 0, "passes", "118 of 500 problems must pass for a lower bound (wilson) of 20 %"),
        ("--n 500 --at-least 0.2 --method exact", 0, "passes", "119 of 500"),
        ("--n 500 --at-least 0.3 --rate 0.35", 0, "power", "35.00 % gets there with 66.2 % power"),
        ("--rate 0.25 --at-least 0.2", 0, "n", "128 of 545 problems must pass"),
        ("--rate 0.15 --at-least 0.2", 3, "n", "no number of problems shows"),
        ("--n 3 --at-least 0.9", 3, "passes", "3 passes of 3 problems do not give"),
        ("--n 500 --discordant 0.2 --seeds 5 --sd-seeds 0.02", 0, "effect", "6.19 points"),
        ("--effect 0.08 --discordant 0.2 --seeds 5 --sd-seeds 0.02", 0, "n", "276 problems show"),
        ("--effect 0.01 --discordant 0.2 --seeds 5 --sd-seeds 0.02", 3, "n", "no number of problems shows"),
    ],
)
def test_the_command_answers_in_words_and_as_json(options, code, answer, said, capsys):
    assert run(["power", *options.split()]) == code
    assert said in capsys.readouterr().out
    assert run(["power", *options.split(), "--json"]) == code
    result = json.loads(capsys.readouterr().out)
    jsonschema.validate(result, SCHEMA)
    assert result["answer"] == answer
    assert (result[answer] is None) == (code == 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "give --discordant or --at-least"),
        ("--n 500", "give --discordant or --at-least"),
        ("--discordant 0.2", "give --n, or --effect to learn n"),
        ("--at-least 0.2", "give --n, or --rate to learn n"),
        ("--n 5 --rate 0.2", "--rate is of one proportion"),
        ("--n 5 --at-least 0.2 --effect 0.1", "--effect of a paired comparison"),
        ("--n 5 --discordant 0.1 --effect 0.2", "more than --discordant 0.1 allows"),
        ("--n 5 --discordant 0.1 --seeds 3", "--seeds and --sd-seeds go together"),
        ("--n 5 --effect 0.1 --discordant 0.1 --seeds 3 --sd-seeds 0.1", "give --n or --effect, not both"),
        ("--n 0 --discordant 0.1", "--n"),
        ("--n 5 --discordant 1.1", "--discordant"),
    ],
)
def test_what_is_no_question_is_refused_in_one_line(options, said, capsys):
    assert run(["power", *options.split()]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
