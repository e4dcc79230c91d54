"""Tiny random models of each family with a real tokenizer, and prompts of different lengths."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import hrmctl_models
import torch
from hrmctl_models.loading import LoadedModel
from transformers import AutoModelForCausalLM, PreTrainedConfig

FAMILIES = ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"]
IDS = {"bos": 1, "eos": 2, "pad": 0}
_OUTSIDE = re.compile("embed|wte|lm_head")
_VERBS = ["double", "reverse", "sort", "sum up", "square", "join with commas", "drop the first of", "count"]
PROMPTS = [
    f"# {verb} {'every ' * (i % 5)}{noun}\ndef f({noun[:1]}):\n"
    for i, (verb, noun) in enumerate((v, n) for v in _VERBS for n in ("xs", "words of s", "n"))
]


@cache
def tokenizer() -> Any:
    """A byte-level BPE trained on the prompts."""
    bodies = [f"    return {verb[:4]}(x) + {n}\n" for n, verb in enumerate(_VERBS)]
    return hrmctl_models.train_tokenizer(PROMPTS + bodies, 300)


@cache
def tiny(family: str) -> LoadedModel:
    """A random model of a registered architecture."""
    model = hrmctl_models.build(family, len(tokenizer()), IDS, seed=3)
    return _loaded(model)


def of_config(config: PreTrainedConfig) -> LoadedModel:
    """A random model of any transformers configuration."""
    torch.manual_seed(3)
    return _loaded(AutoModelForCausalLM.from_config(config).eval())


def _loaded(model: Any) -> LoadedModel:
    # At their usual scale, random weights write one and the same token whatever the prompt.
    inside = [w for name, w in model.named_parameters() if w.ndim > 1 and not _OUTSIDE.search(name)]
    with torch.no_grad():
        for weights in inside:
            weights.mul_(6)
    return LoadedModel(model, tokenizer(), torch.device("cpu"), sum(p.numel() for p in model.parameters()))


def greedy_of_transformers(loaded: LoadedModel, prompt: str, tokens: int) -> list[int]:
    """What `model.generate` gives for one prompt, without what it pads after the end token."""
    inputs = loaded.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    output = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=tokens)
    return output[0, inputs["input_ids"].shape[1] :].tolist()
