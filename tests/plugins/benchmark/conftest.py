"""Tiny models on disk, and one benchmark of two of them, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from hrmctl_benchmark.params import BenchmarkParams

from hrmctl import StageResult
from hrmctl.testing import RecordingContext, make_artifact, make_context

TEXTS = [f"def f{i}(a, b):\n    return a + b * {i}\n" for i in range(40)]
PARAMS = BenchmarkParams(prompt_tokens=12, new_tokens=6, batch=3, trials=3, warmup=1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder by name; `wide` is a Llama of 80 MB in float32, most of it embeddings."""
    from hrmctl_models import build, save, train_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(TEXTS, 300)
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    for family in ("hrm-tiny", "gpt2-micro", "qwen2-tiny"):
        save(build(family, 300, ids, seed=1), tokenizer, root / family)
    config = LlamaConfig(
        vocab_size=75_000, hidden_size=256, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=True, dtype="float32",
    )  # fmt: skip
    save(LlamaForCausalLM(config), tokenizer, root / "wide")
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="session")
def benchmarked(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[StageResult, RecordingContext]:
    """The result of measuring `wide` against `gpt2-micro`, and the context it ran in."""
    from hrmctl_benchmark.stage import run

    context = make_context(tmp_path_factory.mktemp("run"))
    inputs = {
        "model": make_artifact(models["wide"], "model", "wide"),
        "baseline": make_artifact(models["gpt2-micro"], "model", "gpt2-micro"),
    }
    return run(PARAMS, inputs, context), context
