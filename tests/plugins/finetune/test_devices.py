"""Training on an accelerator, where there is one: the same curve as on the CPU, and a resume that goes on."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_finetune.params import FinetuneParams
from hrmctl_models.loading import resolve_device

from hrmctl import Cancelled, StageError
from hrmctl.testing import RecordingContext, make_context
from tests.plugins.finetune.helpers import curve, train
from tests.plugins.training.several import children

pytestmark = pytest.mark.gpu
PARAMS = FinetuneParams(init="hrm-tiny", steps=30, batch=8, lr=4e-3, vocab_size=290, checkpoint_interval=5)


@pytest.fixture
def accelerator() -> str:
    kind = resolve_device("auto").type
    if kind == "cpu":
        pytest.skip("no CUDA or MPS device here")
    return kind


def on(device: str, folder: Path, params: FinetuneParams) -> list[float]:
    folder.mkdir()
    result, _ = train(folder, params, make_context(folder, device=device))
    return curve(result, "loss")


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_curve_is_that_of_the_cpu(tmp_path: Path, accelerator: str, optimizer: Any) -> None:
    params = replace(PARAMS, optimizer=optimizer)
    assert on(accelerator, tmp_path / "a", params) == pytest.approx(on("cpu", tmp_path / "c", params), rel=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_as_full_precision_does(tmp_path: Path, accelerator: str, precision: Any) -> None:
    full = on(accelerator, tmp_path / "full", PARAMS)
    half = on(accelerator, tmp_path / "half", replace(PARAMS, precision=precision))
    assert half[-1] < full[0] / 2
    assert half[-1] == pytest.approx(full[-1], rel=0.25)


class _Stopping(RecordingContext):
    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == 17:
            raise Cancelled


def test_a_stopped_run_goes_on(tmp_path: Path, accelerator: str) -> None:
    whole = on(accelerator, tmp_path / "whole", PARAMS)
    folder = tmp_path / "cut"
    stopping = _Stopping(make_context(folder).scratch, device=accelerator)
    with pytest.raises(Cancelled):
        train(folder, PARAMS, stopping)
    result, context = train(folder, PARAMS, make_context(folder, device=accelerator))
    assert context.rows[0][0] == 18
    assert curve(result, "loss") == pytest.approx(whole, rel=0.02)


@pytest.fixture
def two_devices() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two CUDA devices here")


@pytest.mark.usefixtures("two_devices")
def test_two_devices_give_the_curve_of_one_and_each_reports_its_memory(tmp_path: Path) -> None:
    params = replace(PARAMS, accumulation=2, steps=12)
    one = on("cuda", tmp_path / "one", params)
    assert on("cuda", tmp_path / "two", replace(params, processes=2)) == pytest.approx(one, rel=0.02)
    result, _ = train(tmp_path / "two", replace(params, processes=2), make_context(tmp_path / "two", device="cuda"))
    found = {o.name: o.payload for o in result.evidence}
    assert found["peak_device_memory_of_all"]["value"] > 1.5 * found["peak_device_memory"]["value"]


class _Killing(RecordingContext):
    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == 7:
            os.kill(children()[0], signal.SIGKILL)


@pytest.mark.usefixtures("two_devices")
def test_the_end_of_one_device_s_process_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    params = replace(PARAMS, accumulation=2, steps=12, processes=2)
    whole = on("cuda", tmp_path / "whole", params)
    folder = tmp_path / "cut"
    begun = time.monotonic()
    with pytest.raises(StageError, match="process 2 of 2 was killed by SIGKILL"):
        train(folder, params, _Killing(make_context(folder).scratch, device="cuda"))
    assert time.monotonic() - begun < 120
    result, context = train(folder, params, make_context(folder, device="cuda"))
    assert context.rows[0][0] == 6
    assert curve(result, "loss") == pytest.approx(whole, rel=0.02)


def test_cuda_reports_its_own_peak(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    result, _ = train(tmp_path, PARAMS, make_context(tmp_path, device="cuda"))
    peak = next(o.payload for o in result.evidence if o.name == "peak_device_memory")
    assert peak["value"] > 4 * 500_000
