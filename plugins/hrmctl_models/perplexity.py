"""Perplexity of completions given prompts, and of running text with a sliding window.

Perplexity is exp(mean negative log-likelihood in nats of the scored tokens), the mean taken over
tokens and not over texts. Log-probabilities are computed in float32 and summed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from hrmctl import InputError, StageError
from hrmctl_models.decoding import vocabulary_of
from hrmctl_models.generate import context_window, encode_prompts, reads_both_ways
from hrmctl_models.loading import LoadedModel
from hrmctl_models.tokenizers import encode_pairs

_LOGITS = 2**26
_UNSCORED = -100


class NothingToScore(StageError):
    """No text has a token to score within the model's context."""


@dataclass(frozen=True, slots=True)
class Perplexity:
    """`value` over `tokens` scored tokens of `texts` texts, whose total loss is `nats`.

    `skipped` texts could not be scored: longer than the context window, or without a token to score.
    `correct` tokens were those of the greatest logit, given the true ones before them; in `exact` of the
    scored sequences (texts, or windows of running text) all of them were.
    """

    value: float
    nats: float
    tokens: int
    texts: int
    skipped: int = 0
    correct: int = 0
    exact: int = 0


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over scored sequences: loss, tokens, tokens predicted, and sequences predicted wholly."""

    nats: float = 0.0
    tokens: int = 0
    correct: int = 0
    exact: int = 0

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.nats + other.nats,
            self.tokens + other.tokens,
            self.correct + other.correct,
            self.exact + other.exact,
        )


@dataclass(frozen=True, slots=True)
class _Scored:
    """A sequence of which the tokens from `start` on are scored; the first token never is."""

    ids: Sequence[int]
    start: int
    prompt: int = 0


def completion_perplexity(
    loaded: LoadedModel,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    batch_size: int = 32,
    each_batch: Callable[[], None] | None = None,
) -> Perplexity:
    """Perplexity of the completions' own tokens (no end token), each given its prompt.

    Texts are encoded as for training (`encode_pairs`). `each_batch` is called after each batch. Raises
    NothingToScore, or StageError where the result is not finite.
    """
    _, tails = encode_pairs(loaded.tokenizer, list(prompts), list(completions))
    heads = encode_prompts(loaded.tokenizer, prompts)
    window = context_window(loaded.model) or math.inf
    pairs = list(zip(heads, tails, strict=True))
    fitting = [
        _Scored([*head, *tail], start=len(head), prompt=len(head))
        for head, tail in pairs
        if tail and len(head) + len(tail) <= window
    ]
    sums = _score(loaded, fitting, batch_size, each_batch, both_ways=reads_both_ways(loaded))
    return _result(sums, len(fitting), len(pairs) - len(fitting))


def perplexity(
    loaded: LoadedModel,
    texts: str | Sequence[str] | Sequence[int],
    *,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    each_batch: Callable[[], None] | None = None,
) -> Perplexity:
    """Perplexity of one text, several texts apart, or the token ids of one text, with a sliding window.

    Windows of `window` tokens (default: the model's context, at most 1,024) start every `stride`
    tokens (default: half a window); each scores the tokens that no earlier window scored, with the
    rest as context. The first token of a window has no context and is not scored, so a stride equal
    to the window drops one token a window. `each_batch` is called after each batch. Raises InputError where
    stride or window are out of range, NothingToScore, or StageError where the result is not finite.
    """
    most = context_window(loaded.model)
    window = min(most or 1024, 1024) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if window < 2 or (most is not None and window > most):
        raise InputError(f"window {window} is not between 2 and the model's context of {most} tokens")
    if not 1 <= stride <= window:
        raise InputError(f"stride {stride} is not between 1 and the window of {window} tokens")
    every = _token_lists(loaded, texts)
    scored = [part for ids in every for part in _windows(ids, window, stride)]
    skipped = sum(len(ids) < 2 for ids in every)
    sums = _score(loaded, scored, batch_size, each_batch, both_ways=False)
    return _result(sums, len(every) - skipped, skipped)


def _token_lists(loaded: LoadedModel, texts: str | Sequence[str] | Sequence[int]) -> list[list[int]]:
    if isinstance(texts, str):
        return [list(loaded.tokenizer(texts, verbose=False)["input_ids"])]
    if all(isinstance(item, str) for item in texts):
        return [list(loaded.tokenizer(text, verbose=False)["input_ids"]) for text in texts]
    return [[int(token) for token in texts]]


def _windows(ids: Sequence[int], window: int, stride: int) -> Iterator[_Scored]:
    done = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        if end - begin > 1:
            yield _Scored(ids[begin:end], done - begin)
        done = end
        if end == len(ids):
            return


def _score(
    loaded: LoadedModel,
    sequences: list[_Scored],
    batch_size: int,
    each_batch: Callable[[], None] | None,
    *,
    both_ways: bool,
) -> _Sums:
    sums = _Sums()
    training = loaded.model.training
    loaded.model.train(False)
    try:
        for batch in _batches(loaded, sequences, batch_size):
            sums += _score_batch(loaded, batch, both_ways=both_ways)
            if each_batch:
                each_batch()
    finally:
        loaded.model.train(training)
    return sums


def _batches(loaded: LoadedModel, sequences: list[_Scored], batch_size: int) -> Iterator[list[_Scored]]:
    """Batches of similar lengths whose logits stay within a fixed size."""
    vocabulary = vocabulary_of(loaded.model)
    ranked = sorted(sequences, key=lambda s: -len(s.ids))
    at = 0
    while at < len(ranked):
        size = max(1, min(batch_size, _LOGITS // (vocabulary * len(ranked[at].ids))))
        yield ranked[at : at + size]
        at += size


@torch.inference_mode()
def _score_batch(loaded: LoadedModel, batch: list[_Scored], *, both_ways: bool) -> _Sums:
    longest = len(batch[0].ids)
    device = loaded.model.device
    # Padding on the right is out of sight of every real token, so a token of the text can serve.
    ids = torch.tensor([[*s.ids, *[s.ids[-1]] * (longest - len(s.ids))] for s in batch], device=device)
    places = torch.arange(longest, device=device)
    starts = torch.tensor([[max(s.start, 1)] for s in batch], device=device)
    ends = torch.tensor([[len(s.ids)] for s in batch], device=device)
    targets = ids.masked_fill((places < starts) | (places >= ends), _UNSCORED)[:, 1:]
    extra: dict[str, Any] = {}
    if both_ways:
        extra["token_type_ids"] = (places < torch.tensor([[s.prompt] for s in batch], device=device)).long()
    logits = loaded.model(input_ids=ids, use_cache=False, **extra).logits[:, :-1].float()
    losses = cross_entropy(logits.transpose(1, 2), targets, ignore_index=_UNSCORED, reduction="none")
    scored, hits = targets != _UNSCORED, logits.argmax(-1) == targets
    exact = (hits | ~scored).all(1) & scored.any(1)
    return _Sums(math.fsum(losses.flatten().tolist()), int(scored.sum()), int(hits.sum()), int(exact.sum()))


def _result(sums: _Sums, texts: int, skipped: int) -> Perplexity:
    if not sums.tokens:
        raise NothingToScore("perplexity has no token to score; the texts are empty or longer than the model's context")
    mean = sums.nats / sums.tokens
    if not math.isfinite(mean) or mean > 700:
        raise StageError(f"perplexity is not a finite number (mean loss {mean} nats); the model's weights are broken")
    return Perplexity(math.exp(mean), sums.nats, sums.tokens, texts, skipped, sums.correct, sums.exact)
