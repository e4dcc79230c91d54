"""The objective of a causal language model: the cross-entropy of each learned token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from hrmctl_training.examples import IGNORED, Batch, Example, collate
from hrmctl_training.objective import Loss


class CausalObjective:
    """Next-token cross-entropy, natural logarithm, summed over the tokens whose label is not ignored.

    `pad` fills the end of a row. No token looks to its right, so any id will do; one that the model
    does not take for its pad token spares it a mask.
    """

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        self.model = model
        self.pad = pad

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Right-padded rows, (rows, length)."""
        return collate(examples, self.pad)

    def units(self, batch: Batch) -> int:
        """The learned tokens of the batch."""
        return int((batch.labels != IGNORED).sum())

    def loss(self, batch: Batch) -> Loss:
        """The summed loss over the learned tokens."""
        logits, targets = self.logits(batch)
        return Loss(functional.cross_entropy(logits.float(), targets, reduction="sum"))

    def evaluate(self, batch: Batch) -> Loss:
        """The summed loss, and how many learned tokens and how many whole rows are the likeliest ones."""
        logits, targets = self.logits(batch)
        total = functional.cross_entropy(logits.float(), targets, reduction="sum")
        wanted = batch.labels[:, 1:] != IGNORED
        right = torch.zeros_like(wanted)
        right[wanted] = logits.argmax(-1) == targets
        whole = (right | ~wanted).all(1)
        return Loss(
            total,
            {
                "token_accuracy": (right.sum(), targets.numel()),
                "exact_accuracy": (whole.sum(), len(batch.lines)),
            },
        )

    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits (learned, vocabulary) and the targets (learned,) of the learned tokens."""
        targets = batch.labels[:, 1:]
        wanted = targets != IGNORED
        with only_positions(self.model, wanted) as selected:
            logits = self.model(input_ids=batch.input_ids[:, :-1], use_cache=False).logits
        return (logits if selected else logits[wanted]), targets[wanted]

    def state(self) -> Mapping[str, Any]:
        """Nothing is carried from step to step."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is carried from step to step."""


@contextmanager
def only_positions(model: nn.Module, wanted: torch.Tensor) -> Iterator[list[bool]]:
    """Within this, the model computes logits only where `wanted` (rows, length) is true, as (chosen, vocabulary).

    The output layer is wide and most positions are prompt or padding. The list that is yielded is
    empty where the model has no output layer of its own to do this with.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    selected: list[bool] = []

    def choose(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if inputs[0].shape[:2] != wanted.shape:
            return inputs
        selected.append(True)
        return (inputs[0][wanted], *inputs[1:])

    handle = head.register_forward_pre_hook(choose) if head is not None else None
    try:
        yield selected
    finally:
        if handle is not None:
            handle.remove()
