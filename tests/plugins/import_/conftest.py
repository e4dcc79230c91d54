"""Tiny real models on disk, built once a session and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

TEXTS = [f"def f{i}(a, b):\n    return a + b * {i}\n" for i in range(40)]
FAMILIES = ("hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny")


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from hrmctl_models import build, save, train_tokenizer

    root = tmp_path_factory.mktemp("originals")
    tokenizer = train_tokenizer(TEXTS, 300)
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    for family in FAMILIES:
        save(build(family, 300, ids, seed=1), tokenizer, root / family)
    return {family: root / family for family in FAMILIES}


@pytest.fixture
def copy(originals: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def make(family: str) -> Path:
        return Path(shutil.copytree(originals[family], tmp_path / family))

    return make


@pytest.fixture
def sharded(originals: dict[str, Path], tmp_path: Path) -> Path:
    """The Llama model in several shards with an index."""
    from hrmctl_models import load

    folder = Path(shutil.copytree(originals["llama-tiny"], tmp_path / "sharded"))
    (folder / "model.safetensors").unlink()
    load(originals["llama-tiny"], device="cpu").model.save_pretrained(folder, max_shard_size="400KB")
    return folder
