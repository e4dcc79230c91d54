"""Plateaus: when the loss counts as standing still, and that a resumed run notices the same ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hrmctl_training.checkpoint import Checkpoints
from hrmctl_training.fit import observations
from hrmctl_training.params import TrainingParams
from hrmctl_training.plateau import Plateau, PlateauWatcher
from hypothesis import given
from hypothesis import strategies as st

from hrmctl.testing import RecordingContext, make_context
from tests.plugins.training.helpers import trained

STEPS = Plateau(window=5, threshold=0.1, after=10, unit="steps")


def context() -> RecordingContext:
    return RecordingContext(scratch=Path())


def watched(losses: Sequence[float], plateau: Plateau = STEPS, per_epoch: int = 1) -> tuple[PlateauWatcher, list[int]]:
    """The watcher after these losses, and the steps at which it said plateau: 1."""
    watcher, on = PlateauWatcher(plateau), []
    for i, loss in enumerate(losses):
        advice = watcher.after_step(i + 1, (i + 1) / per_epoch, {"loss": loss}, context())
        if advice.metrics.get("plateau"):
            on.append(i + 1)
    return watcher, on


def geometric(rate: float, count: int) -> list[float]:
    return [4 * rate**i for i in range(count)]


def test_less_than_a_tenth_in_five_is_a_plateau_and_a_tenth_is_none() -> None:
    assert watched(geometric(0.899**0.2, 40))[1] == []
    assert watched(geometric(0.901**0.2, 40))[1] == list(range(10, 41))


def test_nothing_is_compared_before_its_point() -> None:
    watcher, on = watched([2.0] * 9)
    assert (on, watcher.compared, watcher.measured()) == ([], 0, {})
    assert watched([2.0] * 10)[1] == [10]


def test_each_plateau_is_warned_of_once_when_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    falling = [2.0 * 0.5**i for i in range(1, 8)]
    watcher, on = watched([2.0] * 20 + falling + [falling[-1]] * 20)
    assert on[:2] == [10, 11]
    assert watcher.begun[0] == 10
    assert len(watcher.begun) == 2
    assert 27 < watcher.begun[1] <= 34
    assert [record.message.split(":")[0] for record in caplog.records] == ["plateau", "plateau"]
    assert "loss 2 at step 10 is 0 % lower than 5 steps before" in caplog.records[0].message
    measured = watcher.measured()["plateaus"]
    assert (measured["value"], measured["unit"], measured["n"]) == (2, "plateaus", watcher.compared)
    assert measured["context"]["steps"] == watcher.begun


def test_epochs_are_compared_by_their_mean_so_that_noise_within_one_does_not_matter() -> None:
    plateau = Plateau()
    noise = [1.5, -1.5, 0.7, -0.7]
    losses = [4 * 0.97 ** (i // 4) + noise[i % 4] for i in range(4 * 15)]
    assert watched(losses, plateau, per_epoch=4)[1] == []
    losses = [2 + noise[i % 4] for i in range(4 * 15)]
    assert watched(losses, plateau, per_epoch=4)[1] == [40, 44, 48, 52, 56, 60]


def test_a_step_longer_than_a_fifth_of_the_window_is_compared_all_the_same() -> None:
    plateau = Plateau(window=1, after=2)
    losses = [2.0] * 12
    watcher = PlateauWatcher(plateau)
    on = [watcher.after_step(i + 1, (i + 1) / 2, {"loss": loss}, context()).metrics for i, loss in enumerate(losses)]
    assert [bool(metrics.get("plateau")) for metrics in on] == [False] * 3 + [True] * 9


def test_another_metric_is_compared_where_it_is_measured_and_a_loss_below_zero_never() -> None:
    watcher = PlateauWatcher(Plateau(window=10, threshold=0.1, after=10, unit="steps", metric="val_loss"))
    advised = [
        watcher.after_step(i, i, {"loss": 1.0, **({"val_loss": 3.0} if i % 2 == 0 else {})}, context()).metrics
        for i in range(1, 31)
    ]
    assert [i for i, metrics in enumerate(advised, 1) if metrics] == list(range(12, 31, 2))
    assert watched([-2.0] * 30)[0].compared == 0


@given(st.lists(st.floats(0.1, 10), min_size=12, max_size=60), st.integers(1, 59), st.integers(1, 7))
def test_a_watcher_that_is_resumed_goes_on_as_if_nothing_had_been(
    losses: list[float], cut: int, per_epoch: int
) -> None:
    plateau = Plateau(window=3, after=2)
    whole, on = watched(losses, plateau, per_epoch)
    first, before = watched(losses[:cut], plateau, per_epoch)
    second = PlateauWatcher(plateau)
    second.load_state(first.state())
    for i in range(cut, len(losses)):
        advice = second.after_step(i + 1, (i + 1) / per_epoch, {"loss": losses[i]}, context())
        before += [i + 1] if advice.metrics.get("plateau") else []
    if cut < len(losses):
        assert (second.state(), before) == (whole.state(), on)


def test_a_training_that_stands_still_says_so_in_curve_and_evidence(tmp_path: Path) -> None:
    # 24 examples, batches of 8: 3 steps an epoch, and a fifth of the window ends with every step.
    plateau = Plateau(window=5 / 3, after=4)
    training, ran = trained(tmp_path, TrainingParams(steps=24, batch=8, lr=1e-12, plateau=plateau))
    curve = training.progress.series["plateau"]
    assert curve["steps"] == list(range(12, 25))
    assert set(curve["values"]) == {1.0}
    assert [metrics["plateau"] for step, _, metrics in ran.rows if step >= 12] == [1.0] * 13
    found = {each.name: each.payload for each in observations(training, {})}["plateaus"]
    assert (found["value"], found["n"], found["context"]["steps"]) == (1, 13, [12])
    assert [metrics["epoch"] for _, _, metrics in ran.rows] == [pytest.approx(i / 3) for i in range(1, 25)]


def test_null_turns_it_off(tmp_path: Path) -> None:
    params = TrainingParams(steps=12, batch=24, lr=1e-12)
    assert "plateau" in trained(tmp_path / "on", params)[0].progress.series
    assert "plateau" not in trained(tmp_path / "off", replace(params, plateau=None))[0].progress.series


def test_the_state_goes_through_a_checkpoint(tmp_path: Path) -> None:
    params = TrainingParams(steps=9, batch=8, checkpoint_interval=9, plateau=Plateau(window=1, after=1))
    trained(tmp_path, params)
    saved = next(Checkpoints(make_context(tmp_path).scratch / "checkpoint.pt").read(logging.getLogger()))
    again = PlateauWatcher(Plateau(window=1, after=1))
    again.load_state(saved["watchers"][0])
    assert again.compared > 0
    assert again.state() == saved["watchers"][0]
