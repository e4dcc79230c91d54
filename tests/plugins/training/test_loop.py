"""The loop: what it averages, when it stops, what it survives."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_training.average import WeightAverage
from hrmctl_training.causal import CausalObjective
from hrmctl_training.checkpoint import Checkpoints
from hrmctl_training.examples import Batch
from hrmctl_training.fit import observations
from hrmctl_training.objective import Loss
from hrmctl_training.params import TrainingParams
from hrmctl_training.plateau import Plateau
from hrmctl_training.watch import Advice, Watcher

from hrmctl import Cancelled, Context, InputError, StageError
from hrmctl.errors import StoreError
from hrmctl.testing import RecordingContext, make_context
from tests.plugins.training.helpers import equal, sequences, tiny, trained, weights

PARAMS = TrainingParams(steps=12, batch=4, lr=3e-3, checkpoint_interval=4)


class _Stopping(RecordingContext):
    at = 0

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == self.at:
            raise Cancelled


def values(context: RecordingContext, name: str) -> list[float]:
    return [metrics[name] for _, _, metrics in context.rows if name in metrics]


# --- the average of the weights -----------------------------------------------------------------


def test_the_average_is_the_published_recurrence() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, 0.9)
    expected = 1.0
    for step in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(step)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert average.average["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_the_average_is_what_is_validated_and_saved_and_training_is_not_touched(tmp_path: Path) -> None:
    params = replace(PARAMS, eval_interval=3)
    plain, one = trained(tmp_path / "plain", params, sequences(5))
    averaged, two = trained(tmp_path / "averaged", replace(params, ema=0.5), sequences(5))
    assert values(one, "loss") == values(two, "loss"), "the weights that are trained are not the average"
    assert values(one, "val_loss") != values(two, "val_loss")
    assert not equal(weights(plain), weights(averaged))
    assert averaged.validate()["val_loss"] == values(two, "val_loss")[-1]


def test_within_applied_the_model_holds_the_average_and_afterwards_its_own() -> None:
    model = tiny()
    average = WeightAverage(model, 0.9)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    with average.applied():
        assert equal(before, {name: p.detach() for name, p in model.named_parameters()})
    assert all(torch.equal(p, before[name] + 1) for name, p in model.named_parameters())


# --- stopping early -----------------------------------------------------------------------------


def test_training_stops_after_so_many_worse_validations_with_the_best_weights(tmp_path: Path) -> None:
    # Backwards is what the training unlearns: the validation loss has a lowest point.
    params = replace(PARAMS, steps=200, eval_interval=2, early_stopping=3, batch=8)
    training, context = trained(tmp_path, params, sequences(8, step=12))
    losses = values(context, "val_loss")
    best = losses.index(min(losses))
    assert training.progress.step < 200
    assert len(losses) == best + 1 + 3
    assert training.progress.best_step == 2 * (best + 1)
    assert f"no better validation loss than {min(losses):.6g}" in str(training.progress.stopped)
    assert training.validate()["val_loss"] == pytest.approx(min(losses), abs=1e-6)
    again, second = trained(tmp_path, params, sequences(8, step=12))
    assert second.rows == []
    assert equal(weights(training), weights(again))


def test_a_smaller_gain_than_delta_does_not_count(tmp_path: Path) -> None:
    params = replace(PARAMS, steps=40, eval_interval=1, early_stopping=2, early_stopping_delta=100.0)
    training, _ = trained(tmp_path, params, sequences(4))
    assert training.progress.step == 3


def test_early_stopping_needs_validations() -> None:
    with pytest.raises(ValueError, match="set eval_interval"):
        TrainingParams(early_stopping=2)


def test_what_is_reported_last_is_of_the_weights_that_are_saved(tmp_path: Path) -> None:
    params = replace(PARAMS, steps=200, eval_interval=2, early_stopping=3, batch=8)
    training, context = trained(tmp_path, params, sequences(8, step=12))
    found = {o.name: o.payload for o in observations(training, {})}
    assert found["final_val_loss"]["value"] == pytest.approx(min(values(context, "val_loss")), abs=1e-6)
    assert found["final_val_loss"]["value"] < values(context, "val_loss")[-1] - 0.01
    assert found["final_val_loss"]["context"] == {
        "step": training.progress.best_step,
        "stopped": training.progress.stopped,
    }
    stopped, context = trained(tmp_path / "b", replace(PARAMS, eval_interval=4), sequences(5), [_Advisor()])
    found = {o.name: o.payload for o in observations(stopped, {})}
    assert [done for done, _, metrics in context.rows if "val_loss" in metrics] == [4, 8]
    assert found["final_val_loss"]["context"] == {"step": 9, "stopped": "enough"}
    assert found["final_val_loss"]["value"] == stopped.validate()["val_loss"] != values(context, "val_loss")[-1]
    again, second = trained(tmp_path / "b", replace(PARAMS, eval_interval=4), sequences(5), [_Advisor()])
    assert second.rows == []
    assert again.final == stopped.final


def test_best_weights_of_another_trajectory_are_refused(tmp_path: Path) -> None:
    params = replace(PARAMS, steps=200, eval_interval=2, early_stopping=3, batch=8)
    trained(tmp_path, params, sequences(8, step=12))
    best = make_context(tmp_path).scratch / "best.pt"
    state = torch.load(best, weights_only=True)
    torch.save(state | {"step": 199}, best)
    with pytest.raises(StageError, match=r"best.pt is of step 199"):
        trained(tmp_path, params, sequences(8, step=12))


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"eval_interval": 2, "early_stopping": 2}, "early_stopping"),
        ({"eval_interval": 2}, "eval_interval"),
        ({"plateau": Plateau(metric="val_loss")}, "val_loss"),
    ],
)
def test_what_waits_for_a_validation_needs_rows_for_it(tmp_path: Path, options: dict[str, Any], asked: str) -> None:
    with pytest.raises(InputError, match=f"{asked} needs validation rows"):
        trained(tmp_path, replace(PARAMS, **options))


# --- precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_and_keeps_its_weights_in_full(tmp_path: Path, precision: Any) -> None:
    training, context = trained(tmp_path, replace(PARAMS, precision=precision, steps=30))
    losses = values(context, "loss")
    assert losses[-1] < losses[0] / 2
    assert {p.dtype for p in training.model.parameters()} == {torch.float32}
    full, _ = trained(tmp_path / "full", replace(PARAMS, steps=30))
    assert not equal(weights(training), weights(full))


class _Huge(CausalObjective):
    """A loss so great that its scaled gradient overflows fp16's first scale, and is finite without it."""

    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).total * 1e4)


