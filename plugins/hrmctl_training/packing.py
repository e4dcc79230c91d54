"""Packing without padding: several rows in one row of a batch, each with positions and attention of its own.

Transformers' models see from position ids that start again where a new row begins, and mask attention between rows
(block-diagonal), as long as no attention mask is given. That this holds for a model is measured before it is used.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hrmctl import InputError
from hrmctl_training.examples import Example, Packed
from hrmctl_training.order import lengths_of, shuffled

_POOL = 4096
# Rounding in fp32, and in half precision a share of what seeing each other would change.
_TOLERANCE, _SHARE = 1e-3, 0.3
_PROBE = (5, 3, 7)


class PackedExamples(Sequence[Packed]):
    """Examples in packs of at most `length` tokens: best fit, the longest first, within shuffled pools.

    Which rows share a pack is a function of the seed alone (Johnson 1973: best fit decreasing needs at most 11/9 of the
    fewest packs, and four more).
    """

    def __init__(self, examples: Sequence[Example], length: int, seed: int) -> None:
        self.examples = examples
        lengths = lengths_of(examples)
        order = shuffled(len(examples), seed, "packing")
        packs: list[list[int]] = []
        for start in range(0, len(order), _POOL):
            packs += best_fit(lengths, order[start : start + _POOL], length)
        self._rows = np.fromiter((i for pack in packs for i in pack), np.int64, len(examples))
        self._ends = np.cumsum([len(pack) for pack in packs])
        self.lengths = np.add.reduceat(lengths[self._rows], np.concatenate([[0], self._ends[:-1]]))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Packed:  # type: ignore[override]
        end = int(self._ends[index])
        start = int(self._ends[index - 1]) if index else 0
        return Packed(tuple(self.examples[int(i)] for i in self._rows[start:end]))


def best_fit(lengths: np.ndarray, rows: np.ndarray, most: int) -> list[list[int]]:
    """The rows, given by their numbers, in packs of at most `most` tokens, by best fit decreasing."""
    packs: list[list[int]] = []
    # Free tokens and pack, in this order: the first that is wide enough is the one that fits best.
    free: list[tuple[int, int]] = []
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        length = int(lengths[row])
        place = bisect_left(free, (length, 0))
        if place == len(free):
            left, pack = most, len(packs)
            packs.append([])
        else:
            left, pack = free.pop(place)
        packs[pack].append(row)
        if left > length:
            insort(free, (left - length, pack))
    return packs


@torch.no_grad()
def check_packing(model: PreTrainedModel) -> None:
    """Raise InputError where a model gives a packed row other logits than the same row alone."""
    training, device = model.training, next(model.parameters()).device
    model.train(False)
    embeddings: Any = model.get_input_embeddings()
    vocabulary = embeddings.weight.shape[0]
    rows = [torch.arange(n, device=device).add(7 * n).remainder(vocabulary)[None] for n in _PROBE]
    positions = torch.cat([torch.arange(n, device=device) for n in _PROBE])[None]
    try:
        packed = model(input_ids=torch.cat(rows, 1), position_ids=positions, use_cache=False).logits
    except (TypeError, ValueError) as error:
        raise InputError(f"{_name(model)} takes no position ids ({error}); set packing to none") from error
    unmasked = model(input_ids=torch.cat(rows, 1), use_cache=False).logits
    alone = torch.cat([model(input_ids=row, use_cache=False).logits for row in rows], 1)
    model.train(training)
    difference = float((packed - alone).abs().max() / alone.abs().max())
    seen = float((unmasked - alone).abs().max() / alone.abs().max())
    if not difference < (_TOLERANCE if alone.dtype == torch.float32 else _SHARE * seen):
        raise InputError(
            f"{_name(model)} lets packed rows see each other: their logits differ by {difference:.2g} of the largest "
            "from those of the rows alone; set packing to none"
        )


def _name(model: PreTrainedModel) -> str:
    return str(model.config.model_type)
