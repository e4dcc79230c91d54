"""Choice of tokens: the filters are those of transformers, draws follow the distribution, noise is a sample's own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hrmctl_models.generate import generate
from hrmctl_models.sampling import Sampling, choose, filtered, noise_of
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.plugins.generate.helpers import PROMPTS, tiny


def _logits(rows: int, vocabulary: int, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(4)) * spread


@pytest.mark.parametrize("vocabulary", [50, 3000])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.7, 5, 1.0), (1.3, 0, 0.8), (0.8, 10, 0.5), (2.5, 0, 0.999), (1.0, 9999, 0.01)],
)
def test_filters_are_those_of_transformers(temperature: float, top_k: int, top_p: float, vocabulary: int) -> None:
    logits = _logits(6, vocabulary, spread=0.5)
    warpers: list[Any] = [TemperatureLogitsWarper(temperature)]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = LogitsProcessorList(warpers)(torch.zeros(6, 1, dtype=torch.long), logits).softmax(-1)
    torch.testing.assert_close(filtered(logits, Sampling(temperature, top_k, top_p)), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("shift", [10, 0, -10])
def test_repetition_penalty_is_that_of_transformers(shift: float) -> None:
    logits = _logits(4, 40) + shift
    seen_ids = logits.topk(3).indices
    expected = RepetitionPenaltyLogitsProcessor(1.7)(seen_ids, logits).argmax(-1)
    seen = torch.zeros(4, 40, dtype=torch.bool).scatter(1, seen_ids, True)
    assert torch.equal(choose(logits, Sampling(0, repetition_penalty=1.7), seen=seen), expected)


@pytest.mark.parametrize("family", ["gpt2-micro", "qwen2-tiny"])
def test_repetition_penalty_in_the_engine_is_that_of_generate(family: str) -> None:
    loaded = tiny(family)
    ours = generate(loaded, PROMPTS, temperature=0, repetition_penalty=1.5, max_new_tokens=24, batch_size=5)
    for prompt, samples in zip(PROMPTS, ours, strict=True):
        ids = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = loaded.model.generate(ids, do_sample=False, repetition_penalty=1.5, max_new_tokens=24)
        assert list(samples[0].tokens) == output[0, ids.shape[1] :].tolist()


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -torch.inf, 0.5]])
    expected = logits.softmax(-1)[0]
    noise = np.random.default_rng(0).random(40_000)
    chosen = choose(logits.expand(40_000, -1), Sampling(1.0), noise)
    counts = Counter(chosen.tolist())
    assert counts[3] == 0
    for token in (0, 1, 2, 4):
        assert counts[token] / 40_000 == pytest.approx(expected[token].item(), abs=0.01)


def test_the_ends_of_the_unit_interval_choose_tokens_that_can_be() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 0.0, -torch.inf]])
    assert choose(logits, Sampling(1.0), np.array([0.0])).tolist() == [1]
    assert choose(logits, Sampling(1.0), np.array([np.nextafter(1.0, 0.0)])).tolist() == [2]


def test_noise_belongs_to_seed_prompt_and_sample() -> None:
    noise = noise_of(7, [1, 2, 3], 0, 10)
    assert np.array_equal(noise, noise_of(7, [1, 2, 3], 0, 10))
    assert np.array_equal(noise[:4], noise_of(7, [1, 2, 3], 0, 4))
    others = [noise_of(8, [1, 2, 3], 0, 10), noise_of(7, [1, 2, 4], 0, 10), noise_of(7, [1, 2, 3], 1, 10)]
    assert not any(np.array_equal(noise, other) for other in others)
    assert all(0 <= value < 1 for value in noise)
