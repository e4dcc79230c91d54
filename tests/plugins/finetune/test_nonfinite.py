"""Steps whose loss or gradient is not finite: `stop` stops at the first, `skip` leaves each out and counts it.

The parent model holds one embedding so great that the forward pass overflows wherever its token occurs.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
import torch
from hrmctl_finetune.params import FinetuneParams

from hrmctl import Artifact, Cancelled, StageError
from hrmctl.testing import RecordingContext, make_artifact, make_context
from tests.plugins.finetune.helpers import ROWS, observed, train, write_rows

# 25 rows in batches of 4 are 7 steps an epoch, one of them with the row at line 21.
STEPS = 7
LINE = 21
MIXED = [*ROWS[:20], {"prompt": "~", "completion": "z"}, *ROWS[20:]]
HOPELESS = [{"prompt": "~" + row["prompt"], "completion": row["completion"]} for row in ROWS]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("parent") / "model"
    tokenizer = hrmctl_models.train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 290)
    model = hrmctl_models.build("hrm-tiny", len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=1)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer("~")["input_ids"]] = 1e38
    hrmctl_models.save(model, tokenizer, folder)
    return make_artifact(folder, "model", "overflowing")


def _params(**changes: Any) -> FinetuneParams:
    return FinetuneParams(**{"epochs": 1, "batch": 4, "max_length": 64, "on_nonfinite": "skip", **changes})


def _rows(folder: Path, rows: list[dict[str, str]] = MIXED) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    return write_rows(folder / "rows.jsonl", rows)


def _skipped(context: RecordingContext) -> list[int]:
    return [done for done, _, metrics in context.rows if "loss" not in metrics]


def test_stop_is_the_default_and_stops_at_the_first(tmp_path: Path, parent: Artifact) -> None:
    assert FinetuneParams().on_nonfinite == "stop"
    context = make_context(tmp_path)
    with pytest.raises(StageError, match="before the weights were touched"):
        train(tmp_path, _params(on_nonfinite="stop"), context, data=_rows(tmp_path), model=parent)
    kept = torch.load(context.scratch / "nonfinite.pt", weights_only=True)
    assert kept["step"] == len(context.rows) + 1 < STEPS
    assert not (context.scratch / "model").exists()


def test_skip_counts_every_such_step_and_leaves_it_out_of_the_curves(
    tmp_path: Path, parent: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    epochs = 12
    with caplog.at_level(logging.WARNING):
        result, context = train(tmp_path, _params(epochs=epochs), data=_rows(tmp_path), model=parent)
    # More than ten in all, never ten in a row.
    skipped = _skipped(context)
    assert len(skipped) == epochs
    payload = observed(result)["nonfinite"].payload
    assert (payload["value"], payload["n"]) == (epochs, epochs * STEPS)
    reported = [metrics for _, _, metrics in context.rows if "loss" not in metrics]
    assert [metrics["nonfinite"] for metrics in reported] == list(range(1, epochs + 1))
    assert not any({"lr", "grad_norm"} & set(metrics) for metrics in reported)
    finite = [step for step in range(1, epochs * STEPS + 1) if step not in skipped]
    series = observed(result)["training"].payload["series"]
    assert all(series[name]["steps"] == finite for name in ("loss", "lr", "grad_norm", "tokens_per_second"))
    assert observed(result)["examples_seen"].payload["value"] == epochs * len(MIXED)
    json.dumps([o.payload for o in result.evidence], allow_nan=False)
    assert caplog.text.count("its update is left out") == epochs
    kept = torch.load(context.scratch / "nonfinite.pt", weights_only=True)
    assert kept["step"] == skipped[0]
    assert LINE in kept["lines"]
    assert not list(context.scratch.glob(".nonfinite.pt.*"))


def test_skip_without_such_a_step_counts_none(tmp_path: Path, parent: Artifact) -> None:
    result, context = train(tmp_path, _params(), data=_rows(tmp_path, ROWS), model=parent)
    assert observed(result)["nonfinite"].payload["value"] == 0
    assert not (context.scratch / "nonfinite.pt").exists()


class _Watching(RecordingContext):
    """Keeps weights and optimizer state as they are on disk: at each step those after the step before."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == 1:
            return
        state = torch.load(self.scratch / "checkpoint.pt", weights_only=True)
        self.states = [*getattr(self, "states", []), {"model": state["model"], "optimizers": state["optimizers"]}]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("clip", [1.0, None])
