"""Keys and values of many sequences in slots, where samples of one prompt share the prompt's own.

A sequence is a prompt (a slot of the prompt bank, computed once) and a tail of generated tokens (a row
of the tail bank). One step of attention reads each prompt once for all its samples, as one matrix
product, and each tail once: softmax is taken over both together, which is exact (the idea of shared
prefixes: Juravsky et al. 2024, "Hydragen"). Slots and rows need no padding to equal lengths, and
are added and taken away between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface, Cache

ATTENTION = "hrmctl_slots"
Pair = tuple[torch.Tensor, torch.Tensor]


class Bank:
    """For each layer keys and values of shape (slot, head, column, width); slots grow by need."""

    def __init__(self, columns: int):
        self.columns = columns
        self.size = 0
        self.layers: list[Pair] = []

    def reserve(self, size: int, like: Sequence[Pair]) -> None:
        """Have room for `size` slots of the heads, widths, dtype and device of `like`."""
        if size <= self.size:
            return
        size = max(size, 2 * self.size)
        old = self.layers or like
        self.layers = [(self._grown(keys, size), self._grown(values, size)) for keys, values in old]
        self.size = size

    def _grown(self, old: torch.Tensor, size: int) -> torch.Tensor:
        # Zeros, not empty memory: a masked column still takes part as 0 * value, and a stray NaN there would spread.
        new = old.new_zeros(size, old.shape[1], self.columns, old.shape[3])
        if self.size:
            new[: self.size] = old
        return new

    def move(self, sources: torch.Tensor, targets: torch.Tensor, reach: int) -> None:
        """Copy the first `reach` columns of slots over other slots."""
        for pair in self.layers:
            for states in pair:
                states[targets, :, :reach] = states[sources, :, :reach]


class SlotCache(Cache):
    """The cache that a model is given for one step: stores the new position and remembers the layer at work."""

    def __init__(self, prompt_columns: int, tail_columns: int):
        super().__init__(layers=[])
        self.prompts = Bank(prompt_columns)
        self.tails = Bank(tail_columns)
        self.layer = 0
        self.prompt_reach = 0
        self.tail_reach = 0
        self.rows = self.ages = self.places = torch.empty(0, dtype=torch.long)
        self.groups = (0, 0)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Pair:
        """Store one new token a row, shape (row, head, 1, width), at the end of its tail."""
        self.layer = layer_idx
        keys, values = self.tails.layers[layer_idx]
        keys[self.rows, :, self.ages] = key_states[:, :, 0]
        values[self.rows, :, self.ages] = value_states[:, :, 0]
        return key_states, value_states

    def seen_by(self, layer: int) -> tuple[Pair, Pair]:
        """Keys and values of the live prompts and of the live tails, up to the furthest column in use."""
        (prompt_keys, prompt_values), (tail_keys, tail_values) = self.prompts.layers[layer], self.tails.layers[layer]
        groups, rows = self.groups[0], len(self.rows)
        prompt = (slice(0, groups), slice(None), slice(0, self.prompt_reach))
        tail = (slice(0, rows), slice(None), slice(0, self.tail_reach))
        return (prompt_keys[prompt], prompt_values[prompt]), (tail_keys[tail], tail_values[tail])

    def by_prompt(self, states: torch.Tensor) -> torch.Tensor:
        """(row, head, query, width) to (prompt, head, rows of the prompt * query, width), gaps zero."""
        _, heads, queries, width = states.shape
        groups, most = self.groups
        grouped = states.new_zeros(groups * most, heads, queries, width)
        grouped[self.places] = states
        grouped = grouped.view(groups, most, heads, queries, width).transpose(1, 2)
        return grouped.reshape(groups, heads, most * queries, width)

    def by_row(self, states: torch.Tensor, queries: int) -> torch.Tensor:
        """The inverse of `by_prompt`."""
        groups, heads, _, width = states.shape
        apart = states.view(groups, heads, -1, queries, width).transpose(1, 2)
        return apart.reshape(-1, heads, queries, width)[self.places]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.prompt_reach + self.tail_reach

    @property
    def is_initialized(self) -> bool:
        return True


ACTIVE: ContextVar[SlotCache] = ContextVar("slots of the step being computed")


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token a row, query (row, head, 1, width), over prompts and tails of the active cache.

    `attention_mask` (row, 1, 1, prompt columns + tail columns) is added to the scores. Groups of
    query heads share a key head. Returns (row, 1, head, width). Raises TypeError on attention that is not this.
    """
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise TypeError("attention sinks and position biases are not known to slots")
    cache = ACTIVE.get()
    (prompt_keys, prompt_values), (tail_keys, tail_values) = cache.seen_by(cache.layer)
    rows, heads, _, width = query.shape
    shared = heads // tail_keys.shape[1]
    query = query.reshape(rows, -1, shared, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.cat(
        [
            cache.by_row(cache.by_prompt(query) @ prompt_keys.transpose(2, 3), shared),
            query @ tail_keys.transpose(2, 3),
        ],
        dim=-1,
    )
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    weights = (scores + attention_mask).softmax(-1, dtype=torch.float32).to(query.dtype)
    over_prompt, over_tail = torch.split(weights, [cache.prompt_reach, cache.tail_reach], dim=-1)
    output = cache.by_row(cache.by_prompt(over_prompt) @ prompt_values, shared) + over_tail @ tail_values
    return output.reshape(rows, 1, heads, -1), None


AttentionInterface.register(ATTENTION, slot_attention)
