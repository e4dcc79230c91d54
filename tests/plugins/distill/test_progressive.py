"""Students made of some of the teacher's layers, and training in phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hrmctl_models
import numpy as np
import pytest
import torch
from hrmctl_distill.params import DistillParams
from hrmctl_distill.progressive import PROJECTIONS, Curriculum, LayerwiseObjective, evenly, shortened
from hrmctl_models.loading import build
from hrmctl_training.distillation import DistillObjective
from hrmctl_training.examples import Example, collate
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import Artifact, InputError
from tests.plugins.distill.helpers import IDS, curve, distill, observed

BATCH = collate([Example(1, [5, 6, 7, 8, 9, 2], 3), Example(2, [11, 12, 13, 2], 1)], 1)


def test_evenly() -> None:
    assert evenly(2, 12) == [6, 12]
    assert evenly(3, 12) == [4, 8, 12]
    assert evenly(12, 12) == list(range(1, 13))
    assert evenly(4, 2) == [1, 1, 2, 2]


@pytest.mark.parametrize("name", ["gpt2-tiny", "qwen2-tiny", "llama-tiny"])
def test_all_layers_are_the_teacher(name: str) -> None:
    teacher = build(name, 40, IDS, 0)
    whole = shortened(teacher, teacher.config.num_hidden_layers)
    ids = torch.arange(3, 12)[None]
    assert torch.equal(whole(input_ids=ids).logits, teacher(input_ids=ids).logits)


def test_half_of_the_layers_are_every_second_one() -> None:
    teacher = build("gpt2-tiny", 40, IDS, 0)
    student = shortened(teacher, 2)
    layers = teacher.transformer.h
    with torch.no_grad():
        ids = torch.arange(3, 12)[None]
        teacher.transformer.h = torch.nn.ModuleList([layers[1], layers[3]])
        teacher.config.num_hidden_layers = 2
        assert torch.equal(student(input_ids=ids).logits, teacher(input_ids=ids, use_cache=False).logits)
    assert student.config.num_hidden_layers == 2


def test_a_recurrent_teacher_has_no_stack_to_shorten() -> None:
    with pytest.raises(InputError, match="hrm_text has no one stack"):
        shortened(build("hrm-tiny", 40, IDS, 0), 1)


def test_a_shortened_student_is_handed_over_as_such(tmp_path: Path, teacher: Artifact) -> None:
    params = DistillParams(steps=3, batch=6, max_length=64, layers=1)
    result, _ = distill(tmp_path, params, teacher=teacher)
    assert result.artifacts["model"].label == "teacher-1-layers"
    student = hrmctl_models.load(result.artifacts["model"].path, "cpu").model
    assert student.config.num_hidden_layers == 1
    assert len(student.transformer.h) == 1


def _curriculum(count: int, batch: int, phases: int, passes: int, seed: int = 1) -> Curriculum:
    examples = [Example(i, [3] * (2 + i * 7 % 11), 1) for i in range(count)]
    losses = torch.tensor([float((i * 5) % count) for i in range(count)])
    return Curriculum(examples, losses, batch, seed, phases, passes)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(2, 6), st.integers(6, 50))
def test_phases_widen_from_the_easiest_rows(count: int, batch: int, phases: int, passes: int) -> None:
    order = _curriculum(count, batch, phases, passes)
    easiest = torch.tensor([float((i * 5) % count) for i in range(count)]).numpy().argsort(kind="stable").tolist()
    counted = [order.phase_at(position) for position in range(passes)]
    assert counted == sorted(counted)
    assert set(counted) == set(range(phases))
    assert max(map(counted.count, range(phases))) - min(map(counted.count, range(phases))) <= 1
    for position, phase in enumerate(counted):
        pool = easiest[: -(-count * (phase + 1) // phases)]
        assert set(order.indices(position)) <= set(pool)
    for phase in range(phases):
        shown = [i for p, of in enumerate(counted) if of == phase for i in order.indices(p)]
        pool = easiest[: -(-count * (phase + 1) // phases)]
        if len(shown) >= len(pool) + batch:
            assert set(shown) == set(pool)


def test_the_curriculum_depends_on_seed_and_position_alone() -> None:
    order = _curriculum(30, 4, 3, 24)
    walked = [order.indices(position) for position in range(24)]
    for position in (23, 0, 11, 12, 5):
        assert _curriculum(30, 4, 3, 24).indices(position) == walked[position] == order.indices(position)
    assert [e.line for e in order.at(7)] == walked[7]
    assert [_curriculum(30, 4, 3, 24, seed=2).indices(p) for p in range(24)] != walked


def test_difficulty_is_the_teachers(tmp_path: Path, teacher: Artifact) -> None:
    params = DistillParams(steps=12, batch=4, max_length=64, init="hrm-tiny", method="progressive", phases=3)
    result, context = distill(tmp_path, params, teacher=teacher)
    batches = [json.loads(line) for line in (context.scratch / "difficulty.jsonl").read_text().splitlines()]
    kept = np.concatenate([np.frombuffer(bytes.fromhex(batch["values"]), np.float32) for batch in batches])
    assert sorted(place for batch in batches for place in batch["places"]) == list(range(24))
    assert (kept > 0).all()
    assert len(set(kept.tolist())) > 12
    seen = observed(result)
    assert seen["teacher_parameters"].payload["context"]["progression"] == "difficulty"
    assert seen["rows"].payload["context"]["drawn"] == seen["examples_seen"].payload["value"] == 48


def _layerwise(student: Any, teacher: Any, phases: int = 3, passes: int = 9) -> LayerwiseObjective:
    return LayerwiseObjective(DistillObjective(student, teacher, 1, 40, 2.0, 0.5), phases, passes, seed=0)


def test_projections_are_the_seeds() -> None:
    def first(seed: int) -> torch.Tensor:
        student, teacher = build("gpt2-micro", 40, IDS, 0), build("gpt2-tiny", 40, IDS, 1)
        LayerwiseObjective(DistillObjective(student, teacher, 1, 40, 2.0, 0.5), 3, 9, seed)
        return next(getattr(student, PROJECTIONS).parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_phases_reach_up_layer_by_layer_and_end_in_logits() -> None:
    student, teacher = build("gpt2-micro", 40, IDS, 0), build("gpt2-tiny", 40, IDS, 1)
    objective = _layerwise(student, teacher)
    # Half and all of four layers, of which each phase must reach the projection of.
    assert objective.pairs == [(1, 2), (2, 4)]
    reached, names = [], []
    for _ in range(9):
        student.zero_grad()
        found = objective.loss(BATCH)
        found.total.backward()
        projections = getattr(student, PROJECTIONS)
        reached.append([p.weight.grad is not None for p in projections])
        names.append([name for name in found.sums if name.endswith("loss")])
    assert reached == [[True, False]] * 3 + [[True, True]] * 3 + [[False, False]] * 3
    assert names == [["hidden_loss"]] * 6 + [["kd_loss", "hard_loss"]] * 3
    assert objective.state() == {}
    objective.at(0)
    assert "hidden_loss" in objective.loss(BATCH).sums
    objective.detach()
    assert not hasattr(student, PROJECTIONS)


@pytest.mark.parametrize("name", ["gpt2-micro", "hrm-tiny", "qwen2-tiny"])
def test_a_student_that_is_its_teacher_has_nothing_to_match(name: str) -> None:
    objective = _layerwise(build(name, 40, IDS, 0), build(name, 40, IDS, 0))
    assert objective.loss(BATCH).total.item() == pytest.approx(0, abs=1e-5)
    assert not hasattr(objective.student, PROJECTIONS)
    other = _layerwise(build(name, 40, IDS, 0), build(name, 40, IDS, 1))
    assert other.loss(BATCH).total.item() > 1


def test_hidden_states_are_matched_and_the_projections_stay_behind(tmp_path: Path, teacher: Artifact) -> None:
    params = DistillParams(
        steps=24,
        batch=8,
        max_length=64,
        lr=4e-3,
        init="gpt2-tiny",
        method="progressive",
        progression="layers",
        phases=2,
    )
    result, _ = distill(tmp_path, params, teacher=teacher)
    hidden = curve(result, "hidden_loss")
    assert len(hidden) == 12
    assert hidden[0] == pytest.approx(2, abs=0.3)
    assert hidden[-1] < 0.6 * hidden[0]
    assert curve(result, "phase") == [1] * 12 + [2] * 12
    path = result.artifacts["model"].path
    assert PROJECTIONS.encode() not in (path / "model.safetensors").read_bytes()[:100_000]
    assert observed(result)["parameters"].payload["value"] == hrmctl_models.load(path, "cpu").parameters
