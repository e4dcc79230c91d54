"""The stage data.generate: files, labels, evidence, and evidence that tells when a split is not clean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hrmctl_data.generate as stage
import pytest
from hrmctl_data.generate import Tally, measure
from hrmctl_data.params import GenerateParams
from hrmctl_sandbox.formats import checked

from hrmctl.testing import make_context


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_labels_and_evidence(tmp_path: Path) -> None:
    ctx = make_context(tmp_path)
    result = stage.run(GenerateParams(train=200, test=30, validation=20), {}, ctx)
    assert {name: o.label for name, o in result.artifacts.items()} == {
        "train": "microcode@train",
        "test": "microcode@test",
        "validation": "microcode@validation",
    }
    assert {name: len(rows_of(o.path)) for name, o in result.artifacts.items()} == {
        "train": 200,
        "test": 30,
        "validation": 20,
    }
    assert all(checked(row).row() == row for o in result.artifacts.values() for row in rows_of(o.path))
    found = {o.name: (o.payload["value"], o.payload["n"]) for o in result.evidence}
    assert found == {
        "signature_overlap": (0, found["signature_overlap"][1]),
        "pair_overlap": (0, 30),
        "prompt_overlap": (0, 30),
        "reference_failures": (0, 250),
        "operations": (57, 250),
        "untaught_operations": (0, 57),
    }
    tested = rows_of(result.artifacts["test"].path)
    assert found["signature_overlap"][1] == len({row["meta"]["signature"] for row in tested})
    for observation in result.evidence:
        assert observation.type == "measurement/v1"
        assert observation.about == {"dataset": result.artifacts["test"], "train": result.artifacts["train"]}
    assert ctx.rows[-1][:2] == (250, 250)


def test_validation_is_optional(tmp_path: Path) -> None:
    assert stage.run(GenerateParams(train=64, test=5), {}, make_context(tmp_path)).artifacts.keys() == {"train", "test"}


def test_bytes_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> list[bytes]:
        result = stage.run(GenerateParams(train=80, test=10), {}, make_context(tmp_path / name, seed=seed))
        return [o.path.read_bytes() for o in result.artifacts.values()]

    assert made("a", 7) == made("b", 7)
    assert made("a", 7) != made("c", 8)


def tally(*signatures: str, prompts: tuple[str, ...] = (), failures: int = 0) -> Tally:
    split = [tuple(signature.split()) for signature in signatures]
    return Tally(len(split), failures, split, list(prompts or signatures))


def test_overlaps_are_counted() -> None:
    train = tally("a", "b", "c", "a b c", prompts=("p", "q", "r", "s"))
    found = measure({"train": train, "test": tally("a b c", "a b", "b a", "b a", prompts=("p", "t", "u", "v"))})
    assert (found["signature_overlap"]["value"], found["signature_overlap"]["n"]) == (1, 3)
    assert (found["pair_overlap"]["value"], found["pair_overlap"]["n"]) == (2, 4)
    assert (found["prompt_overlap"]["value"], found["prompt_overlap"]["n"]) == (1, 4)


def test_untaught_operations_and_failures_are_counted() -> None:
    found = measure({"train": tally("a", failures=2), "test": tally("a b", failures=1)})
    assert found["untaught_operations"] == {"value": 1, "unit": "operations", "n": 2}
    assert found["reference_failures"] == {"value": 3, "unit": "problems", "n": 2}


def test_a_failing_reference_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = stage.problems

    def broken(split: Any, count: int, seed: int) -> Any:
        for row in real(split, count, seed):
            yield {**row, "completion": "    return None\n"} if row["task_id"] == "microcode/train-3" else row

    monkeypatch.setattr(stage, "problems", broken)
    result = stage.run(GenerateParams(train=64, test=5), {}, make_context(tmp_path))
    assert {o.name: o.payload["value"] for o in result.evidence}["reference_failures"] == 1
