"""Tiny models of every family on disk, built once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

TEXTS = [f"def f{i}(a, b):\n    return a + b * {i}\n" for i in range(40)]
FAMILIES = ("hrm-tiny", "gpt2-micro", "gpt2-tiny", "qwen2-tiny", "llama-tiny")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder by family; the vocabulary is the quickstart's, 512 tokens."""
    from hrmctl_models import build, save, train_tokenizer

    root = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(TEXTS, 300)
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    for family in FAMILIES:
        save(build(family, 512, ids, seed=1), tokenizer, root / family)
    return {family: root / family for family in FAMILIES}
