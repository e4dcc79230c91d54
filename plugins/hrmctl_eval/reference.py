"""Perplexity as transformers computes it, in plain code: the second opinion on `hrmctl_models.perplexity`.

The tokens are the same; nothing of hrmctl's loading of weights, batching, windows or loss is used. Each sequence goes
through the model alone and unpadded, and the loss is the one that the model itself returns for `labels`, as in
transformers' guide "Perplexity of fixed-length models".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hrmctl_models.loading import load_tokenizer
from transformers import AutoModelForCausalLM

from hrmctl_eval.texts import Pairs, Texts

_IGNORED = -100
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True, slots=True)
class Reference:
    """Perplexity over `tokens` scored tokens of `texts` texts, and the fingerprint of every tensor by its name."""

    value: float
    tokens: int
    texts: int
    skipped: int
    tensors: dict[str, str]


def of_transformers(
    folder: Path,
    what: Pairs | Texts,
    device: str,
    dtype: str,
    window: int | None,
    stride: int | None,
    check: Callable[[], None],
) -> Reference:
    """Load the folder with transformers alone and score `what`; `check` is called after each sequence.

    There must be a token to score.
    """
    tokenizer = load_tokenizer(folder)
    precision = dtype if dtype == "auto" else getattr(torch, dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=precision, **_LOCAL).to(device).eval()
    positions = getattr(model.config, "max_position_embeddings", None)
    marks = getattr(model.config, "prefix_lm", False) and tokenizer("x").get("token_type_ids")
    both_ways = isinstance(what, Pairs) and 1 in (marks or ())
    window = window or min(positions or 1024, 1024)
    nats, tokens, scored = 0.0, 0, set()
    for number, (ids, labels) in _labelled(what, tokenizer, positions, window, stride or max(1, window // 2)):
        count = sum(label != _IGNORED for label in labels[1:])
        if not count:
            continue
        row, targets = torch.tensor([ids], device=device), torch.tensor([labels], device=device)
        # A prefix language model is told which tokens are its prompt.
        prompt = {"token_type_ids": (targets == _IGNORED).long()} if both_ways else {}
        with torch.no_grad():
            loss = model(input_ids=row, labels=targets, **prompt).loss
        nats, tokens = nats + float(loss) * count, tokens + count
        scored.add(number)
        check()
    value = math.exp(nats / tokens)
    return Reference(value, tokens, len(scored), len(what) - len(scored), fingerprints(model))


_Labelled = Iterator[tuple[int, tuple[list[int], list[int]]]]


def _labelled(what: Pairs | Texts, tokenizer: Any, positions: int | None, window: int, stride: int) -> _Labelled:
    """Token ids and labels of every sequence to score, with the number of its text."""
    if isinstance(what, Texts):
        for number, text in enumerate(what.texts):
            for one in _windows(list(tokenizer(text, verbose=False).input_ids), window, stride):
                yield number, one
        return
    for number, (prompt, completion) in enumerate(zip(what.prompts, what.completions, strict=True)):
        head, tail = _encoded(tokenizer, prompt, completion)
        if positions is None or len(head) + len(tail) <= positions:
            yield number, (head + tail, [_IGNORED] * len(head) + tail)


def _encoded(tokenizer: Any, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """A prompt's own tokens, and those that follow it in the whole; the completion's own where one would straddle."""
    head, whole = list(tokenizer(prompt).input_ids), list(tokenizer(prompt + completion).input_ids)
    if whole[: len(head)] == head:
        return head, whole[len(head) :]
    return head, list(tokenizer(completion, add_special_tokens=False).input_ids)


def _windows(ids: Sequence[int], window: int, stride: int) -> Iterator[tuple[list[int], list[int]]]:
    """The guide's loop: of each window only what no earlier window scored has labels."""
    previous = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        part = list(ids[begin:end])
        known = len(part) - (end - previous)
        yield part, [_IGNORED] * known + part[known:]
        previous = end
        if end == len(ids):
            return


def fingerprints(model: torch.nn.Module) -> dict[str, str]:
    """For each tensor of the model's state, by name, what changes with any bit, shape or type of it."""
    return {name: _fingerprint(tensor) for name, tensor in model.state_dict().items()}


def _fingerprint(tensor: torch.Tensor) -> str:
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return f"{tensor.dtype} {list(tensor.shape)} {hashlib.sha256(raw).hexdigest()}"
