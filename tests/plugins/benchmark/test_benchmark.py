"""The stage as a whole: real workers, real models, and what is reported of them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hrmctl_benchmark.params import BenchmarkParams
from hrmctl_benchmark.stage import Side, _load, run

from hrmctl import InputError, StageError, StageResult
from hrmctl.testing import RecordingContext, make_artifact, make_context

Benchmarked = tuple[StageResult, RecordingContext]
LABELS = ("wide", "gpt2-micro")


def evidence(benchmarked: Benchmarked, label: str) -> dict[str, Any]:
    return {o.name: o.payload for o in benchmarked[0].evidence if o.about["model"].label == label}


def workers_left() -> list[str]:
    """Command lines of this process's children that are benchmark workers."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    lines = [Path(f"/proc/{child}/cmdline").read_bytes().decode() for child in children]
    return [line for line in lines if "hrmctl_benchmark" in line]


@pytest.mark.parametrize("label", LABELS)
def test_each_model_has_its_own_evidence(label: str, benchmarked: Benchmarked) -> None:
    found = evidence(benchmarked, label)
    assert {"tokens_per_second", "latency_seconds", "first_token_seconds", "peak_rss"} <= found.keys()
    for payload in found.values():
        assert len(payload["trials"]) == payload["n"] == 3
        assert payload["value"] == median(payload["trials"]) > 0
    assert len(set(found["tokens_per_second"]["trials"])) == 3


def test_no_ratio_is_reported(benchmarked: Benchmarked) -> None:
    assert not [o.name for o in benchmarked[0].evidence if "ratio" in o.name]
    assert {tuple(o.about) for o in benchmarked[0].evidence} == {("model",)}


def test_trials_take_turns_after_the_warm_up(benchmarked: Benchmarked) -> None:
    rows = benchmarked[1].rows
    assert [(done, total) for done, total, _ in rows] == [(i, 8) for i in range(1, 9)]
    assert [next(iter(metrics)).split("_")[0] for _, _, metrics in rows] == ["model", "baseline"] * 4
    reported = [metrics["model_tokens_per_second"] for _, _, metrics in rows[2::2]]
    assert reported == evidence(benchmarked, "wide")["tokens_per_second"]["trials"]


def test_the_setting_is_reported(benchmarked: Benchmarked) -> None:
    found = evidence(benchmarked, "gpt2-micro")
    setting = {"prompt_tokens": 12, "new_tokens": 6, "batch": 3, "threads": 1, "dtype": "float32", "device": "cpu"}
    assert setting.items() <= found["tokens_per_second"]["context"].items()
    assert found["latency_seconds"]["context"]["batch"] == 1
    assert found["completion_tokens"]["trials"] == [6, 6, 6]
    assert "RssAnon" in found["peak_rss"]["context"]["method"]


def test_the_first_token_is_part_of_the_latency(benchmarked: Benchmarked) -> None:
    for label in LABELS:
        found = evidence(benchmarked, label)
        pairs = zip(found["first_token_seconds"]["trials"], found["latency_seconds"]["trials"], strict=True)
        assert all(0 < first < whole for first, whole in pairs)


def test_memory_counts_the_weights(benchmarked: Benchmarked) -> None:
    wide, narrow = (evidence(benchmarked, label)["peak_rss"] for label in LABELS)
    weights = 4 * evidence(benchmarked, "wide")["tokens_per_second"]["context"]["parameters"]
    assert weights > 70e6
    assert wide["value"] - narrow["value"] > 0.9 * weights
    assert wide["value"] - wide["context"]["before_load"] > 0.9 * weights
    assert wide["value"] - narrow["value"] < 2 * weights


def test_no_worker_outlives_the_stage(benchmarked: Benchmarked) -> None:
    assert workers_left() == []


def pair(models: dict[str, Path], model: Path, label: str = "broken") -> dict[str, Any]:
    return {
        "model": make_artifact(model, "model", label),
        "baseline": make_artifact(models["gpt2-micro"], "model", "gpt2-micro"),
    }


def test_a_model_is_no_baseline_of_itself(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same model"):
        run(BenchmarkParams(), pair(models, models["gpt2-micro"]), make_context(tmp_path))


def test_what_fails_in_a_worker_is_said_in_one_line(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "README").write_text("nothing else")
    with pytest.raises(StageError, match=r"model broken: .*config\.json") as caught:
        run(BenchmarkParams(), pair(models, folder), make_context(tmp_path))
    assert "\n" not in str(caught.value)
    assert workers_left() == []


class Answering:
    """A worker that answers every request with the same facts."""

    name = "model m"

    def __init__(self, **facts: Any):
        self.facts = facts

    def ask(self, op: str, timeout: float, **arguments: Any) -> tuple[dict[str, Any], int | None]:
        return self.facts, 1


@pytest.mark.parametrize(("positions", "fits"), [(100, True), (99, False), (None, True)])
def test_a_context_window_too_small_is_said(
    positions: int | None, fits: bool, models: dict[str, Path], tmp_path: Path
) -> None:
    worker: Any = Answering(positions=positions)
    side = Side(make_artifact(models["gpt2-micro"], "model", "m"))
    params = BenchmarkParams(prompt_tokens=60, new_tokens=40)
    with nullcontext() if fits else pytest.raises(StageError, match="model m has 99 positions, 100 are asked for"):
        _load(worker, side, params, 1, "cpu")
