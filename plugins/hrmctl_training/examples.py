"""Token ids of training rows, alone, in pairs and packed, and the batches that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hrmctl_training.order import Order, derived_seed, in_order

__all__ = ["IGNORED", "Batch", "Example", "Order", "Packed", "Preference", "collate", "derived_seed", "in_order"]

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one row; the loss is taken over `ids[start:]` without the half-open ranges `gaps`.

    `line` counts from 1 in the row's file. `gaps` are what lies between the answers of a conversation.
    """

    line: int
    ids: list[int]
    start: int
    gaps: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def parts(self) -> tuple[Example, ...]:
        """The rows that it is made of: itself."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows that lie one behind the other in one row of a batch, each with positions and attention of its own."""

    parts: tuple[Example, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, each with the prompt and an end token; its length is that of both."""

    line: int
    chosen: Example
    rejected: Example

    def __len__(self) -> int:
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True, slots=True)
class Batch:
    """`input_ids` and `labels` (rows, length), right-padded; labels are shifted by the model's loss, not here.

    `lines` are those of all rows of the data, more than rows of the tensors where these are packed. `position_ids`
    (rows, length) is there only then: it starts again at each packed row, by which transformers' models keep attention
    within the row, as long as they are given no attention mask.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    lines: tuple[int, ...]
    tokens: int
    position_ids: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        positions = None if self.position_ids is None else self.position_ids.to(device)
        return Batch(self.input_ids.to(device), self.labels.to(device), self.lines, self.tokens, positions)


def collate(examples: Sequence[Example | Packed], pad: int) -> Batch:
    """Right-pad examples into one batch; padding and prompts carry the ignored label."""
    width = max(len(example) for example in examples)
    input_ids = torch.full((len(examples), width), pad, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    packed = any(len(example.parts) > 1 for example in examples)
    position_ids = torch.zeros((len(examples), width), dtype=torch.long) if packed else None
    lines: list[int] = []
    for row, example in enumerate(examples):
        place = 0
        for part in example.parts:
            end = place + len(part)
            ids = torch.tensor(part.ids, dtype=torch.long)
            input_ids[row, place:end] = ids
            _learn(labels[row, place:end], part, ids)
            if position_ids is not None:
                position_ids[row, place:end] = torch.arange(len(part))
            lines.append(part.line)
            place = end
    tokens = sum(len(example) for example in examples)
    return Batch(input_ids, labels, tuple(lines), tokens, position_ids)


def _learn(labels: torch.Tensor, part: Example, ids: torch.Tensor) -> None:
    labels[part.start :] = ids[part.start :]
    for first, last in part.gaps:
        labels[first:last] = IGNORED
