"""Choosing next tokens: greedy, temperature, top-k, top-p, repetition penalty, noise of a sample's own."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hrmctl import InputError, StageError

_NUCLEUS = 1024


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; raises InputError on values out of range.

    Applied in this order, which is that of transformers: repetition penalty (Keskar et al. 2019:
    logits of tokens already in prompt or completion are divided by it where positive, else
    multiplied), temperature (0 is greedy), top-k (the k most probable tokens, 0 or None for all),
    top-p (Holtzman et al. 2020: the smallest set of most probable tokens whose mass reaches p).
    Tokens that tie with the last one kept are kept.
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise InputError(f"temperature {self.temperature} is not between 0 and 100")
        if self.top_k is not None and self.top_k < 0:
            raise InputError(f"top_k {self.top_k} is negative; 0 takes every token")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p} is not in (0, 1]")
        if not 0 < self.repetition_penalty <= 100:
            raise InputError(f"repetition_penalty {self.repetition_penalty} is not in (0, 100]; 1 is none")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


def sample_digest(seed: int, prompt: Sequence[int], sample: int) -> bytes:
    """Thirty-two bytes that stand for one sample of a prompt (token ids) under a seed, and for no other."""
    return hashlib.sha256(struct.pack(f"<qq{len(prompt)}q", seed, sample, *prompt)).digest()


def noise_of(seed: int, prompt: Sequence[int], sample: int, steps: int) -> np.ndarray:
    """Uniform numbers in [0, 1), one a step, that depend on the seed, the prompt's tokens and the sample alone.

    Shape (steps,); fewer steps give a prefix of more. Counter-based (Philox, Salmon et al. 2011), so
    neither the size nor the order of batches can change them.
    """
    key = np.frombuffer(sample_digest(seed, prompt, sample)[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(steps)


def choose(
    logits: torch.Tensor, settings: Sampling, noise: np.ndarray | None = None, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """Next token ids, shape (rows,), for logits of shape (rows, vocabulary).

    `noise` holds one uniform number a row (not used by greedy); a token is drawn by inverting the
    cumulative distribution in order of token id, so that only a near-tie at the boundary of two
    tokens can tell one batch size from another. `seen` (rows, vocabulary) marks the tokens that the
    repetition penalty applies to. Raises StageError where a row has no finite logit to choose.
    """
    scores = logits.float()
    if not bool(torch.isfinite(scores.amax(-1)).all()):
        raise StageError(
            "the model's logits are NaN or infinite, so nothing can be generated; "
            "its weights are broken or overflow in this dtype (try float32)"
        )
    if seen is not None:
        scores = torch.where(seen, _penalised(scores, settings.repetition_penalty), scores)
    if settings.greedy:
        return scores.argmax(-1)
    assert noise is not None, "sampling needs noise"
    return _invert(filtered(scores, settings), noise)


def _penalised(scores: torch.Tensor, penalty: float) -> torch.Tensor:
    return torch.where(scores < 0, scores * penalty, scores / penalty)


def filtered(scores: torch.Tensor, settings: Sampling) -> torch.Tensor:
    """Probabilities, shape (rows, vocabulary), after temperature, top-k and top-p; rows sum to 1."""
    scores = scores / settings.temperature
    if settings.top_k and settings.top_k < scores.shape[-1]:
        least = scores.topk(settings.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    probabilities = scores.softmax(-1)
    if settings.top_p >= 1:
        return probabilities
    kept = torch.where(probabilities < _nucleus_floor(probabilities, settings.top_p), 0.0, probabilities)
    return kept / kept.sum(-1, keepdim=True)


def _nucleus_floor(probabilities: torch.Tensor, mass: float) -> torch.Tensor:
    """The least probability inside the nucleus of each row, shape (rows, 1)."""
    # A nucleus is nearly always small: a full sort of a large vocabulary would cost more than the model.
    head = min(_NUCLEUS, probabilities.shape[-1])
    ranked = probabilities.topk(head, dim=-1).values
    if head < probabilities.shape[-1] and bool((ranked.sum(-1) < mass).any()):
        ranked = probabilities.sort(-1, descending=True).values
    before = ranked.cumsum(-1) - ranked
    return torch.where(before < mass, ranked, torch.inf).amin(-1, keepdim=True)


def _invert(probabilities: torch.Tensor, noise: np.ndarray) -> torch.Tensor:
    # MPS has no float64; there the largest draw is kept below 1 after rounding.
    wide = torch.float32 if probabilities.device.type == "mps" else torch.float64
    ceiling = 1 - torch.finfo(wide).eps
    cumulative = probabilities.cumsum(-1, dtype=wide)
    draws = torch.from_numpy(np.minimum(noise, ceiling)).to(wide).to(probabilities.device).unsqueeze(-1)
    return torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True).squeeze(-1)
