"""The experiment's recipes for real, shrunk: every arm is bound, measured over its seeds, judged and found again."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hrmctl_statistics.clusters import clustered_delta
from hrmctl_statistics.params import PairedDeltaParams

from hrmctl import Evidence, ledger

ROOT = Path(__file__).resolve().parents[1]
SHORT = {
    "seeds": "[1, 2]",
    "train": 600,
    "test": 12,
    "validation": 0,
    "steps": 12,
    "flops": 1.0e11,
    "samples": 2,
}
RESULTS = ROOT / "docs" / "results" / "hrm-vs-gpt2"
SEEDS = (101, 102, 103, 104, 105)
DATA = ("dataset", "train")
ARMS = {"HVG-4X-COMPUTE", "HVG-4X-EXAMPLES", "HVG-SAME-COMPUTE", "HVG-SAME-EXAMPLES"}


def hrmctl(*words: str, settings: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    chosen = [item for name, value in (settings or {}).items() for item in ("--set", f"vars.{name}={value}")]
    command = [sys.executable, "-m", "hrmctl", *words, *chosen]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)


def evidence(store: Path, stage: str, name: str) -> dict[str, Any]:
    (path,) = store.glob(f"runs/*/evidence/{stage}.{name}.*.json")
    return dict(json.loads(path.read_text())["payload"])


def columns(name: str) -> dict[str, list[int]]:
    """Passes of each problem by `model/seed`, and the problems themselves by their number."""
    with (RESULTS / name).open() as stream:
        rows = list(csv.DictReader(stream))
    return {key: [int(row[key]) for row in rows] for key in rows[0] if key != "problem"}


def published(label: str, passes: Mapping[str, list[int]], firsts: Mapping[str, list[int]]) -> tuple[Evidence, ...]:
    """The samples of one model as published, one piece for each seed."""

    def problem(number: int, passed: int, first: int) -> dict[str, Any]:
        rest = ["passed"] * (passed - first) + ["wrong_answer"] * (10 - passed - (1 - first))
        outcomes = ["passed" if first else "wrong_answer", *rest]
        return {"id": f"{number:04}", "n": 10, "c": passed, "outcomes": outcomes}

    def piece(key: str) -> Evidence:
        counts = enumerate(zip(passes[key], firsts[key], strict=True))
        return Evidence("samples", "samples/v1", {"n": 10, "problems": [problem(i, c, f) for i, (c, f) in counts]})

    return tuple(piece(f"{label}/{seed}") for seed in SEEDS)


def test_the_published_figures_follow_from_the_published_passes() -> None:
    assert ledger.verify(RESULTS / "ledger.jsonl") == []
    rows = [json.loads(line) for line in (RESULTS / "ledger.jsonl").read_text().splitlines()]
    arms = {row["contract"]: row for row in rows if row["contract"].startswith("HVG")}
    assert arms.keys() == ARMS
    passes, firsts = columns("passes.csv"), columns("first-samples.csv")
    page = (ROOT / "docs" / "experiment.md").read_text()
    for row in arms.values():
        labels = [row["labels"][role] for role in ("model", "baseline", "other-1", "other-2", "other-3")]
        pieces = [published(label, passes, firsts) for label in labels]
        found = clustered_delta(pieces, PairedDeltaParams(resamples=10_000, seed=7))
        stated = row["measured"]["d"]
        assert found.keys() == stated.keys()
        assert {key: pytest.approx(value) for key, value in found.items()} == stated
        assert f"{stated['value']:+.3f} | {stated['lo']:+.3f} to {stated['hi']:+.3f}" in page


@pytest.mark.slow
@pytest.mark.longest
def test_every_arm_is_bound_to_its_seeds_and_judged(tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = hrmctl("pipeline", "recipes/hrm-vs-gpt2.yaml", "--store", str(store), settings=SHORT)
    assert done.returncode == 3, done.stdout + done.stderr
    judge_the_shrunk_run(store)
    assert hrmctl("verify", "--replay", "--store", str(store)).returncode == 0


def judge_the_shrunk_run(store: Path) -> None:
    """Twelve steps teach nothing: no arm may claim anything, and what is held equal is."""
    rows = [json.loads(line) for line in (store / "ledger.jsonl").read_text().splitlines()]
    arms = {row["contract"]: row for row in rows if row["contract"].startswith("HVG")}
    assert arms.keys() == ARMS
    for name, row in arms.items():
        assert row["kind"] == "hypothesis"
        assert row["verdict"] in ("INCONCLUSIVE", "INVALID"), name
        assert len(row["evidence"]) == 5 * 2 + 4 * 2
        assert all(digests.count("+") == 1 for role, digests in row["subjects"].items() if role not in DATA)
        size = row["measured"]["size"]
        assert size["seeds"] == 2
        assert 0.9 <= size["value"] <= 1.1 if "SAME" in name else 3.5 <= size["value"] <= 4.5
    for name in ("HVG-4X-EXAMPLES", "HVG-SAME-EXAMPLES"):
        assert (arms[name]["verdict"], arms[name]["because"]) == ("INCONCLUSIVE", "d")
        examples = arms[name]["measured"]["examples"]
        assert (examples["min"], examples["max"], examples["left"]) == (1, 1, 12 * 32)
    for name in ("HVG-4X-COMPUTE", "HVG-SAME-COMPUTE"):
        # Four steps of the wide model: half a step is an eighth.
        compute = arms[name]["measured"]["compute"]
        assert 0.8 < compute["min"] <= compute["max"] < 1.2


@pytest.mark.slow
def test_the_full_scale_recipe_starts_and_trains(tmp_path: Path, shared_data: Path) -> None:
    store = tmp_path / "store"
    settings = {
        "mbpp": shared_data / "mbpp.jsonl",
        "seeds": "[201]",
        "flops": 6.0e11,
        "batch": 2,
        "max_length": 160,
    }
    words = ("pipeline", "recipes/hrm-27m-mbpp.yaml", "--only", "hrm", "--store", str(store))
    done = hrmctl(*words, settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 19e6 < evidence(store, "hrm*seed=201*", "parameters")["value"] < 28e6
    spent = evidence(store, "hrm*seed=201*", "train_flops")
    assert spent["n"] >= 2
    assert spent["value"] == pytest.approx(6.0e11, rel=0.3)
    assert evidence(store, "hrm*seed=201*", "nonfinite")["value"] == 0
    losses = evidence(store, "hrm*seed=201*", "training")["series"]["loss"]["values"]
    assert losses[-1] < losses[0]
