"""The measure `forecast_at`: the forecast of the command, refusals, and a joint probability that is coherent."""

from __future__ import annotations

import numpy as np
import pytest
from hrmctl_statistics.forecasts import forecast_at
from hrmctl_statistics.params import CurveTarget, ForecastParams
from hrmctl_statistics.predict import Curve, predict
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import Evidence, MeasureError, Undecidable

STEPS = list(range(10, 410, 10))


def training(**curves: list[float | None]) -> Evidence:
    series = {name: {"steps": STEPS[: len(values)], "values": values} for name, values in curves.items()}
    return Evidence("training", "series/v1", {"series": series})


def falling(seed: int = 0, floor: float = 0.3, to: float = 1.0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(v) for v in floor + to * np.exp(-np.arange(40) / 12) + 0.02 * rng.normal(size=40)]


def test_it_is_the_forecast_of_the_command():
    values = falling()
    found = forecast_at([training(loss=values)], ForecastParams(to=600, unit="steps", seed=3))
    curve = Curve("loss", np.array(STEPS, dtype=float), np.array(values), down=True)
    middle, low, high = predict([curve], 600, 1000, 3)[0].interval(0.9)
    assert (found["value"], found["lo"], found["hi"]) == (middle, low, high)
    assert found["lo"] < 0.3 < found["hi"]
    assert (found["step"], found["n"], found["last"], found["targets"]) == (600, 40, values[-1], 0)
    assert "joint" not in found


def test_an_epoch_is_as_many_steps_as_it_took():
    evidence = training(loss=falling(), epoch=[step / 50 for step in STEPS])
    found = forecast_at([evidence], ForecastParams(to=12))
    assert found["step"] == pytest.approx(600)


@given(st.lists(st.floats(0.2, 0.5), min_size=1, max_size=4), st.integers(0, 5))
@settings(deadline=None, max_examples=10)
def test_the_joint_probability_is_coherent(values, seed):
    names = ["loss", "val_loss", "loss", "val_loss"]
    targets = tuple(CurveTarget(name, value) for name, value in zip(names, values, strict=False))
    evidence = training(loss=falling(1), val_loss=falling(2, 0.35))
    found = forecast_at([evidence], ForecastParams(to=600, unit="steps", targets=targets, draws=100, seed=seed))
    each = [float(p) for p in found["each"].split()]
    assert len(each) == found["targets"] == len(values)
    assert found["least"] == pytest.approx(min(each), abs=1e-4)
    assert max(0.0, sum(each) - len(each) + 1) - 1e-3 <= found["joint"] <= found["least"]
    if len(values) == 1:
        assert found["joint"] == found["least"]


def test_what_is_better_follows_the_metric_or_is_said():
    evidence = training(loss=falling(), accuracy=[1 - v / 2 for v in falling(5)])

    def chance(metric: str, value: float, op: str = "auto") -> float:
        target = CurveTarget(metric, value, op)  # type: ignore[arg-type]
        return forecast_at([evidence], ForecastParams(to=600, unit="steps", targets=(target,), draws=200))["joint"]

    assert chance("loss", 0.6) > 0.9 > 0.1 > chance("loss", 0.0)
    assert chance("accuracy", 0.6) > 0.9 > 0.1 > chance("accuracy", 1.0)
    assert chance("loss", 0.6, "ge") < 0.1


@pytest.mark.parametrize(
    ("evidence", "params", "message"),
    [
        (training(loss=falling()[:7]), ForecastParams(to=600, unit="steps"), "7 points; a forecast needs 8"),
        (training(loss=[*falling()[:6], None, 0.9]), ForecastParams(to=600, unit="steps"), "7 points"),
        (training(loss=falling()), ForecastParams(to=400, unit="steps"), "measured up to step 400"),
        (training(loss=falling()), ForecastParams(to=12), "no curve 'epoch'"),
        (training(val_loss=falling()), ForecastParams(to=12), "no curve 'loss'"),
    ],
)
def test_what_cannot_be_forecast_is_refused(evidence, params, message):
    with pytest.raises(MeasureError, match=message):
        forecast_at([evidence], params)


def test_a_curve_that_gets_worse_is_undecidable():
    with pytest.raises(Undecidable, match="getting worse"):
        forecast_at([training(loss=[*falling()[:20], *[1 + 0.1 * i for i in range(20)]])], ForecastParams(600, "steps"))


@pytest.mark.parametrize("broken", ["loss", "val_loss"])
def test_a_curve_that_ends_in_nulls_has_no_forecast(broken):
    curves: dict[str, list[float | None]] = {"loss": [*falling(1)[:36]], "val_loss": [*falling(2)[:36]]}
    curves[broken] += [None] * 4
    asked = ForecastParams(to=600, unit="steps", targets=(CurveTarget("val_loss", 0.5),))
    with pytest.raises(MeasureError, match=f"{broken} was not finite at step 400"):
        forecast_at([training(**curves)], asked)


def test_nulls_of_every_curve_asked_about_are_counted():
    loss, val_loss, other = (list[float | None](falling(seed)) for seed in (1, 2, 3))
    loss[20] = val_loss[10] = val_loss[11] = other[5] = None
    evidence = training(loss=loss, val_loss=val_loss, other_loss=other)
    asked = ForecastParams(to=600, unit="steps", targets=(CurveTarget("val_loss", 0.5), CurveTarget("loss", 0.5)))
    assert forecast_at([evidence], asked)["nonfinite"] == 3
    assert forecast_at([training(loss=falling())], ForecastParams(to=600, unit="steps"))["nonfinite"] == 0
