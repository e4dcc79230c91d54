"""Training in several processes: the bits of one process, and what becomes of the rest when one of them ends."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hrmctl_training import ranks
from hrmctl_training.group import Group
from hrmctl_training.params import TrainingParams
from hrmctl_training.saved import beginning, gathered

from hrmctl import Cancelled, InputError, StageError, StageResult
from hrmctl.testing import make_context
from tests.plugins.finetune.helpers import observed
from tests.plugins.training.helpers import tiny, trained
from tests.plugins.training.several import CASES, PARAMS, cancel_at, children, evidence, stage, trains, weights

SUMMING, ATTEMPT = (Path(__file__).with_name(name) for name in ("summing.py", "several.py"))
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, list[Any]]:
    return stage(tmp_path_factory.mktemp("alone"), PARAMS)


def test_two_processes_give_the_bits_of_one_and_what_they_save_is_taken_up_by_one(
    tmp_path: Path, alone: tuple[StageResult, list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def act(done: int) -> None:
        seen.extend(children())
        if done == 4:
            # A scheduler that ends a stage tells all of its processes.
            os.kill(seen[0], signal.SIGTERM)
        if done == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        stage(tmp_path, replace(PARAMS, processes=2), act)
    assert len(set(seen)) == 1
    assert not children()
    with caplog.at_level(logging.WARNING):
        result, rows = stage(tmp_path, PARAMS)
    assert "'processes': 2" in caplog.text
    assert "bits may differ" in caplog.text
    assert rows == alone[1][5:]
    assert weights(result) == weights(alone[0])
    assert evidence(result) == evidence(alone[0])


def test_a_process_that_is_killed_fails_the_stage_at_once_and_the_next_attempt_ends_with_the_same_bits(
    tmp_path: Path, alone: tuple[StageResult, list[Any]]
) -> None:
    params = replace(PARAMS, processes=2)
    killed: list[float] = []

    def act(done: int) -> None:
        if done == 5:
            os.kill(children()[0], signal.SIGKILL)
            killed.append(time.monotonic())

    with pytest.raises(StageError, match=r"process 2 of 2 was killed by SIGKILL .*goes on from the last checkpoint"):
        stage(tmp_path, params, act)
    assert time.monotonic() - killed[0] < 10
    assert not list((tmp_path / "scratch").glob(".ranks-*"))
    result, rows = stage(tmp_path, params)
    assert rows == alone[1][3:]
    assert weights(result) == weights(alone[0])
    assert evidence(result) == evidence(alone[0])
    found = observed(result)
    assert found["train_seconds"].payload["context"]["processes"] == 2
    # This process has more in memory than the other, which has Python and torch at least.
    assert found["peak_rss"].payload["value"] > found["peak_rss_of_a_process"].payload["value"] + 100e6


def test_a_killed_first_process_leaves_no_other_and_the_next_attempt_ends_with_the_same_bits(
    tmp_path: Path, alone: tuple[StageResult, list[Any]]
) -> None:
    step = random.Random(time.time_ns()).randint(1, 8)
    attempt = subprocess.Popen(
        [sys.executable, str(ATTEMPT), str(tmp_path), str(step)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    # To its end, the output would be read for as long as an orphan holds it.
    with attempt.stdout as stream:  # type: ignore[union-attr]
        output = stream.readline()
    attempt.wait()
    assert attempt.returncode == -signal.SIGKILL
    (other,) = json.loads(output)
    deadline = time.monotonic() + 10
    while trains(other) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not trains(other), "an orphan"
    result, rows = stage(tmp_path, replace(PARAMS, processes=2))
    saved = step - 1 - (step - 1) % 3
    assert rows == alone[1][saved:], f"killed after {step}"
    assert weights(result) == weights(alone[0]), f"killed after {step}"
    assert evidence(result) == evidence(alone[0]), f"killed after {step}"


# --- every way of training ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES))
def test_every_objective_gives_the_bits_of_one_process(tmp_path: Path, case: str) -> None:
    whole, rows = stage(tmp_path / "one", CASES[case])
    params, cut = replace(CASES[case], processes=2), tmp_path / "two"
    with pytest.raises(Cancelled):
        stage(cut, params, cancel_at(4))
    result, rest = stage(cut, params)
    assert rest == rows[4:]
    assert weights(result) == weights(whole)
    assert evidence(result) == evidence(whole)


@pytest.mark.slow
def test_with_more_passes_than_processes_only_the_order_of_sums_differs(tmp_path: Path) -> None:
    params = replace(PARAMS, accumulation=4, precision="fp32", batch=2)
    one, two = (stage(tmp_path / str(n), replace(params, processes=n))[1] for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert one[0]["loss"] == two[0]["loss"]


# --- sums ---------------------------------------------------------------------------------------


def test_gradients_are_summed_in_the_order_of_the_ranks_and_over_loopback(tmp_path: Path) -> None:
    # As somebody who trains on several machines has it set.
    outer = next((link.name for link in Path("/sys/class/net").iterdir() if link.name.startswith("e")), "lo")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": outer}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SUMMING), str(rank), "3", str(tmp_path)], stdout=subprocess.PIPE, env=environment
        )
        for rank in range(3)
    ]
    told = [json.loads(process.communicate(timeout=120)[0]) for process in processes[:2]]
    assert processes[2].wait() == 7
    for found in told:
        assert found["equal"]
        assert found["idle"] == [0.0, 1.0, 2.0]
        assert found["listening"]
        assert set(found["listening"]) == {"0100007F"}
        assert "lost each other" in found["broken"]
        assert found["seconds"] < 10


# --- what is refused ----------------------------------------------------------------------------


def test_passes_are_shared_out_evenly() -> None:
    with pytest.raises(ValueError, match="accumulation 3 cannot be shared out among 2 processes; set it to a multiple"):
        TrainingParams(accumulation=3, processes=2)
    assert ranks.size_of(TrainingParams(accumulation=3, processes=0), "cpu") == 1


@pytest.mark.parametrize(
    ("device", "processes", "said"),
    [
        ("cuda", 4, "processes is 4 and 2 CUDA devices are visible"),
        ("cuda:1", 2, "cuda:1 is one device"),
        ("mps", 2, "mps is one device"),
        ("cuda", 2, "A and B do not compute alike"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, processes: int, said: str
) -> None:
    monkeypatch.setattr(ranks, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "AB"[index])
    with pytest.raises(InputError, match=said):
        ranks.size_of(TrainingParams(accumulation=4, processes=processes), device)


def test_every_visible_device_is_used_where_the_number_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A")
    assert ranks.size_of(TrainingParams(accumulation=3, processes=0), "cuda") == 3
    with pytest.raises(InputError, match="accumulation 4 cannot be shared out among 3"):
        ranks.size_of(TrainingParams(accumulation=4, processes=0), "cuda")


def test_a_stage_that_cannot_be_run_again_trains_in_one_process(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trains in one process"):
        trained(tmp_path, TrainingParams(steps=1, accumulation=2, processes=2))


class _Two(Group):
    size = 2

    def __init__(self, other: Mapping[str, Any]) -> None:
        self.other = other

    def collected(self, state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [state, {**state, **self.other}]


def _training(other: Mapping[str, Any]) -> Any:
    """What of a training is asked for, with what another process tells of itself."""
    training = SimpleNamespace()
    training.group, training.model, training.told = _Two(other), tiny(), 0.0
    training.objective = SimpleNamespace(state=lambda: {})
    training.memory = SimpleNamespace(peak=1, samples=1)
    training.device = torch.device("cpu")
    training.progress = SimpleNamespace(
        **{"step": 3, "cpu_seconds": 0.0, "peak_memory": 0, "memory_of_all": 0},
        **{"peak_device_memory": 0, "device_memory_of_all": 0, "memory_samples": 0},
    )
    training.steps = 5
    return training


def test_processes_whose_weights_differ_are_noticed() -> None:
    training = _training({"memory": 5, "cpu_seconds": 2.0})
    gathered(training, "save")
    assert (training.progress.peak_memory, training.progress.memory_of_all, training.progress.cpu_seconds) == (5, 6, 2)
    with pytest.raises(StageError, match="after step 3 the processes no longer hold the same weights"):
        gathered(_training({"weights": 0}), "save")


def test_an_objective_that_cannot_share_out_what_it_carries_is_refused() -> None:
    training = _training({})
    assert beginning(training)["step"] == 3
    training.objective.state = lambda: {"seen": 1}
    with pytest.raises(InputError, match="cannot be shared out; set processes to 1"):
        beginning(training)
    training.objective.joined = lambda states, owners: {}
    assert beginning(training)["steps"] == 5


def test_an_end_that_nobody_notices_ends_the_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended: list[int] = []
    monkeypatch.setattr(ranks, "_UNSEEN", 0.2)
    monkeypatch.setattr(os, "_exit", ended.append)
    context = make_context(tmp_path)
    leader = ranks.Leader(2, torch.device("cpu"), ranks.Call("a:b", None, {}), context)
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    leader._children = [SimpleNamespace(rank=1, process=process)]  # type: ignore[list-item]
    leader._watch()
    assert ended == [1]
    with pytest.raises(StageError, match="process 2 of 2 ended with status 3"):
        leader.check()
    # After the last step the others may go.
    leader._closing.set()
    leader.check()
