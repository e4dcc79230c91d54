"""`hrmctl forecast`: what it prints, and what it refuses."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest

from .helpers import RUN, Desk, falling

INTERVAL = {"type": "object", "properties": {k: {"type": "number"} for k in ("value", "low", "high")}}
NUMBERS = {"type": "object", "additionalProperties": {"type": "number"}}


def strict(**properties: object) -> dict[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer"}
CHANCE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
SCHEMA = strict(
    run=TEXT,
    stage=TEXT,
    step=COUNT,
    epoch={"type": ["number", "null"]},
    level=NUMBER,
    draws=COUNT,
    seed=COUNT,
    metrics={
        "type": "array",
        "items": strict(
            metric=TEXT,
            points=COUNT,
            fitted_points=COUNT,
            fitted_from=NUMBER,
            last_step=COUNT,
            last_value=NUMBER,
            course={"enum": ["improving", "flat", "worsening"]},
            family={"enum": ["constant", "exponential", "power"]},
            parameters=NUMBERS,
            held_out_errors=NUMBERS,
            noise=NUMBER,
            forecast={"anyOf": [INTERVAL, {"type": "null"}]},
        ),
    },
    targets={
        "type": "array",
        "items": strict(metric=TEXT, op={"enum": ["le", "ge"]}, value=NUMBER, probability=CHANCE),
    },
    joint_probability=CHANCE,
)


def test_a_loss_is_forecast_for_the_planned_end_of_the_run(desk: Desk) -> None:
    desk.write({"loss": falling(40)}, total=80)
    ran = desk.forecast()
    assert ran.code == 0
    assert f"run {RUN}, stage hrm: forecast for step 80" in ran.err
    name, value, low, high, at = ran.out.replace("[", "").replace("]", "").replace(",", "").split(maxsplit=4)
    assert (name, at) == ("loss:", "at 90 %\n")
    assert float(low) < 0.5 < float(high)
    assert float(value) == pytest.approx(0.5, abs=0.03)


def test_a_finished_run_is_asked_about_twice_its_length(desk: Desk) -> None:
    desk.write({"loss": falling(40)})
    assert desk.forecast("--json").result["step"] == 80


def test_the_json_has_the_documented_form_and_the_draws_asked_for(desk: Desk) -> None:
    desk.write({"loss": falling(40), "val_accuracy": 1 - falling(40) / 4}, total=100, epoch=10)
    ran = desk.forecast("--json", "--target", "loss=0.52", "--target", "val_accuracy>=0.8", "--draws", 300, "--seed", 4)
    assert ran.code == 0
    found = ran.result
    jsonschema.validate(found, SCHEMA)
    assert (found["run"], found["stage"], found["draws"], found["seed"]) == (RUN, "hrm", 300, 4)
    assert found["epoch"] == 10
    assert [(t["metric"], t["op"], t["value"]) for t in found["targets"]] == [
        ("loss", "le", 0.52),
        ("val_accuracy", "ge", 0.8),
    ]
    chances = [t["probability"] for t in found["targets"]]
    assert 0.5 < chances[0] < 1
    assert found["joint_probability"] <= min(chances)


def test_a_bare_target_is_of_the_metric_and_its_direction_follows_what_is_better(desk: Desk) -> None:
    desk.write({"loss": falling(40), "accuracy": 1 - falling(40) / 4}, total=80)
    assert desk.forecast("--json", "--target", 0.7).result["targets"][0]["op"] == "le"
    upward = desk.forecast("--json", "--metric", "accuracy", "--target", 0.7).result
    assert (upward["targets"][0]["metric"], upward["targets"][0]["op"]) == ("accuracy", "ge")
    assert upward["targets"][0]["probability"] > 0.9
    assert desk.forecast("--json", "--target", "accuracy=0.7", "--better", "lower").result["targets"][0]["op"] == "le"


def test_probabilities_are_printed_each_and_together(desk: Desk) -> None:
    desk.write({"loss": falling(40), "val_loss": falling(40, seed=1, floor=0.6)}, total=80)
    lines = desk.forecast("--target", "loss=0.2", "--target", "val_loss=0.9").out.splitlines()
    assert lines[-3:] == ["P(loss <= 0.2): 0.0005", "P(val_loss <= 0.9): 0.9995", "P(all of them): 0.0005"]


def test_an_epoch_is_a_step_where_the_run_says_how_long_one_is(desk: Desk) -> None:
    desk.write({"loss": falling(40)}, epoch=8)
    assert desk.forecast("--json", "--to-epoch", 7.5).result["step"] == 60
    assert "(epoch 7.5)" in desk.forecast("--to-epoch", 7.5).err


def test_under_eight_points_one_line_and_exit_code_three(desk: Desk) -> None:
    desk.write({"loss": falling(40), "val_loss": [*[None] * 39, 0.5]})
    ran = desk.forecast("--metric", "val_loss")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == f"hrmctl: val_loss of stage hrm in run {RUN} has 1 point; a forecast needs 8\n"


def test_a_curve_that_gets_worse_gives_no_figure_and_exit_code_three(desk: Desk) -> None:
    rising = [*falling(40), *(0.5 + 0.02 * np.arange(40))]
    desk.write({"loss": rising, "other_loss": falling(80)})
    ran = desk.forecast("--target", "loss=0.4", "--target", "other_loss=0.4")
    assert ran.code == 3
    assert "loss: getting worse over the last third of its points; no improvement is forecast" in ran.out
    assert "P(loss <= 0.4): no forecast\nP(other_loss <= 0.4): no forecast\nP(all of them): no forecast" in ran.out
    result = json.loads(desk.forecast("--json").out)
    jsonschema.validate(result, SCHEMA)
    assert result["metrics"][0]["forecast"] is None


def test_a_flat_curve_is_said_to_be_flat(desk: Desk) -> None:
    desk.write({"loss": falling(40, floor=0.5)[-1] + 0.01 * np.random.default_rng(3).standard_normal(40)})
    ran = desk.forecast()
    assert ran.code == 0
    assert "loss: flat; what is still to come is less than the noise" in ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--metric", "los"), "no stage of run {run} has los; metrics by stage: hrm: loss; gpt2: loss, val_loss"),
        ((), "2 stages of run {run} have loss; choose one with --stage: hrm, gpt2"),
        (("--stage", "bert"), "run {run} has no stage 'bert' with metrics; it has hrm, gpt2"),
        (("--stage", "hrm", "--metric", "val_loss"), "stage hrm has no metric 'val_loss'; it has loss"),
        (("--stage", "hrm", "--to", "40"), "step 40 has been measured: stage hrm is at step 40; ask for a later one"),
        (("--stage", "hrm", "--to-epoch", "3"), "stage hrm does not report its epochs; give --to STEP"),
        (("--to", "99", "--to-epoch", "3"), "--to and --to-epoch both say when; give one"),
        (("--target", "loss=low"), "--target loss=low: not METRIC=VALUE, METRIC<=VALUE, METRIC>=VALUE or a value"),
        (("--target", "loss==1"), "--target loss==1: not METRIC=VALUE"),
        (("--target", "nan"), "--target nan: not METRIC=VALUE"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(desk: Desk, options: tuple[str, ...], said: str) -> None:
    desk.write({"loss": falling(40)})
    desk.write({"loss": falling(40), "val_loss": falling(40)}, stage="gpt2")
    ran = desk.forecast(*options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"hrmctl: {said.format(run=RUN)}")
    assert ran.err.count("\n") == 1


def test_a_run_that_is_not_there_is_named(desk: Desk) -> None:
    desk.write({"loss": falling(40)})
    ran = desk.forecast("missing")
    assert ran.code == 2
    assert "no run 'missing'" in ran.err
