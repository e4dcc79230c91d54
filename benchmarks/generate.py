"""Samples a second of hrmctl's engine against transformers' own ways of generating: `python benchmarks/generate.py`.

Four real architectures with random weights write n samples for each problem, once to a fixed length and once
with end tokens that come after 32 tokens on average, as a trained model's do at no fixed place. Every way
must first give the greedy tokens that transformers gives for each prompt alone; one that does not is
named and not timed. Ways take turns within a round; ratios are taken within a round, and their median and range
are printed, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import hrmctl_models
import torch
import transformers
from hrmctl_data.benchmarks import humaneval, mbpp
from hrmctl_data.microcode import problems as microcode
from hrmctl_models.generate import encode_prompts, generate
from hrmctl_models.loading import LoadedModel
from transformers import ContinuousBatchingConfig, GenerationConfig

FAMILIES = ("hrm-tiny", "gpt2-tiny", "qwen2-tiny", "llama-tiny")
TEMPERATURE = 0.8
MEAN_LENGTH = 32
PAD = 0
Tokens = list[list[list[int]]]


@dataclass(frozen=True)
class Workload:
    """What is asked of every way: `samples` of each prompt, at most `length` tokens, one of `ends` ends a sample."""

    loaded: LoadedModel
    prompts: Sequence[str]
    samples: int
    length: int
    ends: Sequence[int]
    batch: int
    greedy: bool = False

    @property
    def ids(self) -> list[list[int]]:
        """The prompts as every way reads them."""
        return encode_prompts(self.loaded.tokenizer, self.prompts)

    @property
    def settings(self) -> GenerationConfig:
        """The same workload in transformers' words."""
        chosen: dict[str, Any] = {"do_sample": False}
        if not self.greedy:
            chosen = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "top_p": 1.0}
        return GenerationConfig(
            max_new_tokens=self.length,
            num_return_sequences=self.samples,
            eos_token_id=list(self.ends) or None,
            pad_token_id=PAD,
            **chosen,
        )

    def cut(self, tokens: Sequence[int]) -> list[int]:
        """A sample without what was padded after its end."""
        ends = [place for place, token in enumerate(tokens) if token in self.ends]
        return list(tokens[: ends[0] + 1 if ends else None])


def hrmctl(work: Workload) -> Tokens:
    """The engine of `hrmctl_models.generate`, its batches as large as it makes them; torch's seed is its own."""
    results = generate(
        work.loaded,
        work.prompts,
        n=work.samples,
        max_new_tokens=work.length,
        temperature=0 if work.greedy else TEMPERATURE,
        batch_size=0,
        seed=torch.initial_seed(),
    )
    return [[list(sample.tokens) for sample in samples] for samples in results]


def per_problem(work: Workload) -> Tokens:
    """transformers' `generate`, the n samples of one problem at a time."""
    return [_batch(work, [ids]) for ids in work.ids]


def batched(work: Workload) -> Tokens:
    """transformers' `generate` on batches of problems of about equal length, padded on the left."""
    ids = work.ids
    order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
    results: Tokens = [[] for _ in ids]
    for start in range(0, len(order), work.batch):
        places = order[start : start + work.batch]
        found = _batch(work, [ids[place] for place in places])
        for rank, place in enumerate(places):
            results[place] = found[rank * work.samples : (rank + 1) * work.samples]
    return results


