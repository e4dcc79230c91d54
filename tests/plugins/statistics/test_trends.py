"""Slopes with intervals, progress and plateaus, against numpy, scipy, simulation and the training's own watcher."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hrmctl_statistics.params import ClusteredSlopeParams, PlateauParams, ProgressParams, SlopeParams
from hrmctl_statistics.trends import clustered_slope, plateau, progress_to_target, slope, trend
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from hrmctl import Evidence, MeasureError, Undecidable

from .evidence import curve


def epochs(values: list[float], each: float = 0.25) -> Evidence:
    """A loss with its epochs: `each` of an epoch a point."""
    steps = list(range(1, len(values) + 1))
    series = {
        "loss": {"steps": steps, "values": values},
        "epoch": {"steps": steps, "values": [s * each for s in steps]},
    }
    return Evidence("training", "series/v1", {"series": series})


def noise(rng: np.random.Generator, count: int, n: int, correlation: float) -> np.ndarray:
    return lfilter([1], [1, -correlation], rng.normal(size=(count, n + 300)), axis=1)[:, 300:]


@given(st.lists(st.floats(-100, 100), min_size=12, max_size=60), st.integers(1, 30), st.sampled_from([0.9, 0.95]))
@settings(deadline=None, max_examples=60)
def test_where_neighbours_do_not_correlate_the_interval_is_that_of_ordinary_least_squares(values, stride, level):
    steps = [i * stride for i in range(1, len(values) + 1)]
    try:
        found = slope([curve(values, steps)], SlopeParams(level=level))
    except Undecidable:
        return
    line = scipy.stats.linregress(steps, values)
    assert found["value"] == pytest.approx(line.slope, rel=1e-6, abs=1e-9)
    assert found["lo"] <= found["value"] <= found["hi"]
    ordinary = line.stderr * math.sqrt((len(values) - 2) / (found["effective"] - 2))
    assert found["se"] == pytest.approx(ordinary, rel=1e-4, abs=1e-9)
    if found["correlation"] == 0:
        half = line.stderr * scipy.stats.t.ppf(0.5 + level / 2, len(values) - 2)
        assert found["hi"] - found["value"] == pytest.approx(half, rel=1e-4, abs=1e-9)
        assert found["p"] == pytest.approx(line.pvalue, abs=1e-6)
    else:
        assert found["effective"] < len(values)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.8])
def test_the_interval_covers_the_true_slope_under_correlated_noise(correlation):
    rng = np.random.default_rng(3)
    covered = naive = 0
    found_correlations = []
    for row in noise(rng, 400, 200, correlation):
        values = [0.02 * i + v for i, v in enumerate(row)]
        found = slope([curve(values)], SlopeParams())
        covered += found["lo"] <= 0.02 <= found["hi"]
        found_correlations.append(found["correlation"])
        line = scipy.stats.linregress(range(200), values)
        naive += abs(line.slope - 0.02) <= 1.96 * line.stderr
    # 400 trials at 95 %: 99.9 % of the time between 364 and 394.
    assert 364 <= covered <= 396
    assert correlation < 0.5 or naive < 320
    # The bias of an uncorrected estimate is 0.022 and 0.026 here.
    assert correlation < 0.5 or np.mean(found_correlations) == pytest.approx(correlation, abs=0.012)


def test_noise_that_hides_its_own_size_is_undecidable():
    wave = [math.sin(i / 20) for i in range(60)]
    with pytest.raises(Undecidable, match=r"are worth .* independent ones"):
        slope([curve(wave)], SlopeParams())
    with pytest.raises(Undecidable, match="one straight line"):
        slope([curve([3.0 - i for i in range(30)])], SlopeParams())


def test_the_beginning_can_be_left_out_and_gaps_are_counted():
    rng = np.random.default_rng(1)
    values = [6.0, 5.0, 4.0, 3.0, 2.0] + [float(v) for v in rng.normal(size=45)]
    for skip, count in ((0.0, 50), (0.1, 45), (0.5, 25)):
        found = slope([curve(values)], SlopeParams(skip=skip))
        assert found["n"] == count
        assert found["value"] == pytest.approx(np.polyfit(range(count), values[-count:], 1)[0])
    values[20] = None
    found = slope([curve(values)], SlopeParams(skip=0.1))
    assert (found["n"], found["nonfinite"]) == (44, 1)
    with pytest.raises(MeasureError, match="2 finite points"):
        slope([curve([1.0, 2.0])], SlopeParams())


# --- seeds -------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
@settings(deadline=None)
def test_the_interval_over_seeds_is_students(slopes):
    if np.std(slopes) < 1e-6:
        return
    seeds = tuple(curve([s * i for i in range(20)]) for s in slopes)
    found = clustered_slope([seeds], ClusteredSlopeParams(window=1))
    test = scipy.stats.ttest_1samp(slopes, 0)
    interval = test.confidence_interval(0.95)
    assert found["value"] == pytest.approx(np.mean(slopes), abs=1e-9)
    assert (found["lo"], found["hi"]) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)
    assert found["p"] == pytest.approx(test.pvalue, abs=1e-6)
    assert found["max"] == pytest.approx(max(slopes), abs=1e-9)
    assert found["last"] == pytest.approx(max(19 * s for s in slopes), abs=1e-9)
    assert (found["seeds"], found["n"]) == (len(slopes), 20)


def test_seeds_that_cannot_be_compared_are_refused():
    one = curve([3.0 - i for i in range(20)])
    with pytest.raises(MeasureError, match="1 seed"):
        clustered_slope([(one,)], ClusteredSlopeParams())
    with pytest.raises(MeasureError, match="20 finite points in a seed; its window is 21"):
        clustered_slope([(one, one)], ClusteredSlopeParams(window=21))
    with pytest.raises(Undecidable, match="all 2 seeds have the slope -1"):
        clustered_slope([(one, curve([9.0 - i for i in range(20)]))], ClusteredSlopeParams())


# --- progress ----------------------------------------------------------------------------------------


def test_progress_is_the_share_of_the_way():
    loss = epochs([4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5])
    assert progress_to_target([loss], ProgressParams(target=1.0))["value"] == pytest.approx(3.5 / 3)
    halfway = progress_to_target([loss], ProgressParams(target=1.0, at=1.0))
    assert halfway == {"value": 0.5, "first": 4.0, "now": 2.5, "target": 1.0, "at": 1.0, "n": 4, "nonfinite": 0}
    smooth = progress_to_target([loss], ProgressParams(target=1.0, at=4, unit="steps", window=2))
    assert smooth["value"] == pytest.approx((3.75 - 2.75) / (3.75 - 1.0))
    rising = epochs([1.0, 2.0, 3.0, 5.0])
    assert progress_to_target([rising], ProgressParams(target=0.0))["value"] == -4.0
    assert progress_to_target([rising], ProgressParams(target=9.0))["value"] == 0.5


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (ProgressParams(target=4.0), "starts at its target"),
        (ProgressParams(target=1.0, at=2.5), "ends at 2 epochs, before 2.5"),
        (ProgressParams(target=1.0, at=0.5, window=2), "2 points up to 0.5"),
        (ProgressParams(target=1.0, metric="val_loss"), "no curve 'val_loss'"),
    ],
)
def test_progress_that_cannot_be_known_is_refused(params, message):
    with pytest.raises(MeasureError, match=message):
        progress_to_target([epochs([4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5])], params)


def test_epochs_must_be_recorded():
    with pytest.raises(MeasureError, match="no curve 'epoch'"):
        progress_to_target([curve([4.0, 3.0])], ProgressParams(target=1.0))
    loss = epochs([4.0, 3.0, 2.0])
    loss.payload["series"]["epoch"] = {"steps": [1, 2], "values": [0.25, 0.5]}
    with pytest.raises(MeasureError, match="no epoch is recorded for step 3"):
        progress_to_target([loss], ProgressParams(target=1.0))


# --- plateaus ----------------------------------------------------------------------------------------


def test_a_loss_that_falls_has_no_plateau_and_one_that_stands_has():
    falling = plateau([epochs([0.95**i for i in range(80)])], PlateauParams())
    assert (falling["value"], falling["longest"], falling["n"]) == (0, 0.0, 11)
    # Within a window the loss is multiplied by 0.95^20.
    assert falling["least"] == pytest.approx(1 - 0.95**20)
    flat = plateau([epochs([0.9**i if i < 48 else 0.9**48 for i in range(80)])], PlateauParams())
    # It stands from epoch 12 on; the first window that lies in it wholly ends with the fifth that ends at 18.
    assert (flat["value"], flat["least"]) == (3, pytest.approx(0.0))
    assert (flat["at"], flat["longest"], flat["share"]) == (18.0, 7.0, pytest.approx(3 / 11))
    rising = plateau([epochs([float(i + 1) for i in range(80)])], PlateauParams())
    assert rising["least"] < 0
    assert rising["longest"] == pytest.approx(15.0)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40), st.floats(0.05, 0.5))
@settings(deadline=None, max_examples=60)
def test_plateaus_are_what_brute_force_finds(levels, threshold):
    """Four points an epoch; one level for each epoch, which is a fifth of a window."""
    values = [level for level in levels for _ in range(4)]
    falls = {e: 1 - levels[e - 1] / levels[e - 6] for e in range(10, len(levels) + 1)}
    if not falls:
        with pytest.raises(MeasureError, match="no window of 5 ends after 10"):
            plateau([epochs(values)], PlateauParams(threshold=threshold))
        return
    found = plateau([epochs(values)], PlateauParams(threshold=threshold))
    assert found["n"] == len(falls)
    assert found["value"] == sum(fall < threshold for fall in falls.values())
    assert found["least"] == pytest.approx(min(falls.values()))
    covered = {e - back for e, fall in falls.items() if fall < threshold for back in range(5)}
    longest = run = 0
    for epoch in range(1, len(levels) + 1):
        run = run + 1 if epoch in covered else 0
        longest = max(longest, run)
    assert found["longest"] == pytest.approx(longest)


def test_a_loss_that_is_not_positive_has_no_share_to_lose():
    with pytest.raises(MeasureError, match="no share to lose"):
        plateau([epochs([0.0] * 80)], PlateauParams())


def test_the_watcher_of_the_training_sees_the_same_plateau():
    from hrmctl_training.plateau import Plateau, PlateauWatcher

    rng = np.random.default_rng(8)
    values = [float(v) for v in np.exp(-np.arange(120) / 30) + 0.2 + 0.02 * rng.random(120)]
    watcher, warned = PlateauWatcher(Plateau()), []

    class Log:
        class log:
            @staticmethod
            def warning(*_: object) -> None:
                pass

    for i, value in enumerate(values):
        advice = watcher.after_step(i + 1, (i + 1) * 0.25, {"loss": value}, Log())  # type: ignore[arg-type]
        warned += [advice.metrics["plateau"]] if advice.metrics else []
    found = plateau([epochs(values)], PlateauParams())
    assert 0 < found["value"] < found["n"]
    assert (found["value"], found["n"]) == (sum(warned), len(warned))


def test_trend_of_few_points_is_exact():
    steps, values = list(range(1, 41)), [float(v) for v in np.random.default_rng(2).normal(size=40)]
    found = trend(steps, values)
    assert found.slope == pytest.approx(np.polyfit(steps, values, 1)[0])
    assert found.df == found.effective - 2


# --- a training that stopped being finite ------------------------------------------------------------------

MEASURES = [
    (slope, SlopeParams(), False),
    (clustered_slope, ClusteredSlopeParams(window=2), True),
    (progress_to_target, ProgressParams(target=0.3, at=4, window=2), False),
    (plateau, PlateauParams(after=5), False),
]


def falling(n: int = 80) -> list[float | None]:
    return [float(v) for v in 6 - np.arange(n) / 20 + np.random.default_rng(1).normal(0, 0.1, n)]


@pytest.mark.parametrize(("measure", "params", "seeds"), MEASURES)
def test_a_curve_that_ends_in_nulls_is_refused(measure, params, seeds):
    dead, other = epochs([*falling(), None, None, None, None]), epochs([v + 0.01 * v for v in falling()])
    with pytest.raises(MeasureError, match=r"loss was not finite at step 8[34]"):
        measure([[other, dead]] if seeds else [dead], params)


@pytest.mark.parametrize(("measure", "params", "seeds"), MEASURES)
def test_nulls_before_the_end_are_counted(measure, params, seeds):
    values = falling()
    values[40] = values[41] = None
    holed, whole = epochs(values), epochs([v + 0.01 * v for v in falling()])
    assert measure([[whole, holed]] if seeds else [holed], params)["nonfinite"] == 2
    assert measure([[whole, epochs(falling())]] if seeds else [whole], params)["nonfinite"] == 0


@pytest.mark.parametrize(
    ("measure", "params", "at"),
    [
        (clustered_slope, ClusteredSlopeParams(window=5), 76),
        (progress_to_target, ProgressParams(target=0.3, at=4, window=3), 14),
        (progress_to_target, ProgressParams(target=0.3, at=4, window=3), 1),
        (progress_to_target, ProgressParams(target=0.3, window=3), 78),
    ],
)
def test_a_null_within_a_window_is_refused(measure, params, at):
    values = falling()
    values[at] = None
    dead = epochs(values)
    with pytest.raises(MeasureError, match=r"not finite (within|at step)"):
        measure([[epochs(falling()), dead]] if measure is clustered_slope else [dead], params)