def test_an_fp16_scale_that_is_too_great_is_lowered_and_is_not_counted_as_nonfinite(tmp_path: Path) -> None:
    params = replace(PARAMS, precision="fp16", steps=40, on_nonfinite="stop")
    training, context = trained(tmp_path, params, objective=_Huge)
    assert training.scaler is not None
    assert training.progress.overflows > 0
    assert training.scaler.get_scale() < 2.0**16
    assert training.progress.nonfinite == 0
    found = {o.name: o.payload["value"] for o in observations(training, {}) if "value" in o.payload}
    assert found["overflows"] == training.progress.overflows
    assert found["updates"] == 40 - training.progress.overflows
    assert len(values(context, "loss")) == 40 - training.progress.overflows
    assert all(math.isfinite(norm) for norm in values(context, "grad_norm"))


def test_a_resumed_run_goes_on_with_the_lowered_scale(tmp_path: Path) -> None:
    params = replace(PARAMS, precision="fp16", steps=20)
    whole, _ = trained(tmp_path / "whole", params, objective=_Huge)
    context = _Stopping(make_context(tmp_path / "cut").scratch)
    context.at = 14
    with pytest.raises(Cancelled):
        trained(tmp_path / "cut", params, context=context, objective=_Huge)
    cut, _ = trained(tmp_path / "cut", params, objective=_Huge)
    assert cut.progress.overflows == whole.progress.overflows > 0
    assert equal(weights(whole), weights(cut))


# --- watchers -----------------------------------------------------------------------------------