def _batch(work: Workload, ids: list[list[int]]) -> list[list[int]]:
    longest = max(map(len, ids))
    padded = torch.tensor([[PAD] * (longest - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    model: Any = work.loaded.model
    output = model.generate(padded, attention_mask=mask, generation_config=work.settings)
    return [work.cut(row) for row in output[:, longest:].tolist()]


def continuous(work: Workload) -> Tokens:
    """transformers' `generate_batch` (continuous batching, paged cache), each sample a request."""
    requests = [ids for ids in work.ids for _ in range(work.samples)]
    page = 32
    pages = sum(-(-(len(ids) + work.length) // page) for ids in requests)
    settings = work.settings
    settings.num_return_sequences = 1
    model: Any = work.loaded.model
    output = model.generate_batch(
        inputs=requests,
        generation_config=settings,
        # Its guesses of cache and batch are made for GPUs: here they cost many seconds before the first token.
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=page, num_blocks=pages + 1, max_batch_tokens=1024, seed=0
        ),
        warmup=False,
    )
    found = [work.cut(answer.generated_tokens) for answer in output.values()]
    if len(found) != len(requests):
        raise RuntimeError(f"{len(requests) - len(found)} of {len(requests)} requests came back without an answer")
    return [found[start : start + work.samples] for start in range(0, len(found), work.samples)]


WAYS: dict[str, Callable[[Workload], Tokens]] = {
    "hrmctl": hrmctl,
    "generate, one problem": per_problem,
    "generate, left-padded": batched,
    "generate_batch": continuous,
}


def prompts_of(path: Path | None, count: int) -> list[str]:
    """The first problems of an MBPP or HumanEval file; microcode where there is none."""
    if path is None:
        return [row["prompt"] for row in microcode("test", count, seed=7)]
    splits = humaneval(path) if "humaneval" in path.name.lower() else mbpp(path)
    return [row["prompt"] for row in islice(splits["test"], count)]


def build(family: str, prompts: Sequence[str]) -> LoadedModel:
    """A model with random weights, scaled so that its tokens depend on the prompt, and no end token of its own."""
    tokenizer = hrmctl_models.train_tokenizer(prompts, 512)
    model = hrmctl_models.build(family, 512, {"bos": 1, "eos": 2, "pad": PAD}, seed=3)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and not any(word in name for word in ("embed", "wte", "lm_head")):
                weights.mul_(6)
    tokenizer.eos_token = None
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return LoadedModel(model, tokenizer, torch.device("cpu"), hrmctl_models.count_parameters(model))


def rare(samples: Tokens) -> list[int]:
    """Token ids that together are one in `MEAN_LENGTH` of those written; none of them is a frequent one."""
    counts = Counter(token for prompt in samples for tokens in prompt for token in tokens)
    chosen, mass, total = [], 0, counts.total()
    for token, count in counts.most_common():
        if (mass + count) * MEAN_LENGTH <= total:
            chosen.append(token)
            mass += count
    return chosen


def right(work: Workload) -> dict[str, str]:
    """For each way "" if its greedy tokens are transformers' own for each prompt alone, else what is wrong."""
    question = Workload(work.loaded, work.prompts, 1, min(work.length, 32), work.ends, work.batch, greedy=True)
    reference = per_problem(question)
    found = {}
    for name, way in WAYS.items():
        try:
            same = sum(a == b for a, b in zip(way(question), reference, strict=True))
        except Exception as error:
            found[name] = f"fails: {type(error).__name__}: {str(error)[:100]}"
            continue
        found[name] = "" if same == len(reference) else f"wrong: {same} of {len(reference)} prompts as they should be"
    return found


def measure(name: str, work: Workload, rounds: int) -> dict[str, Any]:
    """Seconds of each right way in each round; prints samples a second and ratios."""
    faults = right(work)
    if faults["hrmctl"]:
        raise SystemExit(f"{name}: hrmctl's engine is {faults['hrmctl']}; a wrong engine is not timed")
    ways = {way: run for way, run in WAYS.items() if not faults[way]}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    tokens = dict.fromkeys(ways, 0)
    for number in range(rounds):
        # Another order each round, so that no way always follows the same one.
        for way in sorted(ways, key=lambda way: (list(ways).index(way) + number) % len(ways)):
            torch.manual_seed(number)
            begun = time.perf_counter()
            results = ways[way](work)
            seconds[way].append(time.perf_counter() - begun)
            tokens[way] += sum(len(sample) for samples in results for sample in samples)
    total = len(work.prompts) * work.samples
    print(f"\n{name}: {len(work.prompts)} problems x {work.samples}, {rounds} rounds")
    rows = {}
    for way, fault in faults.items():
        rows[way] = {"fault": fault} if fault else _row(seconds[way], seconds["hrmctl"], tokens[way] / rounds, total)
        print(f"  {way:22} {fault or _line(rows[way])}", flush=True)
    return {"workload": name, "problems": len(work.prompts), "samples": work.samples, "ways": rows}


def _row(seconds: list[float], ours: list[float], tokens: float, total: int) -> dict[str, Any]:
    ratios = [theirs / own for theirs, own in zip(seconds, ours, strict=True)]
    return {
        "samples_per_second": total / statistics.median(seconds),
        "seconds": seconds,
        "tokens_per_sample": tokens / total,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def _line(row: dict[str, Any]) -> str:
    low, high = row["ratio_range"]
    speed = f"{row['samples_per_second']:8.1f} samples/s  {row['tokens_per_sample']:5.1f} tokens each"
    return f"{speed}  hrmctl is {row['ratio']:5.2f} x [{low:.2f}, {high:.2f}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = os.environ.get("HRMCTL_TEST_DATA")
    parser.add_argument("--problems", type=Path, default=Path(known) / "mbpp.jsonl" if known else None)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8, help="problems of a left-padded batch")
    parser.add_argument("--rounds", type=int, default=0, help="0 for 3, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="fewer problems and rounds")
    parser.add_argument("--out", type=Path, help="write what was measured as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure every family on both workloads."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    logging.disable(logging.ERROR)
    transformers.logging.set_verbosity_error()
    prompts = prompts_of(asked.problems, 8 if asked.quick else 16)
    fixed, longest = (32, 64) if asked.quick else (48, 96)
    rounds = asked.rounds or (2 if asked.quick else 3)
    measured = []
    for family in asked.families:
        loaded = build(family, prompts)
        work = Workload(loaded, prompts, asked.samples, fixed, (), asked.batch)
        # A seed of no round: chosen on the samples that are timed, these ends would be frequent in those alone.
        torch.manual_seed(rounds)
        ends = rare(hrmctl(work))
        measured.append(measure(f"{family}, {fixed} tokens", work, rounds))
        loaded.model.generation_config.eos_token_id = ends
        work = Workload(loaded, prompts, asked.samples, longest, ends, asked.batch)
        measured.append(measure(f"{family}, ends, at most {longest} tokens", work, rounds))
    if asked.out:
        versions = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": sys.version.split()[0],
        }
        setting = {"threads": asked.threads, "machine": platform.machine(), "cores": os.cpu_count(), **versions}
        asked.out.write_text(json.dumps({"setting": setting, "measured": measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
