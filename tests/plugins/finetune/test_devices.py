"""Training on an accelerator, where there is one: the same curve as on the CPU, and a resume that goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_finetune.params import FinetuneParams
from hrmctl_models.loading import resolve_device

from hrmctl import Cancelled
from hrmctl.testing import RecordingContext, make_context
from tests.plugins.finetune.helpers import curve, train

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


def test_cuda_reports_its_own_peak(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    result, _ = train(tmp_path, PARAMS, make_context(tmp_path, device="cuda"))
    peak = next(o.payload for o in result.evidence if o.name == "peak_device_memory")
    assert peak["value"] > 4 * 500_000
