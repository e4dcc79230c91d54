"""Points of intervention: that they act once, at their point, on their condition, and are recorded."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hrmctl_training.fit import observations
from hrmctl_training.interventions import Condition, Intervention, InterventionWatcher
from hrmctl_training.loop import Training
from hrmctl_training.params import TrainingParams

from hrmctl import Cancelled, InputError
from hrmctl.schema import decode_or_raise
from hrmctl.testing import RecordingContext, make_context
from hrmctl.yamlio import parse
from tests.plugins.training.helpers import equal, sequences, trained, weights


def params(*interventions: Intervention, **more: Any) -> TrainingParams:
    """12 steps of 8 of 24 examples: 3 steps an epoch, at a constant rate."""
    settings: dict[str, Any] = {
        "steps": 12,
        "batch": 8,
        "schedule": "constant",
        "warmup": 0.0,
        "checkpoint_interval": 4,
    }
    return TrainingParams(**settings | {"interventions": interventions} | more)


def points(training: Training) -> list[dict[str, Any]]:
    found = {each.name: each.payload for each in observations(training, {})}["interventions"]
    assert found["n"] == len(found["context"]["points"])
    assert found["value"] == sum(point["held"] for point in found["context"]["points"])
    return list(found["context"]["points"])


def rates(context: RecordingContext) -> list[float]:
    return [metrics["lr"] for _, _, metrics in context.rows]


def test_the_rate_is_scaled_from_the_step_after_the_point_on(tmp_path: Path) -> None:
    half = Intervention(at_step=5, lr_scale=0.5)
    training, context = trained(tmp_path, params(half, Intervention(at_epoch=3, lr_scale=0.1)))
    assert rates(context) == pytest.approx([1e-3] * 5 + [5e-4] * 4 + [5e-5] * 3)
    assert [(p["step"], p["did"]) for p in points(training)] == [(5, "learning rate × 0.5"), (9, "learning rate × 0.1")]
    assert training.progress.series["intervention_epoch"] == {"steps": [5, 9], "values": [pytest.approx(5 / 3), 3.0]}


def test_an_epoch_that_ends_within_a_step_is_reached_by_that_step(tmp_path: Path) -> None:
    training, _ = trained(tmp_path, params(Intervention(at_epoch=1.1, message="a little over one epoch")))
    assert points(training)[0]["step"] == 4
    assert points(training)[0]["epoch"] == pytest.approx(4 / 3)


def test_stopping_ends_the_training_there_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    stop = Intervention(at_step=6, stop=True, message="long enough")
    training, context = trained(tmp_path, params(stop, Intervention(at_step=7, message="never")))
    assert training.progress.step == len(context.rows) == 6
    assert "intervention at step 6: long enough" in str(training.progress.stopped)
    assert any("intervention at step 6, after step 6: stop, message: long enough" in r.message for r in caplog.records)
    later = points(training)[1]
    assert (later["held"], later["did"]) == (False, "nothing: the training ended before")


@pytest.mark.parametrize(("op", "acts"), [("gt", True), ("le", False)])
def test_the_condition_is_checked_on_the_last_known_value(tmp_path: Path, op: Any, acts: bool) -> None:
    when = Condition("val_loss", op, 1.0)
    given = params(Intervention(at_step=7, when=when, lr_scale=0.5), eval_interval=3)
    training, context = trained(tmp_path, given, sequences(5))
    value = next(metrics["val_loss"] for step, _, metrics in context.rows if step == 6)
    assert value > 1
    assert points(training) == [
        {
            "at": "step 7",
            "step": 7,
            "epoch": 7 / 3,
            "when": f"val_loss {op} 1",
            "held": acts,
            "value": value,
            "measured_at": 6,
            "did": "learning rate × 0.5" if acts else "nothing",
        }
    ]
    assert rates(context)[-1] == pytest.approx(5e-4 if acts else 1e-3)


@pytest.mark.parametrize("value", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("op", ["lt", "le", "eq", "ne", "ge", "gt"])
def test_each_comparison_is_what_its_name_says(op: Any, value: float) -> None:
    watcher = InterventionWatcher([Intervention(at_step=1, when=Condition("loss", op, 1.0), lr_scale=0.5)])
    advice = watcher.after_step(1, 0.1, {"loss": value}, RecordingContext(scratch=Path()))
    sign = {"lt": "<", "le": "<=", "eq": "==", "ne": "!=", "ge": ">=", "gt": ">"}[op]
    assert (advice.rate_scale == 0.5) == eval(f"{value} {sign} 1.0")


def test_a_metric_without_a_value_holds_nothing_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    when = Condition("val_loss", "lt", 1e9)
    training, _ = trained(
        tmp_path, params(Intervention(at_step=2, when=when, stop=True), eval_interval=6), sequences(4)
    )
    assert (points(training)[0]["held"], points(training)[0]["value"]) == (False, None)
    assert training.progress.step == 12
    assert any("val_loss lt 1e+09: it has no value yet" in record.message for record in caplog.records)


class _Interrupted(RecordingContext):
    at = 0

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == self.at:
            raise Cancelled


GIVEN = params(
    Intervention(at_step=6, when=Condition("loss", "gt", 0.1), lr_scale=0.5),
    Intervention(at_step=7, when=Condition("val_loss", "lt", 0.1), lr_scale=9),
    steps=9,
    eval_interval=3,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A training with two points that nothing interrupts."""
    return trained(tmp_path_factory.mktemp("whole"), GIVEN, sequences(5))[0]


