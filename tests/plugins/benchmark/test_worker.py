"""The worker's decoding against transformers' own, and the driver against workers that fail."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_benchmark import driver
from hrmctl_benchmark.bench import Bench
from hrmctl_benchmark.driver import Worker, anonymous_rss
from hrmctl_benchmark.worker import bench_operations, serve
from hrmctl_models import load

from hrmctl import StageError

WORKLOAD = {"prompt_tokens": 9, "new_tokens": 12, "seed": 3}


@pytest.mark.parametrize("family", ["hrm-tiny", "gpt2-micro", "qwen2-tiny"])
@pytest.mark.parametrize("batch", [1, 4])
def test_the_tokens_are_those_of_greedy_generation(family: str, batch: int, models: dict[str, Path]) -> None:
    bench = Bench()
    facts = bench.load(str(models[family]), "cpu", "auto", 1)
    reply = bench.decode(batch=batch, **WORKLOAD)
    loaded = load(models[family], device="cpu")
    ids = torch.randint(300, (batch, 9), generator=torch.Generator().manual_seed(3))
    greedy = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    expected = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), **greedy)
    assert reply["tokens"] == expected[:, 9:].tolist()
    assert facts["parameters"] == loaded.parameters
    assert facts["dtype"] == "float32"


def test_a_precision_that_is_asked_for_is_used(models: dict[str, Path]) -> None:
    bench = Bench()
    assert bench.load(str(models["qwen2-tiny"]), "cpu", "bfloat16", 1)["dtype"] == "bfloat16"
    assert len(bench.decode(batch=2, **WORKLOAD)["tokens"]) == 2


def test_errors_are_replies_of_one_line(models: dict[str, Path]) -> None:
    requests = [
        {"op": "load", "path": "/nowhere", "device": "cpu", "dtype": "auto", "threads": 1},
        {"op": "load", "path": str(models["gpt2-micro"]), "device": "cpu", "dtype": "auto", "threads": 1},
        {"op": "decode", "batch": 1, "prompt_tokens": 511, "new_tokens": 9, "seed": 1},
    ]
    replies = io.StringIO()
    serve(bench_operations(), io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), replies)
    first, second, third = (json.loads(line) for line in replies.getvalue().splitlines())
    assert "config.json" in first["error"]
    assert second["parameters"] > 0
    assert third["error"].startswith("IndexError: ")


def test_only_the_first_line_of_an_error_is_told() -> None:
    def fails() -> dict[str, Any]:
        raise ValueError("first\nsecond")

    replies = io.StringIO()
    serve({"fail": fails}, io.StringIO('{"op": "fail"}\n'), replies)
    assert json.loads(replies.getvalue()) == {"error": "ValueError: first"}


def test_what_libraries_print_stays_out_of_the_replies() -> None:
    program = (
        "import os\nfrom hrmctl_benchmark.worker import main\n"
        "def noisy():\n    print('noise'); os.system('echo more noise'); return {'calm': True}\n"
        "main(lambda: {'ready': noisy})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], input='{"op": "ready"}\n', capture_output=True, text=True, env=environment
    )
    assert done.stdout == '{"calm": true}\n'
    assert "more noise" in done.stderr


def test_a_killed_worker_is_said_to_be(tmp_path: Path) -> None:
    with Worker("model m", 1, tmp_path / "log") as worker:
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(StageError, match="model m: its process was killed, most likely for lack of memory"):
            worker.ask("ready", 30.0)
        with pytest.raises(StageError, match="was killed"):
            worker.ask("ready", 30.0)


def test_a_worker_that_cannot_start_gives_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    (broken / "hrmctl_benchmark").mkdir(parents=True)
    (broken / "hrmctl_benchmark/__init__.py").write_text("raise RuntimeError('no such luck')\n")
    monkeypatch.setattr(driver.sys, "path", [str(broken), *sys.path])
    with (
        Worker("baseline b", 1, tmp_path / "log") as worker,
        pytest.raises(StageError, match=r"baseline b: .* ended \(RuntimeError: no such luck\); see .*log") as caught,
    ):
        worker.ask("ready", 30.0)
    assert "\n" not in str(caught.value)


def test_a_worker_that_does_not_answer_is_given_up_and_ended(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="m: no answer in time"), Worker("m", 1, tmp_path / "log") as worker:
        worker.ask("ready", 0.05)
    assert worker._process.poll() is not None


def test_threads_and_import_path_reach_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    real = subprocess.Popen

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(driver.subprocess, "Popen", spy)
    with pytest.raises(StageError), Worker("m", 3, tmp_path / "log") as worker:
        worker.ask("ready", 0.01)
    assert seen["env"]["OMP_NUM_THREADS"] == "3"
    assert all(os.path.isabs(entry) for entry in seen["env"]["PYTHONPATH"].split(os.pathsep))


def test_anonymous_memory_of_a_process_is_read() -> None:
    before = anonymous_rss(os.getpid())
    block = bytearray(os.urandom(1 << 20) * 50)
    after = anonymous_rss(os.getpid())
    assert before is not None
    assert after is not None
    assert 45e6 < after - before < 120e6, len(block)
    assert anonymous_rss(2**22 + 1) is None
