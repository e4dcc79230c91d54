"""Distillation by logits: a student learns the distribution that a teacher gives each token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from hrmctl import Context
from hrmctl_training.causal import CausalObjective
from hrmctl_training.examples import IGNORED, Batch, Example, collate
from hrmctl_training.objective import Loss
from hrmctl_training.once import computed_once
from hrmctl_training.outputs import Output, in_chunks, log_probs

# What each token brings: divergence, hard loss, the teacher's hard loss, agreement, both top-1 hits.
_KD, _HARD, _TEACHER, _AGREE, _RIGHT = range(5)


class DistillObjective:
    """Knowledge distillation (Hinton et al. 2015), summed over the learned tokens:

    alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) * cross-entropy

    T is the temperature; T^2 keeps the size of the gradient independent of it. With alpha 0 the loss is that of
    `CausalObjective`, computed by it: the control that has no teacher. Logits are compared over the first
    `vocabulary` tokens, which must be those of both models, a chunk of positions at a time.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        teacher: Any,
        pad: int,
        vocabulary: int,
        temperature: float,
        alpha: float,
    ) -> None:
        self.causal = CausalObjective(model, pad)
        self.student = Output(model)
        self.teacher = Output(teacher.eval().requires_grad_(False))
        self.vocabulary = vocabulary
        self.temperature = temperature
        self.alpha = alpha

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Right-padded rows, (rows, length)."""
        return self.causal.collate(examples)

    def units(self, batch: Batch) -> int:
        """The learned tokens of the batch."""
        return self.causal.units(batch)

    def loss(self, batch: Batch) -> Loss:
        """The mixed loss, with `kd_loss` (its T^2 included) and `hard_loss` apart."""
        if self.alpha == 0:
            return self.causal.loss(batch)
        tokens = self.compare(batch)
        kd = self.temperature**2 * tokens[:, _KD].sum()
        hard = tokens[:, _HARD].sum()
        n = len(tokens)
        sums = {"kd_loss": (kd.detach(), n), "hard_loss": (hard.detach(), n)}
        return Loss(self.alpha * kd + (1 - self.alpha) * hard, sums)

    def evaluate(self, batch: Batch) -> Loss:
        """The hard loss, so that validations with and without a teacher compare, and what the two models share."""
        plain = self.causal.evaluate(batch)
        tokens = self.compare(batch)
        n = len(tokens)
        sums = {
            "kd_loss": (self.temperature**2 * tokens[:, _KD].sum(), n),
            "teacher_loss": (tokens[:, _TEACHER].sum(), n),
            "teacher_agreement": (tokens[:, _AGREE].sum(), n),
            "teacher_accuracy": (tokens[:, _RIGHT].sum(), n),
        }
        return Loss(plain.total, {**plain.sums, **sums})

    def compare(self, batch: Batch) -> torch.Tensor:
        """Divergence, hard loss, teacher's loss, agreement and teacher's hit of each learned token: (learned, 5)."""
        targets = batch.labels[:, 1:]
        wanted = targets != IGNORED
        with torch.no_grad():
            teacher_hidden, teacher_head = self.teacher.at(batch, wanted)
        hidden, head = self.student.at(batch, wanted)

        def of_chunk(own: torch.Tensor, taught: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                teacher = teacher_head(taught)[:, : self.vocabulary].float()
            return self._compare(head(own)[:, : self.vocabulary].float(), teacher, target)

        return in_chunks(of_chunk, self.vocabulary, hidden, teacher_hidden, targets[wanted])

    def _compare(self, student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        t = self.temperature
        kd = functional.kl_div(
            (student / t).log_softmax(-1), (teacher / t).log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)
        hard = functional.cross_entropy(student, target, reduction="none")
        taught = functional.cross_entropy(teacher, target, reduction="none")
        top = teacher.argmax(-1)
        return torch.stack([kd, hard, taught, (student.argmax(-1) == top).float(), (top == target).float()], -1)

    def state(self) -> Mapping[str, Any]:
        """Nothing is carried from step to step."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is carried from step to step."""


def mean_losses(model: Any, examples: Sequence[Any], pad: int, batch: int, name: str, ctx: Context) -> torch.Tensor:
    """The mean loss of the learned tokens of each example, (examples,), float32: how hard the model finds it.

    Computed once, and kept in the journal `name` of the scratch folder.
    """
    device = next(model.parameters()).device
    output = Output(model.eval())

    @torch.no_grad()
    def of_places(places: list[int]) -> torch.Tensor:
        rows = collate([examples[place] for place in places], pad).to(device)
        learned = (rows.labels[:, 1:] != IGNORED).sum(1)
        return -log_probs(output, rows).sum(1) / learned

    return computed_once(name, examples, batch, of_places, ctx).squeeze(1)