def test_a_point_that_acts_changes_the_weights(tmp_path: Path, whole: Training) -> None:
    plain, _ = trained(tmp_path, replace(GIVEN, interventions=()), sequences(5))
    assert not equal(weights(whole), weights(plain))


@pytest.mark.parametrize("at", [pytest.param(4, marks=pytest.mark.slow), 6, 7, pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_interrupted_around_a_point_ends_with_the_same_weights_and_records(
    tmp_path: Path, whole: Training, at: int
) -> None:
    context = _Interrupted(scratch=make_context(tmp_path).scratch)
    context.at = at
    with pytest.raises(Cancelled):
        trained(tmp_path, GIVEN, sequences(5), context=context)
    resumed, _ = trained(tmp_path, GIVEN, sequences(5))
    assert equal(weights(whole), weights(resumed))
    assert points(whole) == points(resumed)


def read(text: str) -> TrainingParams:
    return decode_or_raise(parse(text, "recipe.yaml"), TrainingParams)


def test_a_recipe_writes_them_so() -> None:
    found = read(
        "eval_interval: 10\n"
        "interventions:\n"
        "  - {at_epoch: 15, when: {metric: val_loss, op: gt, value: 1.0}, lr_scale: 0.5}\n"
        "  - {at_step: 400, stop: true, message: enough}\n"
    )
    assert found.interventions == (
        Intervention(at_epoch=15, when=Condition("val_loss", "gt", 1.0), lr_scale=0.5),
        Intervention(at_step=400, stop=True, message="enough"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{lr_scale: 0.5}", "an intervention has one point; give either at_step or at_epoch"),
        ("{at_step: 3, at_epoch: 1, stop: true}", "an intervention has one point; give either at_step or at_epoch"),
        ("{at_step: 3}", "an intervention that does nothing; give lr_scale, stop or message"),
        ("{at_step: 3, stop: true, lr_scale: 0.5}", "give lr_scale or stop"),
        ("{at_step: 0, stop: true}", "must be at least 1"),
        ("{at_step: 3, lr_scale: 0}", "must be greater than 0"),
        ("{at_step: 3, stop: true, when: {metric: loss, op: above, value: 1}}", "is not a choice"),
        ("{at_step: 3, stop: true, when: {metric: loss, op: gt}}", "missing key 'value'"),
        ("{at_step: 3, stop: true, when: {metric: val_loss, op: gt, value: 1}}", "set eval_interval"),
        ("{at_step: 3, stop: true, when: {metric: sample_pass, op: lt, value: 1}}", "set sample_interval"),
        ("{at_stp: 3, stop: true}", "unknown key 'at_stp'; did you mean 'at_step'?"),
    ],
)
def test_a_bad_one_is_refused_with_its_place_and_remedy(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(f"interventions:\n  - {text}\n")
    assert said in str(caught.value)
    assert str(caught.value).startswith("recipe.yaml:")
