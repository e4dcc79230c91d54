"""Distillation by logits: the formula, the control without a teacher, and a teacher that is only looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_models.loading import build
from hrmctl_training import outputs
from hrmctl_training.causal import CausalObjective
from hrmctl_training.distillation import DistillObjective, mean_losses
from hrmctl_training.examples import Example, collate
from torch.nn import functional

from hrmctl.testing import make_context

IDS = {"bos": 1, "eos": 2, "pad": 0}
VOCABULARY = 40
EXAMPLES = [
    Example(1, [5, 6, 7, 8, 9, 2], 3),
    Example(2, [11, 12, 13, 2], 1),
    Example(3, [30, 31, 32, 33, 34, 35, 36, 2], 2),
]
BATCH = collate(EXAMPLES, 1)
LEARNED = 3 + 3 + 6


def _model(seed: int, name: str = "llama-tiny", vocabulary: int = VOCABULARY) -> Any:
    return build(name, vocabulary, IDS, seed)


def _logits(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    wanted = BATCH.labels[:, 1:] != -100
    return model(input_ids=BATCH.input_ids).logits[:, :-1][wanted], BATCH.labels[:, 1:][wanted]


def _objective(alpha: float = 0.3, temperature: float = 2.5, **models: Any) -> DistillObjective:
    student, teacher = models.get("student", _model(0)), models.get("teacher", _model(1, "gpt2-micro"))
    return DistillObjective(student, teacher, 1, VOCABULARY, temperature, alpha)


@pytest.mark.parametrize(("student", "teacher"), [("llama-tiny", "gpt2-micro"), ("hrm-tiny", "qwen2-tiny")])
def test_the_loss_is_hintons(student: str, teacher: str) -> None:
    small, large = _model(0, student), _model(1, teacher)
    objective = _objective(student=small, teacher=large)
    found = objective.loss(BATCH)
    (own, targets), (taught, _) = _logits(small), _logits(large)
    p, q = (taught / 2.5).softmax(-1), (own / 2.5).softmax(-1)
    divergence = 2.5**2 * (p * (p.log() - q.log())).sum().item()
    hard = -own.log_softmax(-1).gather(1, targets[:, None]).sum().item()
    assert found.total.item() == pytest.approx(0.3 * divergence + 0.7 * hard, rel=1e-5)
    sums = {name: (float(value), n) for name, (value, n) in found.sums.items()}
    assert sums["kd_loss"] == pytest.approx((divergence, LEARNED), rel=1e-4)
    assert sums["hard_loss"] == pytest.approx((hard, LEARNED), rel=1e-5)


def test_temperature_leaves_the_size_of_the_gradient(tmp_path: Any) -> None:
    norms = []
    for temperature in (4.0, 40.0):
        student = _model(0)
        _objective(1.0, temperature, student=student).loss(BATCH).total.backward()
        norms.append(sum(p.grad.square().sum().item() for p in student.parameters() if p.grad is not None))
    assert norms[0] == pytest.approx(norms[1], rel=0.2)


def test_alpha_0_is_training_without_a_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = _model(0), _model(1)
    objective = _objective(0.0, student=student, teacher=teacher)
    monkeypatch.setattr(teacher, "forward", lambda **_: pytest.fail("the teacher was asked"))
    found = objective.loss(BATCH)
    found.total.backward()
    gradients = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    student.zero_grad()
    plain = CausalObjective(student, 1).loss(BATCH)
    plain.total.backward()
    assert torch.equal(found.total, plain.total)
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, student.parameters(), strict=True))


def test_the_teacher_is_only_looked_at() -> None:
    teacher = _model(1, "gpt2-micro").train()
    for module in teacher.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    objective = _objective(teacher=teacher)
    first, second = objective.loss(BATCH), objective.loss(BATCH)
    first.total.backward()
    assert torch.equal(first.total, second.total)
    assert not teacher.training
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in teacher.named_parameters())


def test_a_student_that_is_its_teacher_agrees_with_it() -> None:
    objective = _objective(student=_model(0), teacher=_model(0))
    with torch.no_grad():
        found = objective.evaluate(BATCH)
    sums = {name: float(value) / n for name, (value, n) in found.sums.items()}
    assert sums["kd_loss"] == pytest.approx(0, abs=1e-5)
    assert sums["teacher_agreement"] == 1
    assert sums["teacher_accuracy"] == sums["token_accuracy"]


def test_validation_is_the_hard_loss_whatever_alpha() -> None:
    student, teacher = _model(0), _model(1, "gpt2-micro")
    objective = _objective(1.0, student=student, teacher=teacher)
    with torch.no_grad():
        found = objective.evaluate(BATCH)
    plain = CausalObjective(student, 1).evaluate(BATCH)
    assert torch.equal(found.total, plain.total)
    assert {name: (float(v), n) for name, (v, n) in found.sums.items()}.items() >= {
        name: (float(v), n) for name, (v, n) in plain.sums.items()
    }.items()
    (own, targets), (taught, _) = _logits(student), _logits(teacher)
    sums = {name: float(value) for name, (value, _) in found.sums.items()}
    assert sums["teacher_loss"] == pytest.approx(functional.cross_entropy(taught, targets, reduction="sum").item())
    assert sums["teacher_agreement"] == (own.argmax(-1) == taught.argmax(-1)).sum().item()
    assert sums["teacher_accuracy"] == (taught.argmax(-1) == targets).sum().item()


@pytest.mark.parametrize(("own_rows", "taught_rows"), [(VOCABULARY, VOCABULARY + 24), (VOCABULARY + 24, VOCABULARY)])
def test_embeddings_beyond_the_vocabulary_are_left_out(own_rows: int, taught_rows: int) -> None:
    student, teacher = _model(0, vocabulary=own_rows), _model(1, "gpt2-micro", taught_rows)
    found = _objective(1.0, 1.0, student=student, teacher=teacher).loss(BATCH).total.item()
    (own, _), (taught, _) = _logits(student), _logits(teacher)
    p, q = (logits[:, :VOCABULARY].log_softmax(-1) for logits in (taught, own))
    assert found == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-5)


@pytest.mark.parametrize("name", ["hrm-tiny", "gpt2-micro"])
def test_chunks_change_no_gradient_and_bound_both_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = _model(0, name), _model(1)
    objective = _objective(student=student, teacher=teacher)

    def step() -> tuple[float, list[torch.Tensor], int]:
        made: list[int] = []
        hooks = [
            m.get_output_embeddings().register_forward_hook(lambda _, inputs, out: made.append(out.numel()))
            for m in (student, teacher)
        ]
        student.zero_grad()
        loss = objective.loss(BATCH).total
        loss.backward()
        for hook in hooks:
            hook.remove()
        return loss.item(), [p.grad for p in student.parameters() if p.grad is not None], max(made)

    whole, gradients, most = step()
    monkeypatch.setattr(outputs, "_CHUNK_ELEMENTS", 5 * VOCABULARY)
    parts, of_parts, fewer = step()
    assert (most, fewer) == (LEARNED * VOCABULARY, 5 * VOCABULARY)
    assert parts == pytest.approx(whole, rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, of_parts, strict=True))


def test_difficulty_is_the_mean_loss_of_each_row(tmp_path: Path) -> None:
    model = _model(0)
    found = mean_losses(model, EXAMPLES, 1, 2, "losses.jsonl", make_context(tmp_path))
    for example, loss in zip(EXAMPLES, found.tolist(), strict=True):
        alone = CausalObjective(model, 1)
        batch = alone.collate([example])
        assert loss == pytest.approx(alone.loss(batch).total.item() / alone.units(batch), rel=1e-5)
    assert len(set(found.tolist())) == 3
