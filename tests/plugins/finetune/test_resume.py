"""kill -9 at any moment: the next attempt ends with the very bytes of an undisturbed run."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_finetune.params import FinetuneParams
from hrmctl_training.checkpoint import write_tensors

from hrmctl import Cancelled
from hrmctl.errors import StoreError
from hrmctl.testing import RecordingContext, make_context
from tests.plugins.finetune.helpers import ROWS, curve, observed, train, write_rows

WORKER = Path(__file__).with_name("attempts.py")
TIMED = {"train_seconds", "train_tokens_per_second", "train_cpu_seconds", "peak_rss", "peak_memory"}


class Attempts:
    """A process that starts attempts at the same stage in one folder, and what they left there."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        write_rows(folder / "data.jsonl")
        write_rows(folder / "validation.jsonl", ROWS[:6])
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, command: str = "run") -> int:
        (self.folder / "step").unlink(missing_ok=True)
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def status(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def kill_after(self, step: int, delay: float) -> int:
        """Start an attempt and SIGKILL it `delay` seconds after it reported a step of `step` or more."""
        child = self.start()
        while self.step() < step:
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        return self.status()

    def step(self) -> int:
        try:
            return int((self.folder / "step").read_text() or 0)
        except FileNotFoundError:
            return 0

    def finish(self) -> None:
        self.start()
        assert self.status() == 0

    def weights(self) -> bytes:
        return (self.folder / "scratch/model/model.safetensors").read_bytes()

    def evidence(self) -> dict[str, Any]:
        found = json.loads((self.folder / "evidence.json").read_text())
        found["training"]["series"].pop("tokens_per_second")
        return {name: payload for name, payload in found.items() if name not in TIMED}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    attempts = Attempts(tmp_path_factory.mktemp("undisturbed") / "a")
    attempts.finish()
    yield attempts
    attempts.process.kill()
    attempts.process.wait()


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Attempts]:
    made = Attempts(tmp_path / "a")
    yield made
    made.process.kill()
    made.process.wait()


def test_kills_at_random_moments_change_nothing(undisturbed: Attempts, attempts: Attempts) -> None:
    rng = random.Random(time.time_ns())
    moments = sorted(rng.sample(range(1, 39), 10))
    for step in moments:
        delay = rng.uniform(0, 0.03)
        status = attempts.kill_after(step, delay)
        assert status in (signal.SIGKILL, 0), f"moments {moments}, delay {delay}"
    attempts.finish()
    assert attempts.weights() == undisturbed.weights(), f"killed after {moments}"
    assert attempts.evidence() == undisturbed.evidence(), f"killed after {moments}"


def test_kills_between_writing_and_naming_change_nothing(undisturbed: Attempts, attempts: Attempts) -> None:
    # The 8 first are those of the tokenizer and of the first checkpoints; the later ones end later attempts.
    for number in (1, 2, 3, 4, 5, 6, 9, 1, 2):
        attempts.start(f"fsync {number}")
        assert attempts.status() == signal.SIGKILL
    attempts.finish()
    assert attempts.weights() == undisturbed.weights()
    assert attempts.evidence() == undisturbed.evidence()
    assert not list((attempts.folder / "scratch").glob(".checkpoint.pt.*"))


def test_a_finished_training_is_not_trained_again(undisturbed: Attempts) -> None:
    weights = undisturbed.weights()
    undisturbed.finish()
    assert undisturbed.step() == 0
    assert undisturbed.weights() == weights


class _Stopping(RecordingContext):
    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == 4:
            raise Cancelled


def test_a_cancelled_run_loses_no_step(tmp_path: Path) -> None:
    params = FinetuneParams(init="hrm-tiny", steps=7, batch=8, vocab_size=290)
    whole, _ = train(tmp_path / "whole", params)
    stopping = _Stopping(make_context(tmp_path / "cut").scratch)
    with pytest.raises(Cancelled):
        train(tmp_path / "cut", params, stopping)
    result, context = train(tmp_path / "cut", params)
    assert [done for done, _, _ in context.rows] == [5, 6, 7]
    assert curve(result, "loss") == curve(whole, "loss")
    assert observed(result)["train_seconds"].payload["n"] == 7


def test_a_damaged_checkpoint_means_starting_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    params = FinetuneParams(init="hrm-tiny", steps=4, batch=8, vocab_size=290, checkpoint_interval=1)
    whole, context = train(tmp_path, params)
    weights = (whole.artifacts["model"].path / "model.safetensors").read_bytes()
    checkpoint = context.scratch / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        again, second = train(tmp_path, params)
    assert "starts again" in caplog.text
    assert [done for done, _, _ in second.rows] == [1, 2, 3, 4]
    assert (again.artifacts["model"].path / "model.safetensors").read_bytes() == weights


def test_a_checkpoint_is_replaced_and_never_written_into(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write_tensors(path, {"step": 1})
    with path.open("rb") as reader:
        old = path.read_bytes()
        write_tensors(path, {"step": 2})
        assert reader.read() == old
    assert torch.load(path, weights_only=True) == {"step": 2}
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
def test_a_full_disk_is_named_and_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    write_tensors(path, {"step": 1})
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr("tempfile.mkstemp", lambda prefix, dir: (full, f"{dir}/{prefix}x"))
    with pytest.raises(StoreError, match=r"No space left.*free space"):
        write_tensors(path, {"step": 2, "much": torch.zeros(100_000)})
    assert torch.load(path, weights_only=True) == {"step": 1}
