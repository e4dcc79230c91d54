"""Seconds of 512 tokens, hrm-27m against GPT-2 117M, greedy with a key-value cache: `python benchmarks/latency.py`.

One prompt at a time, as somebody waits for an answer. Both by transformers' `generate`; hrm-27m also by the engine of
`hrmctl_models.generate`, whose tokens must be the same. The weights are random and no token ends the answer: time
depends on neither. Sides take turns within a round, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hrmctl_models
import torch
import transformers
from hrmctl_data.microcode import problems as microcode
from hrmctl_models.generate import encode_prompts, generate
from hrmctl_models.loading import LoadedModel

MODELS = {"gpt2-117m": 50257, "hrm-27m": 8192}
Run = Callable[[], list[int]]


def build(name: str, texts: Sequence[str]) -> LoadedModel:
    """The model with random weights, no end token, and a tokenizer that both share."""
    tokenizer = hrmctl_models.train_tokenizer(texts, 8192)
    model = hrmctl_models.build(name, MODELS[name], {"bos": 1, "eos": 2, "pad": 0}, seed=3)
    tokenizer.eos_token = None
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return LoadedModel(model, tokenizer, torch.device("cpu"), hrmctl_models.count_parameters(model))


def by_transformers(loaded: LoadedModel, prompt: str, tokens: int) -> list[int]:
    """`generate` of transformers."""
    ids = torch.tensor(encode_prompts(loaded.tokenizer, [prompt]))
    model: Any = loaded.model
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    return list(made[0, ids.shape[1] :].tolist())


def by_hrmctl(loaded: LoadedModel, prompt: str, tokens: int) -> list[int]:
    """hrmctl's engine."""
    return list(generate(loaded, [prompt], max_new_tokens=tokens, temperature=0)[0][0].tokens)


def measure(sides: dict[str, tuple[LoadedModel, Run]], rounds: int) -> list[dict[str, Any]]:
    """Seconds of every side in every round, and ratios to the first side."""
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (_, run) in sides.items():
            begun, used = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - begun)
            cpu[name].append(time.process_time() - used)
    base = next(iter(sides))
    return [
        {
            "name": name,
            "parameters": loaded.parameters,
            "seconds": wall[name],
            "cpu_seconds": cpu[name],
            "ratio_wall": [b / own for b, own in zip(wall[base], wall[name], strict=True)],
            "ratio_cpu": [b / own for b, own in zip(cpu[base], cpu[name], strict=True)],
        }
        for name, (loaded, _) in sides.items()
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=0, help="0 for 3, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--out", type=Path, help="write what was measured as JSON")
    return parser.parse_args()


def main() -> None:
    """Check that both engines write the same, then time all sides."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    logging.disable(logging.ERROR)
    transformers.logging.set_verbosity_error()
    texts = [row["prompt"] + row["completion"] for row in microcode("train", 500, seed=7)]
    prompt, tokens = texts[0], asked.tokens
    loaded = {name: build(name, texts) for name in MODELS}
    for model in loaded.values():
        if by_hrmctl(model, prompt, 16) != by_transformers(model, prompt, 16):
            raise SystemExit("the two engines write other tokens; nothing is timed")
    gpt2, hrm = loaded["gpt2-117m"], loaded["hrm-27m"]
    sides: dict[str, tuple[LoadedModel, Run]] = {
        "GPT-2 117M, transformers": (gpt2, lambda: by_transformers(gpt2, prompt, tokens)),
        "hrm-27m, transformers": (hrm, lambda: by_transformers(hrm, prompt, tokens)),
        "hrm-27m, hrmctl": (hrm, lambda: by_hrmctl(hrm, prompt, tokens)),
    }
    load = os.getloadavg()[0]
    found = measure(sides, asked.rounds or (2 if asked.quick else 3))
    print(f"{tokens} tokens of one prompt, fp32, {asked.threads} threads, load {load:.1f}")
    print(f"{'':28}{'M param':>8}{'seconds':>9}{'tok/s':>7}{'  ratio, wall':22}{'  ratio, CPU':20}")
    for row in found:
        seconds = statistics.median(row["seconds"])
        ratios = "".join(f"  {_spread(row[name]):20}" for name in ("ratio_wall", "ratio_cpu"))
        print(f"{row['name']:28}{row['parameters'] / 1e6:8.1f}{seconds:9.1f}{tokens / seconds:7.1f}{ratios}")
    if asked.out:
        setting = {"threads": asked.threads, "load": load, "tokens": tokens, "torch": torch.__version__}
        asked.out.write_text(json.dumps({"setting": setting, "measured": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