def test_a_skipped_step_touches_neither_weights_nor_optimizer(
    tmp_path: Path, parent: Artifact, optimizer: str, clip: float | None
) -> None:
    context = _Watching(make_context(tmp_path).scratch)
    params = _params(epochs=3, checkpoint_interval=1, optimizer=optimizer, grad_clip=clip)
    train(tmp_path, params, context, data=_rows(tmp_path), model=parent)
    skipped = _skipped(context)
    assert len(skipped) == 3
    for step in range(2, 3 * STEPS):
        before, after = context.states[step - 2], context.states[step - 1]
        assert _same(before, after) == (step in skipped), step


@pytest.mark.parametrize(("rows", "steps", "stopped"), [(HOPELESS, 30, 10), (HOPELESS, 3, 3)])
def test_skipping_ends_where_nothing_is_finite(
    tmp_path: Path, parent: Artifact, rows: list[dict[str, str]], steps: int, stopped: int
) -> None:
    context = make_context(tmp_path)
    with pytest.raises(StageError, match=rf"^{stopped} steps in a row .* step {stopped} of {steps}"):
        train(tmp_path, _params(steps=steps), context, data=_rows(tmp_path, rows), model=parent)
    assert [done for done, _, _ in context.rows] == list(range(1, stopped))
    assert torch.load(context.scratch / "nonfinite.pt", weights_only=True)["step"] == 1
    assert not (context.scratch / "model").exists()


class _Ending(RecordingContext):
    """Ends the attempt at the step after the second that was skipped."""

    error: type[BaseException] = Cancelled

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        skipped = _skipped(self)
        if len(skipped) == 2 and done > skipped[-1]:
            raise self.error


@pytest.mark.parametrize(("error", "interval"), [(Cancelled, 100), (MemoryError, 1), (MemoryError, 3)])
def test_the_count_survives_an_interruption(
    tmp_path: Path, parent: Artifact, error: type[BaseException], interval: int
) -> None:
    params = _params(epochs=4, checkpoint_interval=interval)
    whole, _ = train(tmp_path / "whole", params, data=_rows(tmp_path / "whole"), model=parent)
    ending = _Ending(make_context(tmp_path / "cut").scratch)
    ending.error = error
    with pytest.raises(error):
        train(tmp_path / "cut", params, ending, data=_rows(tmp_path / "cut"), model=parent)
    first = (ending.scratch / "nonfinite.pt").read_bytes()
    result, context = train(tmp_path / "cut", params, data=_rows(tmp_path / "cut"), model=parent)
    assert context.rows[0][0] > 1
    assert observed(result)["nonfinite"].payload == observed(whole)["nonfinite"].payload
    assert observed(result)["nonfinite"].payload["value"] == 4
    assert (ending.scratch / "nonfinite.pt").read_bytes() == first
    weights = [r.artifacts["model"].path / "model.safetensors" for r in (whole, result)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_steps_in_a_row_are_counted_across_attempts(tmp_path: Path, parent: Artifact) -> None:
    class Once(RecordingContext):
        def progress(self, done: int, total: int, **metrics: float) -> None:
            super().progress(done, total, **metrics)
            if done == 6:
                raise Cancelled

    params, data = _params(steps=30), _rows(tmp_path, HOPELESS)
    with pytest.raises(Cancelled):
        train(tmp_path, params, Once(make_context(tmp_path).scratch), data=data, model=parent)
    context = make_context(tmp_path)
    with pytest.raises(StageError, match=r"^10 steps in a row"):
        train(tmp_path, params, context, data=data, model=parent)
    assert [done for done, _, _ in context.rows] == [7, 8, 9]
