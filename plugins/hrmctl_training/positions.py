"""What a causal language model reads of a batch, and which positions it makes logits of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from hrmctl_training.examples import Batch


def packed(batch: Batch) -> dict[str, torch.Tensor]:
    """What tells a model where the rows of a packed batch begin; nothing where it is not packed."""
    return {} if batch.position_ids is None else {"position_ids": batch.position_ids[:, :-1]}


@contextmanager
def only_positions(model: nn.Module, wanted: torch.Tensor) -> Iterator[list[bool]]:
    """Within this, the model computes logits only where `wanted` (rows, length) is true, as (chosen, vocabulary).

    The output layer is wide and most positions are prompt or padding. The list that is yielded is
    empty where the model has no output layer of its own to do this with.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
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
