"""Perplexity against a straightforward computation with transformers' own loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hrmctl_models import encode_pair
from hrmctl_models.loading import LoadedModel
from hrmctl_models.perplexity import NothingToScore, completion_perplexity, perplexity

from hrmctl import InputError, StageError
from tests.plugins.generate.helpers import FAMILIES, PROMPTS, greedy_of_transformers, of_config, tiny, tokenizer

COMPLETIONS = [f"    x = {i}\n" * (1 + i % 3) + "    return x\n" for i in range(len(PROMPTS))]


def _loss(loaded: LoadedModel, ids: list[int], labels: list[int]) -> tuple[float, int]:
    with torch.no_grad():
        output = loaded.model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]))
    count = sum(label != -100 for label in labels[1:])
    return output.loss.item() * count, count


@pytest.mark.parametrize("family", FAMILIES)
def test_completions_given_prompts(family: str) -> None:
    loaded = tiny(family)
    nats, tokens = 0.0, 0
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        head, tail = encode_pair(loaded.tokenizer, prompt, completion)
        loss, count = _loss(loaded, head + tail, [-100] * len(head) + tail)
        nats, tokens = nats + loss, tokens + count
    found = completion_perplexity(loaded, PROMPTS, COMPLETIONS, batch_size=5)
    assert found.value == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert (found.tokens, found.texts, found.skipped) == (tokens, len(PROMPTS), 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_predicted_right(family: str) -> None:
    """The token of the greatest logit against the reference's, one pair at a time; some are the model's own words."""
    loaded = tiny(family)
    greedy = [loaded.tokenizer.decode(greedy_of_transformers(loaded, prompt, 3)[:3]) for prompt in PROMPTS[:6]]
    completions = [*greedy, *COMPLETIONS[6:]]
    correct, exact, tokens = 0, 0, 0
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        head, tail = encode_pair(loaded.tokenizer, prompt, completion)
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([head + tail])).logits[0]
        hits = [int(logits[len(head) + i - 1].argmax()) == token for i, token in enumerate(tail)]
        correct, exact, tokens = correct + sum(hits), exact + all(hits), tokens + len(hits)
    found = completion_perplexity(loaded, PROMPTS, completions, batch_size=5)
    assert (found.correct, found.exact, found.tokens) == (correct, exact, tokens)
    assert 0 < found.correct < found.tokens, "nothing is told apart"


@pytest.mark.parametrize(("window", "stride"), [(32, 32), (32, 16), (20, 7), (8, 1)])
@pytest.mark.parametrize("family", ["hrm-tiny", "gpt2-micro"])
def test_a_sliding_window_over_text(family: str, window: int, stride: int) -> None:
    """As in transformers' guide "Perplexity of fixed-length models"."""
    loaded = tiny(family)
    text = "".join(p + c for p, c in zip(PROMPTS, COMPLETIONS, strict=True))[:400]
    ids = loaded.tokenizer(text)["input_ids"]
    nats, tokens, previous = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        labels = list(ids[begin:end])
        labels[: len(labels) - (end - previous)] = [-100] * (len(labels) - (end - previous))
        if len(labels) > 1 and any(label != -100 for label in labels[1:]):
            loss, count = _loss(loaded, ids[begin:end], labels)
            nats, tokens = nats + loss, tokens + count
        previous = end
        if end == len(ids):
            break
    found = perplexity(loaded, text, window=window, stride=stride, batch_size=3)
    assert found.value == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert found.tokens == tokens
    assert perplexity(loaded, ids, window=window, stride=stride).value == pytest.approx(found.value, rel=1e-6)


def test_texts_apart_are_pooled_by_tokens() -> None:
    loaded = tiny("qwen2-tiny")
    texts = [COMPLETIONS[0], COMPLETIONS[2] + COMPLETIONS[5]]
    apart = [perplexity(loaded, text) for text in texts]
    pooled = perplexity(loaded, texts)
    assert pooled.tokens == apart[0].tokens + apart[1].tokens
    assert pooled.nats == pytest.approx(apart[0].nats + apart[1].nats)


def test_real_text(shared_data: Path) -> None:
    loaded = tiny("llama-tiny")
    text = (shared_data / "wikitext2-test.txt").read_text(encoding="utf-8")[:3000]
    narrow = perplexity(loaded, text, window=64, stride=32)
    wide = perplexity(loaded, text, window=256, stride=128)
    assert narrow.tokens == wide.tokens == len(loaded.tokenizer(text)["input_ids"]) - 1
    assert narrow.value != wide.value


def test_what_does_not_fit_is_counted_and_nothing_is_an_error() -> None:
    loaded = tiny("gpt2-micro")
    long = "x = 1\n" * 400
    found = completion_perplexity(loaded, [PROMPTS[0], long, PROMPTS[1]], [COMPLETIONS[0], "1", ""])
    assert (found.texts, found.skipped) == (1, 2)
    with pytest.raises(NothingToScore):
        completion_perplexity(loaded, [long], ["1"])
    with pytest.raises(NothingToScore):
        perplexity(loaded, "")


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (600, 10), (8, 9), (8, 0)])
def test_windows_out_of_range_are_refused(window: int, stride: int) -> None:
    with pytest.raises(InputError):
        perplexity(tiny("gpt2-micro"), "some text", window=window, stride=stride)


def test_broken_weights_are_an_error_not_a_number() -> None:
    from transformers import GPT2Config

    loaded = of_config(GPT2Config(vocab_size=len(tokenizer()), n_embd=32, n_layer=1, n_head=2, n_positions=64))
    with torch.no_grad():
        loaded.model.lm_head.weight[3] = float("nan")
    with pytest.raises(StageError, match="not a finite number"):
        completion_perplexity(loaded, ["def f():\n"], ["    return 1\n"])
