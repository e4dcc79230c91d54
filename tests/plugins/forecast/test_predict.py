"""What is said of curves of a known truth: intervals, probabilities, courses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hrmctl_statistics.predict import Curve, Forecast, Joint, _stretch, predict, probabilities
from hypothesis import given, settings
from hypothesis import strategies as st

from .helpers import falling, noisy

STEPS = np.arange(1, 41) * 10.0
Truth = Callable[[np.ndarray], np.ndarray]


def loss(values: np.ndarray, down: bool = True) -> Curve:
    return Curve("loss", np.arange(1, len(values) + 1) * 10.0, values, down)


def one(values: np.ndarray, step: float = 800, draws: int = 200, down: bool = True, seed: int = 0) -> Forecast:
    return predict([loss(values, down)], step, draws, seed)[0]


# --- choice and course --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_family_of_the_truth_is_chosen_by_the_held_out_end(seed: int) -> None:
    x = STEPS / 400
    assert one(noisy(1 + 3 * np.exp(-4 * x), 0.0005, seed)).family == "exponential"
    assert one(noisy(0.5 + (x + 0.03) ** -0.6, 0.0005, seed)).family == "power"


def test_parameters_are_in_the_units_of_the_curve() -> None:
    found = one(0.5 + 2.5 * np.exp(-STEPS / 80)).parameters
    assert found == pytest.approx({"a": 0.5, "b": 2.5, "c": 1 / 80}, rel=1e-3)
    # Noise that is not there leaves the offset of a power law undecided; what it says of the values is not.
    power = 0.5 + 4 * (STEPS + 20) ** -0.7
    a, b, c, t0 = one(power).parameters.values()
    assert (a + b * (STEPS + t0) ** -c)[20:] == pytest.approx(power[20:], rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_flat_curve_is_called_flat_and_stays_where_it_is(seed: int) -> None:
    found = one(noisy(np.full(40, 2.0), 0.1, seed))
    value, low, high = found.interval(0.9)
    assert found.course == "flat"
    assert 1.8 < value < 2.2
    assert 0.2 < high - low < 1.0


def test_a_curve_that_has_all_but_arrived_is_flat_and_one_with_a_way_to_go_is_not() -> None:
    assert one(falling(40)).course == "flat"
    assert one(noisy(0.5 + 2.5 * np.exp(-1.5 * STEPS / 400), 0.02, 0)).course == "improving"


def test_a_curve_without_any_noise_that_does_not_move_is_flat() -> None:
    found = one(np.full(40, 2.0))
    assert found.course == "flat"
    assert found.interval(0.9) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_that_turns_is_getting_worse_and_has_no_draws(seed: int) -> None:
    x = STEPS / 400
    turning = noisy(1 + 2 * np.exp(-8 * x) + 1.2 * np.maximum(0, x - 0.5) ** 2, 0.01, seed)
    found = one(turning)
    assert found.course == "worsening"
    assert len(found.draws) == 0
    assert one(-turning, down=False).course == "worsening", "an accuracy that falls"


def test_a_loss_that_only_rises_is_getting_worse_and_an_accuracy_that_does_so_is_not() -> None:
    rising = noisy(3 - 2 * np.exp(-3 * STEPS / 400), 0.01, 1)
    assert one(rising).course == "worsening"
    assert one(rising, down=False).course == "improving"


def test_under_eight_points_there_is_no_forecast() -> None:
    with pytest.raises(ValueError, match="loss has 7 points; a forecast needs 8"):
        one(falling(7))
    assert len(one(falling(8)).draws) == 200


def test_a_long_curve_is_averaged_in_groups_and_says_the_same() -> None:
    values = falling(2000, noise=0.05)
    found = predict([Curve("loss", np.arange(1.0, 2001), values, True)], 3000, 200)[0]
    assert found.groups == 64, "the second half of 128 averages"
    value, low, high = found.interval(0.9)
    assert low < 0.5 + 2.5 * np.exp(-7.5) < high
    assert high - low < 0.1
    assert value == pytest.approx(0.5, abs=0.04)


def test_a_beginning_that_follows_another_law_does_not_matter() -> None:
    x = STEPS / 400
    settled = noisy(0.5 + (x + 0.03) ** -0.6, 0.01, 0)
    found, plain = one(settled + 40 * np.exp(-40 * x) * (x < 0.2)), one(settled)
    assert (found.start, found.groups) == (210, 20)
    assert found.parameters == plain.parameters
    assert [one(settled[:n]).groups for n in (8, 16, 24, 40)] == [8, 16, 16, 20]


def test_a_curve_whose_own_back_tests_fail_has_a_wider_interval() -> None:
    x = STEPS / 400
    smooth = noisy(1 + 3 * np.exp(-2 * x), 0.01, 0)
    # What is fitted is the same; before it the curve goes down a step that no earlier part of it foretells.
    stepped = smooth + 0.4 * (x <= 0.5)
    found, plain = one(stepped), one(smooth)
    assert found.parameters == plain.parameters
    widths = [each.interval(0.9)[2] - each.interval(0.9)[1] for each in (found, plain)]
    assert widths[0] > 1.5 * widths[1]
    assert found.interval(0.9)[0] == pytest.approx(plain.interval(0.9)[0])


def test_an_interval_is_as_wide_as_the_worst_back_test_asks_for() -> None:
    curve = loss(noisy(1 + 3 * np.exp(-2 * STEPS / 400), 0.01, 0))
    worse = replace(curve, values=np.append(curve.values[:-1], curve.values[-1] + 0.2))
    assert _stretch(worse, 800, 0) > 2 * _stretch(curve, 800, 0)
    assert _stretch(loss(curve.values[:14]), 280, 0) >= 1
    assert _stretch(loss(curve.values[:9]), 180, 0) == 1, "too few points to be tested on"


def test_what_cannot_be_is_not_forecast() -> None:
    falls = one(2.0 - 1.9 * STEPS / 400)
    assert falls.draws.min() >= 0
    assert falls.parameters["a"] >= 0
    assert np.median(one(1.0 - 1.9 * STEPS / 400).draws) < -1, "what was below zero may go on"
    rising = replace(loss(0.2 + 0.7 * STEPS / 400, down=False), most=1.0)
    found = predict([rising], 800, 100)[0]
    assert found.draws.max() <= 1
    assert found.parameters["a"] <= 1 + 1e-9


# --- properties ---------------------------------------------------------------------------------

SEEDS = st.integers(0, 1000)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(0.05, 0.5), st.floats(0.5, 0.98))
def test_a_higher_level_gives_a_wider_interval(seed: int, low: float, high: float) -> None:
    found = one(falling(20, seed))
    inner, outer = found.interval(low), found.interval(high)
    assert outer[1] <= inner[1] <= inner[0] <= inner[2] <= outer[2]
    assert outer[0] == inner[0]


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(-20, 20), st.integers(-3, 10))
def test_units_of_value_and_step_do_not_matter(seed: int, value_power: int, step_power: int) -> None:
    # Powers of two change no digit, so nothing may depend on rounding.
    values, steps = falling(16, seed), np.arange(1, 17) * 8.0
    v, s = 2.0**value_power, 2.0**step_power
    plain = predict([Curve("loss", steps, values, True)], 256, 100)[0]
    scaled = predict([Curve("loss", steps * s, values * v, True)], 256 * s, 100)[0]
    assert scaled.interval(0.9) == pytest.approx([v * x for x in plain.interval(0.9)], rel=1e-9)
    assert (scaled.course, scaled.family) == (plain.course, plain.family)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.booleans())
def test_a_joint_probability_is_coherent_with_its_parts(seed: int, a: float, b: float, same: bool) -> None:
    second = falling(12, seed if same else seed + 1, floor=0.6)
    curves = [loss(falling(12, seed)), Curve("val_loss", np.arange(1, 13) * 10.0, second, True)]
    found = predict(curves, 200, 100, seed)
    if any(each.course == "worsening" for each in found):
        return
    joint = probabilities([found[0].draws <= a, found[1].draws <= b])
    assert sum(joint.each) - 1 - 1e-9 <= joint.together <= min(joint.each)
    assert 0 < joint.together < 1


def test_curves_that_err_together_are_forecast_together() -> None:
    a, b = loss(falling(40, 3)), Curve("val_loss", STEPS, 2 * falling(40, 3), True)
    other = Curve("val_loss", STEPS, falling(40, 4), True)
    same, apart = (predict([a, second], 800, 500) for second in (b, other))
    assert np.corrcoef(same[0].draws, same[1].draws)[0, 1] > 0.99
    assert abs(np.corrcoef(apart[0].draws, apart[1].draws)[0, 1]) < 0.5


@pytest.mark.parametrize(("each", "together"), [((0.3, 0.6), 0.31), ((0.9, 0.8), 0.69), ((0.5,), 0.4)])
def test_a_joint_probability_that_contradicts_its_parts_is_an_error(each: tuple[float, ...], together: float) -> None:
    with pytest.raises(ArithmeticError, match="contradicts"):
        Joint(each, together)
    Joint(each, min(each))


def test_the_same_seed_gives_the_same_draws() -> None:
    assert (one(falling(20), seed=5).draws == one(falling(20), seed=5).draws).all()
    assert (one(falling(20), seed=5).draws != one(falling(20), seed=6).draws).any()


# --- coverage -----------------------------------------------------------------------------------


def _truth(name: str, generator: np.random.Generator) -> Truth:
    level = generator.uniform(0.2, 2)
    if name == "exponential":
        rate = generator.uniform(1, 10)
        return lambda x: level + 2 * np.exp(-rate * x)
    exponent, offset = generator.uniform(0.2, 1.5), generator.uniform(0.005, 0.2)
    return lambda x: level + (x + offset) ** -exponent


def coverage(name: str, early: bool, noise: float, correlation: float, curves: int) -> float:
    """Share of curves whose next measurement, at 1.3 to 2.5 times what is seen, lies in the 90 % interval.

    With `early` the beginning is misleading: it falls by another exponential, that dies away. `noise` is a share of
    what the curve without that falls by.
    """
    inside, judged = 0, 0
    for seed in range(9_000_000, 9_000_000 + curves):
        generator = np.random.default_rng(seed)
        truth, n, ahead = _truth(name, generator), int(generator.integers(24, 97)), generator.uniform(1.3, 2.5)
        x = np.append(np.arange(1, n + 1) / n, ahead)
        exact = truth(x)
        size = float(np.ptp(exact[:n]))
        height, length = size * generator.uniform(0.5, 4), generator.uniform(0.01, 0.06)
        values = exact + noisy(early * height * np.exp(-x / length), noise * size, seed + 1_000_000, correlation)
        values[n] = exact[n] + noise * size * generator.standard_normal()
        found = predict([Curve("loss", x[:n] * 1000, values[:n], True)], ahead * 1000, 200, seed)[0]
        if found.course != "worsening":
            _, low, high = found.interval(0.9)
            judged += 1
            inside += low <= values[n] <= high
    assert judged > 0.95 * curves
    return inside / judged


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("noise", [0.005, 0.03])
@pytest.mark.parametrize("early", [False, True], ids=["plain", "early"])
@pytest.mark.parametrize("name", ["exponential", "power"])
def test_the_interval_covers_what_is_measured_later(name: str, early: bool, noise: float, correlation: float) -> None:
    found = coverage(name, early, noise, correlation, 300)
    print(f"{name}, {early=}, noise {noise}, correlation {correlation}: {found:.3f}")
    assert 0.85 <= found <= 0.97
