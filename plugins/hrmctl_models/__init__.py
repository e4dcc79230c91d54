"""Models for every stage: architectures, loading, saving, tokenizers, generation, perplexity.

A library package that stage plugins may import. Its public names are resolved on first use, so
that importing the package (which every `hrmctl --help` does) imports neither torch nor transformers.
Generation and perplexity are functions of the modules of those names (`hrmctl_models.generate.generate`).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hrmctl import ArchitectureSpec, hookimpl
from hrmctl_models.settings import settings_of

_HOMES = {
    "LoadedModel": "loading",
    "build": "loading",
    "count_parameters": "loading",
    "encode_pair": "tokenizers",
    "load": "loading",
    "resolve_device": "loading",
    "save": "loading",
    "train_tokenizer": "tokenizers",
}

__all__ = sorted(_HOMES)

_ARCHITECTURES = {
    "hrm-tiny": "HRM, d 128, 1 layer a stack, H 2, L 1: 0.5M parameters at 512 tokens of vocabulary",
    "hrm-small": "HRM, d 256, 2 layers a stack, H 2, L 2: 4M parameters at 1,024 tokens",
    "hrm-27m": "HRM, d 512, 3 layers a stack, H 2, L 2: 27M parameters at 8,192 tokens",
    "hrm-act-tiny": "HRM with adaptive computation, d 128, 1 layer a stack, in place: 0.4M parameters, for puzzles",
    "hrm-act-27m": "HRM with adaptive computation as published (d 512, 4 layers a stack), in place: 27M parameters",
    "hrm-act-text-tiny": "HRM with adaptive computation as a language model, d 128, 1 layer a stack: 0.5M parameters "
    "at 512 tokens",
    "gpt2-micro": "GPT-2, d 128, 2 layers: 0.5M parameters at 512 tokens, the size of hrm-tiny",
    "gpt2-tiny": "GPT-2, d 192, 4 layers: 2M parameters at 512 tokens, four times hrm-tiny",
    "gpt2-small": "GPT-2, d 384, 6 layers: 11M parameters at 1,024 tokens",
    "gpt2-117m": "GPT-2 as published (d 768, 12 layers), 124M parameters at its 50,257 tokens",
    "qwen2-tiny": "Qwen2, d 128, 2 layers, 4 query and 2 key-value heads: 0.5M parameters at 512 tokens",
    "llama-tiny": "Llama, d 128, 2 layers, 4 heads: 0.5M parameters at 512 tokens",
    "llama-160m": "Llama, d 1024, 12 layers, 16 heads: 155M parameters at 512 tokens, wide enough to measure memory on",
    "llama-1b": "Llama, d 2048, 22 layers, 32 query and 4 key-value heads: 970M parameters at 512 tokens",
}


@hookimpl
def hrmctl_architectures() -> list[ArchitectureSpec]:
    return [
        ArchitectureSpec(name, summary, f"hrmctl_models.architectures:{name.replace('-', '_')}", settings_of(name))
        for name, summary in _ARCHITECTURES.items()
    ]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
