"""The objective of a causal language model: the cross-entropy of each learned token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from hrmctl_training.examples import IGNORED, Batch, Example, Packed, collate
from hrmctl_training.fused_loss import evaluation, summed_cross_entropy
from hrmctl_training.objective import Loss
from hrmctl_training.outputs import Output
from hrmctl_training.positions import only_positions, packed

__all__ = ["CausalObjective", "only_positions", "packed"]


class CausalObjective:
    """Next-token cross-entropy, natural logarithm, summed over the tokens whose label is not ignored.

    `pad` fills the end of a row. No token looks to its right, so any id will do; one that the model
    does not take for its pad token spares it a mask.
    """

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        self.model = model
        self.pad = pad
        self.output = Output(model)

    def collate(self, examples: Sequence[Example | Packed]) -> Batch:
        """Right-padded rows, (rows, length)."""
        return collate(examples, self.pad)

    def units(self, batch: Batch) -> int:
        """The learned tokens of the batch."""
        return int((batch.labels != IGNORED).sum())

    def loss(self, batch: Batch) -> Loss:
        """The summed loss over the learned tokens."""
        targets = batch.labels[:, 1:]
        wanted = targets != IGNORED
        hidden, head = self.output.at(batch, wanted)
        return Loss(summed_cross_entropy(hidden, head, targets[wanted]))

    def evaluate(self, batch: Batch) -> Loss:
        """The summed loss, and how many learned tokens and how many whole rows are the likeliest ones."""
        targets = batch.labels[:, 1:]
        wanted = targets != IGNORED
        hidden, head = self.output.at(batch, wanted)
        right = torch.zeros_like(wanted)
        total, right[wanted] = evaluation(hidden, head, targets[wanted])
        whole = (right | ~wanted).all(1)
        return Loss(
            total,
            {
                "token_accuracy": (right.sum(), len(hidden)),
                "exact_accuracy": (whole.sum(), len(batch.lines)),
            },
        )

    def state(self) -> Mapping[str, Any]:
        """Nothing is carried from step to step."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is carried from step to step."""
