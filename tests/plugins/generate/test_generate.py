"""The engine against transformers' own `generate`, and against itself in other batches and orders."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hrmctl_models import decoding
from hrmctl_models.generate import generate, iter_generate
from hrmctl_models.loading import LoadedModel
from transformers import (
    BloomConfig,
    Gemma2Config,
    GptOssConfig,
    LlamaConfig,
    Mamba2Config,
    MistralConfig,
    Qwen2Config,
    Qwen3NextConfig,
)

from hrmctl import InputError, StageError
from tests.plugins.generate.helpers import FAMILIES, IDS, PROMPTS, greedy_of_transformers, of_config, tiny, tokenizer

_SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _small(kind: Any, **more: Any) -> LoadedModel:
    return of_config(kind(vocab_size=len(tokenizer()), **{**_SMALL, **more}))


def _texts(results: list[list[Any]]) -> list[list[tuple[int, ...]]]:
    return [[sample.tokens for sample in samples] for samples in results]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_that_of_transformers_token_by_token(family: str) -> None:
    loaded = tiny(family)
    assert decoding.batches_exactly(loaded.model)
    ours = generate(loaded, PROMPTS, temperature=0, max_new_tokens=24, batch_size=7)
    theirs = [greedy_of_transformers(loaded, prompt, 24) for prompt in PROMPTS]
    assert [list(samples[0].tokens) for samples in ours] == theirs
    assert len({tuple(tokens) for tokens in theirs}) > len(PROMPTS) // 2


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_do_not_depend_on_batch_size_or_order(family: str) -> None:
    loaded = tiny(family)
    settings: dict[str, Any] = {"n": 3, "temperature": 0.9, "max_new_tokens": 16, "seed": 11}
    reference = _texts(generate(loaded, PROMPTS, batch_size=72, **settings))
    for batch_size in (1, 5, 64):
        assert _texts(generate(loaded, PROMPTS, batch_size=batch_size, **settings)) == reference
    order = list(range(len(PROMPTS)))
    random.Random(1).shuffle(order)
    shuffled = _texts(generate(loaded, [PROMPTS[i] for i in order], batch_size=10, **settings))
    assert [shuffled[order.index(i)] for i in range(len(PROMPTS))] == reference
    alone = _texts(generate(loaded, PROMPTS[4:5], batch_size=2, **settings))
    assert alone == reference[4:5]


def test_samples_differ_by_sample_seed_and_prompt_and_a_shorter_run_is_a_prefix() -> None:
    loaded = tiny("hrm-tiny")
    run = _texts(generate(loaded, PROMPTS[:4], n=4, max_new_tokens=12, seed=1))
    assert len({tokens for samples in run for tokens in samples}) == 16
    assert _texts(generate(loaded, PROMPTS[:4], n=4, max_new_tokens=12, seed=2)) != run
    fewer = _texts(generate(loaded, PROMPTS[:4], n=2, max_new_tokens=5, seed=1))
    assert fewer == [[tokens[:5] for tokens in samples[:2]] for samples in run]


def test_greedy_samples_are_generated_once() -> None:
    steps: list[int] = []
    results = list(
        iter_generate(tiny("hrm-tiny"), PROMPTS[:2], n=5, temperature=0, max_new_tokens=6, on_step=steps.append)
    )
    assert all(len(samples) == 5 and len(set(samples)) == 1 for _, samples in results)
    assert sum(steps) == sum(len(samples[0].tokens) for _, samples in results)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (MistralConfig, {"sliding_window": 6}),
        (Qwen2Config, {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
        (
            Gemma2Config,
            {"head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0},
        ),
    ],
)
def test_sliding_windows_and_soft_caps_share_a_batch(kind: Any, more: dict[str, Any]) -> None:
    loaded = _small(kind, **more)
    assert decoding.batches_exactly(loaded.model)
    ours = generate(loaded, PROMPTS[:6], temperature=0, max_new_tokens=20, batch_size=4)
    assert [list(s[0].tokens) for s in ours] == [greedy_of_transformers(loaded, p, 20) for p in PROMPTS[:6]]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (GptOssConfig, {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6}),
        (LlamaConfig, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}),
        (
            Qwen3NextConfig,
            {
                "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                "shared_expert_intermediate_size": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                "linear_key_head_dim": 16, "linear_value_head_dim": 16,
                "layer_types": ["linear_attention", "full_attention"],
            },
        ),
    ],
)  # fmt: skip
def test_what_slots_cannot_describe_runs_one_by_one_and_right(
    kind: Any, more: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    loaded = _small(kind, **more)
    ours = generate(loaded, PROMPTS[:3], n=2, temperature=0, max_new_tokens=12)
    assert "one sequence at a time" in caplog.text
    assert [list(s[0].tokens) for s in ours] == [greedy_of_transformers(loaded, p, 12) for p in PROMPTS[:3]]
    sampled = generate(loaded, PROMPTS[:3], n=2, max_new_tokens=6, batch_size=4)
    assert _texts(sampled) == _texts(generate(loaded, PROMPTS[:3], n=2, max_new_tokens=6, batch_size=1))


def test_position_biases_are_noticed() -> None:
    config = BloomConfig(
        vocab_size=len(tokenizer()), hidden_size=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2
    )
    loaded = of_config(config)
    assert not decoding.batches_exactly(loaded.model)
    ours = generate(loaded, PROMPTS[:3], temperature=0, max_new_tokens=12)
    assert [list(s[0].tokens) for s in ours] == [greedy_of_transformers(loaded, p, 12) for p in PROMPTS[:3]]


def test_a_wrong_mask_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("qwen2-tiny").model
    assert decoding.batches_exactly(model)
    monkeypatch.setattr(
        decoding.SlotDecoder, "_additive", lambda self, hidden: torch.zeros(hidden.shape)[:, None, None]
    )
    assert not decoding.batches_exactly(model)


def test_a_model_without_a_cache_is_refused() -> None:
    config = Mamba2Config(
        vocab_size=len(tokenizer()), hidden_size=64, num_hidden_layers=2, num_heads=8, head_dim=16, state_size=16,
        n_groups=1, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    with pytest.raises(StageError, match="no key-value cache"):
        generate(of_config(config), PROMPTS[:1])


def test_the_model_is_left_as_it_was() -> None:
    loaded = tiny("llama-tiny")
    before = loaded.model.config._attn_implementation
    loaded.model.train(True)
    try:
        assert _texts(generate(loaded, PROMPTS[:3], seed=5, max_new_tokens=8))
        assert loaded.model.training
    finally:
        loaded.model.train(False)
    assert loaded.model.config._attn_implementation == before


def test_bfloat16_generates() -> None:
    loaded = _small(Qwen2Config)
    loaded.model.to(torch.bfloat16)
    assert decoding.batches_exactly(loaded.model)
    results = generate(loaded, PROMPTS, n=2, max_new_tokens=8, batch_size=16)
    assert all(len(sample.tokens) >= 1 for samples in results for sample in samples)


def test_prefix_language_models_read_prompts_both_ways() -> None:
    from transformers import HrmTextConfig

    config = HrmTextConfig(
        vocab_size=len(tokenizer()), hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
        head_dim=16, H_cycles=2, L_cycles=1, prefix_lm=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    loaded = of_config(config)
    causal = generate(loaded, PROMPTS[:5], temperature=0, max_new_tokens=10)
    assert [list(s[0].tokens) for s in causal] == [greedy_of_transformers(loaded, p, 10) for p in PROMPTS[:5]]
    both = generate(loaded, PROMPTS[:5], temperature=0, max_new_tokens=10, both_ways=True)
    assert both != causal
    for prompt, samples in zip(PROMPTS, both, strict=False):
        ids = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = loaded.model.generate(ids, token_type_ids=torch.ones_like(ids), do_sample=False, max_new_tokens=10)
        assert list(samples[0].tokens) == output[0, ids.shape[1] :].tolist()


# --- how samples end --------------------------------------------------------------------------------


def _forced(loaded: LoadedModel, text: str, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """The same model, made to write `text` and then the end token, whatever the prompt."""
    ids = [*loaded.tokenizer(text)["input_ids"], IDS["eos"]]
    forward = loaded.model.forward
    prompt_lengths: dict[str, Any] = {}

    def steered(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        positions = kwargs.get("position_ids")
        steps = torch.zeros(len(output.logits), dtype=torch.long) if positions is None else positions[:, -1] + 1
        steps = steps if positions is None else steps - prompt_lengths["length"]
        for row, step in enumerate(steps.tolist()):
            output.logits[row] = 0
            output.logits[row, ..., ids[min(step, len(ids) - 1)]] = 100
        return output

    monkeypatch.setattr(loaded.model, "forward", steered)
    monkeypatch.setitem(decoding._TRUSTED, loaded.model, True)
    prompt_lengths["length"] = len(loaded.tokenizer(PROMPTS[0])["input_ids"])
    return loaded


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ((), "    return x + 1\n\ndef g():\n", "end"),
        (("\ndef",), "    return x + 1\n", "stop"),
        (("x +", "return"), "    ", "stop"),
        (("never",), "    return x + 1\n\ndef g():\n", "end"),
    ],
)
def test_stop_texts_cut_at_the_first(
    stop: tuple[str, ...], text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _forced(tiny("hrm-tiny"), "    return x + 1\n\ndef g():\n", monkeypatch)
    [[sample]] = generate(loaded, PROMPTS[:1], temperature=0, stop=stop, max_new_tokens=99)
    assert (sample.text, sample.reason, sample.finished) == (text, reason, True)


def test_a_stop_text_of_other_than_ascii_is_found_across_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = _forced(tiny("hrm-tiny"), "naïve → done and more", monkeypatch)
    [[sample]] = generate(loaded, PROMPTS[:1], temperature=0, stop=("→",), max_new_tokens=99)
    assert (sample.text, sample.reason) == ("naïve ", "stop")
    assert len(sample.tokens) < len(loaded.tokenizer("naïve → done and more")["input_ids"])


def test_completion_is_asked_after_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = _forced(tiny("hrm-tiny"), "    a = 1\n    return a\nprint(a)\nmore\n", monkeypatch)
    asked: list[str] = []

    def complete(index: int, text: str) -> bool:
        assert index == 0
        asked.append(text)
        return "print" in text

    [(_, [sample])] = iter_generate(loaded, PROMPTS[:1], temperature=0, max_new_tokens=99, complete=complete)
    assert sample.reason == "stop"
    assert sample.text.rstrip(" ") == "    a = 1\n    return a\nprint(a)\n"
    assert len(asked) == 3


def test_the_token_limit_and_the_end_of_the_window_end_a_sample() -> None:
    loaded = tiny("gpt2-micro")
    window = loaded.model.config.n_positions
    long = "x = 1\n" * 400
    tokens = loaded.tokenizer(long)["input_ids"]
    room = 3
    nearly = loaded.tokenizer.decode(tokens[: window - room])
    assert len(loaded.tokenizer(nearly)["input_ids"]) == window - room
    short, filled, refused = generate(loaded, [PROMPTS[0], nearly, long], temperature=0, max_new_tokens=8, n=2)
    assert [len(sample.tokens) for sample in short] == [8, 8]
    assert [(len(sample.tokens), sample.reason) for sample in filled] == [(room, "length")] * 2
    assert [(sample.text, sample.tokens, sample.reason) for sample in refused] == [("", (), "refused")] * 2
    assert list(filled[0].tokens) == greedy_of_transformers(loaded, nearly, room)


def test_the_end_token_is_counted_but_not_in_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = _forced(tiny("llama-tiny"), "    return 1\n", monkeypatch)
    [[sample]] = generate(loaded, PROMPTS[:1], temperature=0)
    assert sample.tokens[-1] == IDS["eos"]
    assert sample.text == "    return 1\n"


def test_finished_prompts_stream_out_before_the_rest() -> None:
    steps: list[int] = []
    results = iter_generate(tiny("hrm-tiny"), PROMPTS, n=2, max_new_tokens=12, batch_size=4, on_step=steps.append)
    next(results)
    first = len(steps)
    seen = [index for index, _ in results]
    assert first < len(steps) / 2
    assert len(seen) == len(PROMPTS) - 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0}, {"max_new_tokens": 0}, {"batch_size": -1}, {"temperature": -0.1}, {"temperature": float("nan")},
        {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"repetition_penalty": 0.0}, {"stop": ("",)},
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        iter_generate(tiny("hrm-tiny"), PROMPTS, **wrong)


def test_logits_that_are_not_finite_are_an_error() -> None:
    loaded = _small(LlamaConfig)
    with torch.no_grad():
        loaded.model.lm_head.weight[5] = float("nan")
    for temperature in (0, 1):
        with pytest.raises(StageError, match="NaN"):
            generate(loaded, PROMPTS[:1], temperature=temperature)


def test_no_prompt_gives_no_completion_and_an_empty_one_starts_from_the_begin_token() -> None:
    loaded = tiny("qwen2-tiny")
    assert generate(loaded, []) == []
    [[sample]] = generate(loaded, [""], temperature=0, max_new_tokens=5)
    output = loaded.model.generate(torch.tensor([[IDS["bos"]]]), do_sample=False, max_new_tokens=5)
    assert list(sample.tokens) == output[0, 1:].tolist()


def test_progress_counts_prompts_and_tokens() -> None:
    seen: list[tuple[int, int, int]] = []
    results = generate(
        tiny("hrm-tiny"), PROMPTS[:5], n=2, max_new_tokens=4, on_progress=lambda *values: seen.append(values)
    )
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5]
    assert seen[-1] == (5, 5, sum(len(sample.tokens) for samples in results for sample in samples))
