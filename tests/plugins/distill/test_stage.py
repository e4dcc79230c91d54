"""The stage as a whole: what it hands over and reports, where it refuses, and the control without a teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
from hrmctl_distill.params import DistillParams
from hrmctl_distill.stage import run
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.stage import run as finetune
from tokenizers import normalizers

from hrmctl import Artifact, InputError, StageError
from hrmctl.testing import make_artifact, make_context
from tests.plugins.distill.helpers import ROWS, curve, distill, observed, weights, write_model, write_rows

SHORT: dict[str, Any] = {"steps": 8, "batch": 6, "max_length": 64, "lr": 4e-3}


def test_alpha_0_is_plain_training_to_the_last_bit(tmp_path: Path, teacher: Artifact) -> None:
    student = write_model(tmp_path / "student", "hrm-tiny", seed=3)
    validation = write_rows(tmp_path / "v.jsonl", ROWS[::5], "tiny@validation")
    settings: dict[str, Any] = {**SHORT, "eval_interval": 3}
    inputs = {"model": student, "validation": validation}
    control, _ = distill(tmp_path / "a", DistillParams(**settings, alpha=0), teacher=teacher, **inputs)
    data = write_rows(tmp_path / "a" / "data.jsonl")
    plain = finetune(FinetuneParams(**settings), {"data": (data,), **inputs}, make_context(tmp_path / "b"))
    assert weights(control) == weights(plain)
    for name in ("loss", "grad_norm", "val_loss", "val_token_accuracy"):
        assert curve(control, name) == curve(plain, name), name
    taught, _ = distill(tmp_path / "c", DistillParams(**settings, alpha=0.5), teacher=teacher, **inputs)
    assert weights(taught) != weights(plain)


def test_evidence_tells_teacher_and_student_apart(tmp_path: Path, teacher: Artifact) -> None:
    validation = write_rows(tmp_path / "v.jsonl", ROWS[::5], "tiny@validation")
    params = DistillParams(**SHORT, init="hrm-tiny", eval_interval=4, alpha=0.9, temperature=3)
    result, _ = distill(tmp_path, params, teacher=teacher, validation=validation)
    seen = observed(result)
    series = seen["training"].payload["series"]
    for name in ("kd_loss", "hard_loss"):
        assert series[name]["steps"] == list(range(1, 9))
    for kd, hard, loss in zip(*(curve(result, name) for name in ("kd_loss", "hard_loss", "loss")), strict=True):
        assert loss == pytest.approx(0.9 * kd + 0.1 * hard, rel=1e-5)
    assert series["val_loss"]["steps"] == series["val_teacher_agreement"]["steps"] == [4, 8]
    assert curve(result, "val_kd_loss")[1] < curve(result, "val_kd_loss")[0]
    taught = curve(result, "val_teacher_loss")
    assert taught[0] == taught[1] < curve(result, "val_loss")[1]
    assert result.artifacts["model"].label == "hrm-tiny"
    parameters = seen["teacher_parameters"].payload
    assert parameters["value"] == hrmctl_models.load(teacher.path, "cpu").parameters
    assert parameters["context"] == {"method": "logits", "alpha": 0.9, "temperature": 3}
    assert seen["parameters"].payload["value"] == hrmctl_models.load(result.artifacts["model"].path, "cpu").parameters
    assert seen["training"].about == {
        "model": result.artifacts["model"],
        "teacher": teacher,
        "dataset": seen["rows"].about["dataset"],
    }
    json.dumps([o.payload for o in result.evidence], allow_nan=False)


def test_no_data_set_of_several_is_the_one(tmp_path: Path, teacher: Artifact) -> None:
    data = (write_rows(tmp_path / "a.jsonl", ROWS[:12], "a"), write_rows(tmp_path / "b.jsonl", ROWS[12:], "b"))
    params = DistillParams(**{**SHORT, "steps": 1}, init="gpt2-micro")
    result = run(params, {"data": data, "teacher": teacher}, make_context(tmp_path))
    for name in ("training", "val_loss", "train_flops", "teacher_parameters"):
        for seen in (o for o in result.evidence if o.name == name):
            about = {"model": result.artifacts["model"], "teacher": teacher, "dataset-1": data[0], "dataset-2": data[1]}
            assert seen.about == about, name


def test_a_bfloat16_teacher_teaches_nearly_the_same(tmp_path: Path, teacher: Artifact) -> None:
    results = [
        distill(tmp_path / dtype, DistillParams(**SHORT, init="hrm-tiny", teacher_dtype=dtype), teacher=teacher)[0]
        for dtype in ("float32", "bfloat16")
    ]
    a, b = (curve(result, "kd_loss") for result in results)
    assert a != b
    assert a == pytest.approx(b, rel=0.05)
    assert hrmctl_models.load(results[1].artifacts["model"].path, "cpu").model.dtype.is_floating_point
    assert "float32" in str(hrmctl_models.load(results[1].artifacts["model"].path, "cpu").model.dtype)


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({}, False, "none of them given"),
        ({"init": "hrm-tiny", "layers": 1}, False, "init and layers given"),
        ({"init": "hrm-tiny"}, True, "init and model given"),
        ({"layers": 3}, False, "over the teacher's 2"),
        ({"init": "hrm-tiny", "max_length": 5000}, False, "positions"),
        ({"init": "hrm-tiny", "method": "progressive", "phases": 9}, False, "9 phases need as many"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, teacher: Artifact, settings: dict[str, Any], given: bool, message: str
) -> None:
    inputs = {"model": write_model(tmp_path / "m", "hrm-tiny", 1)} if given else {}
    with pytest.raises(InputError, match=message):
        distill(tmp_path, DistillParams(**{**SHORT, **settings}), teacher=teacher, **inputs)
    assert not (tmp_path / "scratch" / "model").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "progressive", "flops": 1e9}, "not flops"),
        ({"method": "progressive", "mix": (1.0, 2.0)}, "leave one out"),
        ({"verify": True}, "set method to text"),
        (
            {"method": "progressive", "progression": "layers", "early_stopping": 2, "eval_interval": 5},
            "before the last phase",
        ),
    ],
)
def test_parameters_without_a_meaning_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillParams(**settings)


def test_logits_need_one_tokenizer(tmp_path: Path, teacher: Artifact) -> None:
    other = write_model(tmp_path / "m", "hrm-tiny", 1, text="something else altogether, " * 9)
    with pytest.raises(InputError, match=r"vocabularies of student and teacher differ in \d+ tokens"):
        distill(tmp_path, DistillParams(**SHORT), teacher=teacher, model=other)


def test_one_vocabulary_read_differently_is_another_tokenizer(tmp_path: Path, teacher: Artifact) -> None:
    loaded = hrmctl_models.load(write_model(tmp_path / "m", "hrm-tiny", 1).path, "cpu")
    loaded.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[attr-defined]
    hrmctl_models.save(loaded.model, loaded.tokenizer, tmp_path / "m")
    student = make_artifact(tmp_path / "m", "model", "lower")
    same, _ = distill(tmp_path / "same", DistillParams(**SHORT), teacher=teacher, model=student)
    assert len(curve(same, "loss")) == 8
    shouting = write_rows(tmp_path / "d.jsonl", [*ROWS, {"prompt": "ADD", "completion": "x"}])
    with pytest.raises(InputError, match="encode 'ADD' differently"):
        distill(tmp_path / "apart", DistillParams(**SHORT), teacher=teacher, model=student, data=shouting)


def test_preferences_are_not_distilled(tmp_path: Path, teacher: Artifact) -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    with pytest.raises(InputError, match="the data are preferences"):
        distill(
            tmp_path, DistillParams(**SHORT, init="hrm-tiny"), teacher=teacher, data=write_rows(tmp_path / "d", rows)
        )


def test_a_bad_row_is_named(tmp_path: Path, teacher: Artifact) -> None:
    data = write_rows(tmp_path / "d.jsonl", [*ROWS[:2], {"prompt": "a"}])
    for method in ("logits", "text"):
        params = DistillParams(**SHORT, init="hrm-tiny", method=method)
        with pytest.raises(StageError, match=r"d\.jsonl:3"):
            distill(tmp_path / method, params, teacher=teacher, data=data)


def test_a_variant_is_part_of_the_label(tmp_path: Path) -> None:
    teacher = write_model(tmp_path / "teacher", "hrm-tiny", seed=1)
    result, _ = distill(tmp_path, DistillParams(init="hrm-tiny", variant="control", steps=1, alpha=0), teacher=teacher)
    assert result.artifacts["model"].label == "hrm-tiny@control"
    with pytest.raises(ValueError, match="cannot be a variant"):
        DistillParams(init="hrm-tiny", variant="a/b")