class _Advisor(Watcher):
    """Halves the rate at step 3, stops at step 9, and draws random numbers that nobody may notice."""

    def __init__(self) -> None:
        self.seen = 0

    def after_step(self, step: int, epoch: float, metrics: Mapping[str, float], ctx: Context) -> Advice:
        torch.rand(5)
        self.seen += 1
        stop = "enough" if step == 9 else None
        return Advice({"seen": self.seen, "epoch": epoch}, 0.5 if step == 3 else 1.0, stop)

    def state(self) -> Mapping[str, Any]:
        return {"seen": self.seen}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]


def test_a_watcher_adds_metrics_changes_the_rate_and_stops(tmp_path: Path) -> None:
    params = replace(PARAMS, schedule="constant", warmup=0.0, steps=12)
    training, context = trained(tmp_path, params, watchers=[_Advisor()])
    assert values(context, "lr") == pytest.approx([3e-3] * 3 + [1.5e-3] * 6)
    assert values(context, "seen") == list(range(1, 10))
    assert values(context, "epoch") == pytest.approx([k / 6 for k in range(1, 10)])
    assert training.progress.stopped == "enough"
    assert training.progress.series["seen"]["values"] == list(range(1, 10))


# --- interruption -------------------------------------------------------------------------------


FULL = TrainingParams(
    steps=12,
    batch=4,
    accumulation=2,
    lr=3e-3,
    precision="fp16",
    ema=0.8,
    eval_interval=2,
    early_stopping=5,
    checkpoint_interval=3,
    checkpoint_limit=2,
)


def test_stopped_at_random_steps_every_option_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, one = trained(tmp_path / "whole", FULL, sequences(5), [_Advisor()])
    moments = sorted(random.Random(time.time_ns()).sample(range(1, 9), 4))
    rows = []
    for moment in moments:
        context = _Stopping(make_context(tmp_path / "cut").scratch)
        context.at = moment
        with pytest.raises(Cancelled):
            trained(tmp_path / "cut", FULL, sequences(5), [_Advisor()], context)
        rows += context.rows
    cut, last = trained(tmp_path / "cut", FULL, sequences(5), [_Advisor()])
    assert equal(weights(whole), weights(cut)), f"stopped at {moments}"
    untimed = [
        [(done, {k: v for k, v in metrics.items() if k != "tokens_per_second"}) for done, _, metrics in part]
        for part in (one.rows, rows + last.rows)
    ]
    assert untimed[0] == untimed[1], f"stopped at {moments}"


def test_other_versions_than_the_checkpoints_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path, PARAMS)
    path = make_context(tmp_path).scratch / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["made_with"]["torch"] = "1.0"
    torch.save(state, path)
    with caplog.at_level(logging.WARNING):
        trained(tmp_path, PARAMS)
    assert "made with {'torch': '1.0'" in caplog.text


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    params = replace(PARAMS, checkpoint_limit=3, checkpoint_interval=2, steps=8)
    whole, context = trained(tmp_path, params)
    files = sorted(path.name for path in context.scratch.glob("checkpoint.pt*"))
    assert files == ["checkpoint.pt", "checkpoint.pt.1", "checkpoint.pt.2"]
    newest = context.scratch / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:-500])
    with caplog.at_level(logging.INFO):
        again, second = trained(tmp_path, params)
    assert "checkpoint.pt is damaged" in caplog.text
    assert "continuing after step 6" in caplog.text
    assert [done for done, _, _ in second.rows] == [7, 8]
    assert equal(weights(whole), weights(again))


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
def test_on_a_full_disk_every_older_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path / "checkpoint.pt", limit=2)
    kept.write({"step": 1})
    kept.write({"step": 2})
    full = __import__("os").open("/dev/full", 1)
    monkeypatch.setattr("tempfile.mkstemp", lambda prefix, dir: (full, f"{dir}/{prefix}x"))
    with pytest.raises(StoreError, match="No space left"):
        kept.write({"step": 3, "much": torch.zeros(100_000)})
    log = logging.getLogger("test")
    assert [state["step"] for state in kept.read(log)] == [2, 1]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, PARAMS)
    path = make_context(tmp_path).scratch / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["model"].pop(next(iter(state["model"])))
    torch.save(state, path)
    with pytest.raises(StageError, match="another model"):
        trained(tmp_path, PARAMS)
