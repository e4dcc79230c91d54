"""The output layer on its own, so that logits over the vocabulary need never be held for all positions at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hrmctl_training.examples import IGNORED, Batch
from hrmctl_training.positions import only_positions, packed

# Logits of one chunk: 16 MiB in float32, wide enough to keep a processor's matrix units busy.
_CHUNK_ELEMENTS = 1 << 22

Head = Callable[[torch.Tensor], torch.Tensor]
# Several tokens, as that of the padding may have an embedding of zeros, which look alike behind anything.
_PROBE = torch.arange(8).unsqueeze(0)


class Output:
    """A causal language model seen as hidden states and an output layer that makes logits of them.

    Where something follows the output layer (a soft cap, a scale), which a few tokens tell, the logits
    themselves take the place of the hidden states, and the identity that of the output layer.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._apart = _ends_with_head(model)

    def at(self, batch: Batch, wanted: torch.Tensor) -> tuple[torch.Tensor, Head]:
        """Hidden states (chosen, width) where `wanted` (rows, length - 1) holds, and the output layer.

        Position i predicts the token at i + 1; the last token of a row is not read.
        """
        inputs = inputs_of(batch)
        if self._apart:
            return _hidden(self.model, inputs, wanted), self.model.get_output_embeddings()
        with only_positions(self.model, wanted) as selected:
            logits = self.model(**inputs, use_cache=False).logits
        return (logits if selected else logits[wanted]), _identity


def inputs_of(batch: Batch) -> dict[str, torch.Tensor]:
    """What the model reads of a batch: all but the last token of each row, and the positions of packed rows."""
    return {"input_ids": batch.input_ids[:, :-1], **packed(batch)}


def _identity(hidden: torch.Tensor) -> torch.Tensor:
    return hidden


def _hidden(model: Any, read: dict[str, torch.Tensor], wanted: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = []

    def take(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        found.append(inputs[0][wanted])
        return (inputs[0][:, :0], *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(take)
    try:
        model(**read, use_cache=False)
    finally:
        handle.remove()
    return found[0]


@torch.no_grad()
def _ends_with_head(model: Any) -> bool:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        return False
    made: list[torch.Tensor] = []
    handle = head.register_forward_hook(lambda _, inputs, output: made.append(output))
    training = model.training
    model.eval()
    try:
        logits = model(input_ids=_PROBE.to(next(model.parameters()).device), use_cache=False).logits
    finally:
        model.train(training)
        handle.remove()
    return len(made) == 1 and made[0].shape == logits.shape and torch.equal(made[0].to(logits.dtype), logits)


def in_chunks(function: Callable[..., torch.Tensor], vocabulary: int, *tensors: torch.Tensor) -> torch.Tensor:
    """`function` of the rows of `tensors`, a chunk of rows at a time; its rows are put together again.

    A chunk holds as many rows as make a few million logits. Nothing that `function` makes of a chunk
    is kept for the backward pass, which computes it again; it must draw no random numbers.
    """
    rows = max(1, _CHUNK_ELEMENTS // vocabulary)
    if len(tensors[0]) <= rows:
        return function(*tensors)
    parts = zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)
    made = [checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat(made)


def log_probs(output: Output, batch: Batch) -> torch.Tensor:
    """Log-probability of each labelled token, 0 elsewhere: (rows, length - 1), float32."""
    targets = batch.labels[:, 1:]
    wanted = targets != IGNORED
    hidden, head = output.at(batch, wanted)

    def of_chunk(part: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -functional.cross_entropy(head(part).float(), target, reduction="none")

    vocabulary = int(output.model.get_input_embeddings().weight.shape[0])
    found = in_chunks(of_chunk, vocabulary, hidden, targets[wanted])
    return torch.zeros(wanted.shape, device=found.device).masked_scatter(wanted, found)
