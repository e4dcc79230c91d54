"""Learning from completions that the teacher writes: across tokenizers, and only from those worth it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
from hrmctl_distill.params import DistillParams
from hrmctl_distill.text import generated
from hrmctl_sandbox import probe
from hrmctl_training.formats import Chat, key_of
from hrmctl_training.rows import Reader
from hrmctl_training.sources import is_held

from hrmctl import Artifact, Cancelled, StageError, StageResult
from hrmctl.testing import RecordingContext, make_context
from tests.plugins.distill.helpers import ROWS, curve, distill, observed, weights, write_model, write_rows

SHORT: dict[str, Any] = {"method": "text", "steps": 6, "batch": 6, "max_length": 64, "max_new_tokens": 20}


def _rows(result: StageResult) -> list[dict[str, str]]:
    return [json.loads(line) for line in result.artifacts["generated"].path.read_text().splitlines()]


def test_the_teachers_own_words_are_learned_across_tokenizers(tmp_path: Path, teacher: Artifact) -> None:
    student = write_model(tmp_path / "student", "hrm-tiny", 1, text="def return subtract multiply by " * 5)
    params = DistillParams(**{**SHORT, "steps": 25, "lr": 6e-3}, sampling_temperature=0)
    result, context = distill(tmp_path, params, teacher=teacher, model=student)
    found = {row["prompt"]: row["completion"] for row in _rows(result)}
    assert {row["prompt"]: row["completion"] for row in ROWS} == found
    assert curve(result, "loss")[-1] < 0.6 * curve(result, "loss")[0]
    seen = observed(result)
    counts = {"completions": 24, "finished": 24, "different": 24, "kept": 24}
    assert seen["teacher_completions"].payload == {"value": 1.0, "unit": "share", "n": 24, "context": counts}
    assert seen["rows"].about["dataset"] == result.artifacts["generated"]
    assert result.artifacts["generated"].label == "teacher@generated"
    tokens = [metrics["teacher_tokens"] for _, _, metrics in context.rows if "teacher_tokens" in metrics]
    assert tokens == sorted(tokens)
    own = len(hrmctl_models.load(student.path, "cpu").tokenizer)
    assert seen["vocabulary"].payload["value"] == own != len(hrmctl_models.load(teacher.path, "cpu").tokenizer)


def test_held_rows_are_never_asked_nor_trained_on(tmp_path: Path, teacher: Artifact) -> None:
    # The key of these is the problem's text and not their prompt, so the prompts alone would be held out otherwise.
    rows = [
        {"task_id": i, "text": row["prompt"], "code": f"def f(n):\n{row['completion']}", "test_list": ["assert f(1)"]}
        for i, row in enumerate(ROWS)
    ]
    data = write_rows(tmp_path / "d.jsonl", rows)
    params = DistillParams(**SHORT, init="gpt2-micro", sampling_temperature=1.5, samples=4, validation_split=0.25)
    read = [(row, is_held(row, 0.25)) for row in Reader(data.path, "auto", Chat())]
    held = [row.pairs[0] for row, out in read if out]
    with_other_keys = [row for row, out in read if out != is_held(replace(row, key=key_of(row.pairs[0][0])), 0.25)]
    assert held
    assert with_other_keys
    teacher_says = {row.pairs[0][0] for row, out in read if not out}
    found = generated(hrmctl_models.load(teacher.path, "cpu"), [data], params, make_context(tmp_path / "g"))
    assert {json.loads(line)["prompt"] for line in found.path.read_text().splitlines()} <= teacher_says
    assert found.held is not None
    kept = [json.loads(line) for line in found.held.read_text().splitlines()]
    assert [(row["prompt"], row["completion"]) for row in kept] == held


def test_held_rows_validate(tmp_path: Path, teacher: Artifact) -> None:
    params = DistillParams(**{**SHORT, "steps": 2}, init="gpt2-micro", sampling_temperature=0, validation_split=0.25)
    result, _ = distill(tmp_path, params, teacher=teacher)
    rows = [row for row in Reader(tmp_path / "data.jsonl", "auto", Chat()) if is_held(row, 0.25)]
    assert {row["prompt"] for row in _rows(result)}.isdisjoint(row.pairs[0][0] for row in rows)
    assert len(_rows(result)) == len(ROWS) - len(rows)
    seen = observed(result)
    assert seen["validation_overlap"].payload["value"] == 0
    assert len(curve(result, "val_loss")) == 1
    assert seen["training"].about["dataset"] == result.artifacts["generated"]
    assert seen["training"].about["prompts"].label == "tiny@train"


def test_unfinished_and_repeated_completions_are_left_out_and_counted(tmp_path: Path, teacher: Artifact) -> None:
    params = DistillParams(**SHORT, init="hrm-tiny", samples=6, sampling_temperature=1.5)
    result, _ = distill(tmp_path, params, teacher=teacher)
    counts = observed(result)["teacher_completions"].payload["context"]
    assert counts["completions"] == 24 * 6 > counts["finished"] > counts["different"] == counts["kept"] > 24
    rows = _rows(result)
    assert len(rows) == counts["kept"] == len({(row["prompt"], row["completion"]) for row in rows})
    order = [row["prompt"] for row in ROWS]
    assert [order.index(row["prompt"]) for row in rows] == sorted(order.index(row["prompt"]) for row in rows)


def test_a_teacher_that_comes_to_no_end_is_told(tmp_path: Path, teacher: Artifact) -> None:
    params = DistillParams(**{**SHORT, "max_new_tokens": 2}, init="hrm-tiny")
    with pytest.raises(StageError, match=r"none of the teacher's completions.*raise max_new_tokens 2"):
        distill(tmp_path, params, teacher=teacher)


def test_an_interrupted_generation_goes_on_to_the_same_rows(tmp_path: Path, teacher: Artifact) -> None:
    class Ending(RecordingContext):
        def progress(self, done: int, total: int, **metrics: float) -> None:
            super().progress(done, total, **metrics)
            if "teacher_tokens" in metrics and done >= 1:
                raise Cancelled

    params = DistillParams(**SHORT, init="hrm-tiny", sampling_temperature=1.5)
    whole, _ = distill(tmp_path / "whole", params, teacher=teacher)
    with pytest.raises(Cancelled):
        distill(tmp_path / "cut", params, Ending(make_context(tmp_path / "cut").scratch), teacher=teacher)
    assert not (tmp_path / "cut/scratch/generated.jsonl").exists()
    result, context = distill(tmp_path / "cut", params, teacher=teacher)
    assert context.rows[0][0] >= 1
    assert _rows(result) == _rows(whole)
    assert weights(result) == weights(whole)


def test_finished_rows_are_not_written_again(tmp_path: Path, teacher: Artifact) -> None:
    params = DistillParams(**SHORT, init="hrm-tiny")
    first, _ = distill(tmp_path, params, teacher=teacher)
    (tmp_path / "scratch/completions.jsonl").unlink()
    (tmp_path / "scratch/checkpoint.pt").unlink()
    second, context = distill(tmp_path, params, teacher=teacher)
    assert not [metrics for _, _, metrics in context.rows if "teacher_tokens" in metrics]
    assert weights(first) == weights(second)


def _task(row: dict[str, str], number: int, right: bool) -> dict[str, Any]:
    sign = row["completion"].split()[2]
    k = int(row["completion"].split()[3])
    value = {"+": 20 + k, "-": 20 - k, "*": 20 * k}[sign]
    return {
        "task_id": f"t/{number}",
        "prompt": row["prompt"],
        "prefix": row["prompt"],
        "completion": row["completion"],
        "entry_point": "f",
        "tests": [f"assert f(20) == {value if right else value + 1}"],
    }


@pytest.mark.skipif(not probe().acceptable, reason="programs cannot be contained here")
def test_only_completions_that_pass_their_tests_are_kept(tmp_path: Path, teacher: Artifact) -> None:
    data = write_rows(tmp_path / "d.jsonl", [_task(row, i, i % 3 > 0) for i, row in enumerate(ROWS)])
    params = DistillParams(**SHORT, init="hrm-tiny", sampling_temperature=0, verify=True)
    result, _ = distill(tmp_path, params, teacher=teacher, data=data)
    assert [row["prompt"] for row in _rows(result)] == [row["prompt"] for i, row in enumerate(ROWS) if i % 3]
    assert observed(result)["teacher_completions"].payload["context"]["kept"] == 16
    assert observed(result)["teacher_completions"].payload["value"] == pytest.approx(16 / 24)


def test_rows_without_tests_cannot_be_verified(tmp_path: Path, teacher: Artifact) -> None:
    rows = [{**_task(ROWS[0], 0, True), "tests": []}]
    params = DistillParams(**SHORT, init="hrm-tiny", verify=True)
    with pytest.raises(StageError, match=r"d\.jsonl"):
        distill(tmp_path, params, teacher=teacher, data=write_rows(tmp_path / "d.jsonl", rows))
