"""Speed and memory of training, hrm-27m against GPT-2 117M and loop against loop: `python benchmarks/train.py`.

Each side trains in a process of its own (peers/training.py) with the same number of threads. Sides take turns within a
round; ratios are taken within a round, and their median and range are printed, so that a busy machine slows all alike.
With --sequential a side runs all its rounds before the next one starts: a third of the memory, and a load that changes
in between spoils the ratios.
Parameters are counted from the weights. Memory is the greatest anonymous resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hrmctl_models
import torch
import transformers
from hrmctl_data.microcode import problems as microcode

PEER = Path(__file__).parent / "peers" / "training.py"
BATCH, LENGTH = 8, 256
HRM, GPT2 = ("hrm-27m", 8192), ("gpt2-117m", 50257)


@dataclass(frozen=True)
class Entry:
    """One side: model with its vocabulary, code, precision, optimizer, and whether rows are packed."""

    name: str
    model: tuple[str, int]
    code: str
    precision: str = "fp32"
    optimizer: str = "adamw"
    packing: bool = False


# Which sides run at once, since they take turns; the first of each is what the others are compared with.
MODELS = (
    Entry("GPT-2 117M, Trainer, fp32, AdamW", GPT2, "trainer"),
    Entry("hrm-27m, Trainer, fp32, AdamW", HRM, "trainer"),
    Entry("hrm-27m, hrmctl, fp32, Muon", HRM, "loop", optimizer="muon"),
    Entry("hrm-27m, hrmctl, bf16, Muon", HRM, "loop", "bf16", "muon"),
)
MORE = (
    Entry("GPT-2 117M, Trainer, bf16, AdamW", GPT2, "trainer", "bf16"),
    Entry("GPT-2 117M, hrmctl, fp32, AdamW", GPT2, "loop"),
    Entry("hrm-27m, hrmctl, fp32, AdamW", HRM, "loop"),
    Entry("hrm-27m, hrmctl, bf16, AdamW", HRM, "loop", "bf16"),
)
LOOPS = (
    Entry("naive loop, fp32, AdamW", HRM, "naive"),
    Entry("hrmctl, fp32, AdamW", HRM, "loop"),
    Entry("hrmctl, fp32, AdamW, packed", HRM, "loop", packing=True),
    Entry("hrmctl, bf16, Muon, packed", HRM, "loop", "bf16", "muon", packing=True),
)


@dataclass
class Running:
    """A side and what it has told of each round."""

    entry: Entry
    process: subprocess.Popen[str]
    rounds: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, entry: Entry, rows: Sequence[Sequence[int]], steps: int, threads: int) -> Running:
        """Start its process and wait until it has warmed up."""
        name, vocabulary = entry.model
        side = {"model": name, "vocabulary": vocabulary, "code": entry.code, "precision": entry.precision}
        side |= {"optimizer": entry.optimizer, "packing": entry.packing, "batch": BATCH, "length": LENGTH}
        side |= {"steps": steps, "threads": threads, "rows": rows}
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            [sys.executable, str(PEER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        running = cls(entry, process)
        running.say(json.dumps(side))
        running.answer()
        return running

    def say(self, line: str) -> None:
        """Give the side one line."""
        self.process.stdin.write(line + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def answer(self) -> dict[str, float]:
        """What the side tells of a round."""
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit(f"{self.entry.name} ended with {self.process.wait()}; see above")
        found: dict[str, float] = json.loads(line)
        return found

    def run(self) -> None:
        """One more round."""
        self.say("go")
        self.rounds.append(self.answer())

    def stop(self) -> None:
        """End its process."""
        self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def race(
    title: str, entries: Sequence[Entry], rows: Sequence[Sequence[int]], steps: int, asked: argparse.Namespace
) -> dict[str, Any]:
    """Let all sides take turns, or run one after the other; print and return what was measured."""
    threads, rounds = asked.threads, asked.rounds
    print(f"\n{title}; {threads} threads, load {os.getloadavg()[0]:.1f}, {rounds} rounds", flush=True)
    groups = [[entry] for entry in entries] if asked.sequential else [entries]
    sides = [side for group in groups for side in _turns(group, rows, steps, rounds, threads)]
    found = [_row(side, sides[0]) for side in sides]
    head = f"{'':34}{'M param':>8}{'tok/s':>8}{'  ratio, wall':22}{'  ratio, CPU':22}{'peak MB':>8}{'share':>7}"
    print(head)
    for row in found:
        print(_line(row), flush=True)
    return {"title": title, "threads": threads, "load": os.getloadavg()[0], "sides": found}


def _turns(
    entries: Sequence[Entry], rows: Sequence[Sequence[int]], steps: int, rounds: int, threads: int
) -> list[Running]:
    sides: list[Running] = []
    try:
        for entry in entries:
            sides.append(Running.start(entry, rows, steps, threads))
        for _ in range(rounds):
            for side in sides:
                side.run()
    finally:
        for side in sides:
            side.stop()
    return sides


def _row(side: Running, base: Running) -> dict[str, Any]:
    speeds = {kind: [r["tokens"] / r[kind] for r in side.rounds] for kind in ("wall", "cpu")}
    ratios = {
        kind: [s / (r["tokens"] / r[kind]) for s, r in zip(speeds[kind], base.rounds, strict=True)]
        for kind in ("wall", "cpu")
    }
    peak = side.rounds[-1]["peak"]
    return {
        "name": side.entry.name,
        "parameters": side.rounds[-1]["parameters"],
        "tokens_per_round": side.rounds[-1]["tokens"],
        "tokens_per_second": speeds["wall"],
        "tokens_per_cpu_second": speeds["cpu"],
        "ratio_wall": ratios["wall"],
        "ratio_cpu": ratios["cpu"],
        "peak": peak,
        "peak_share": peak / base.rounds[-1]["peak"],
    }


def _line(row: dict[str, Any]) -> str:
    speed = statistics.median(row["tokens_per_second"])
    ratios = "".join(f"  {_spread(row[name]):20}" for name in ("ratio_wall", "ratio_cpu"))
    return (
        f"{row['name']:34}{row['parameters'] / 1e6:8.1f}{speed:8.0f}{ratios}{row['peak'] / 1e6:8.0f}"
        f"{row['peak_share']:7.0%}"
    )


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def texts(path: Path | None) -> list[str]:
    """Prompt and solution of each problem of MBPP; of generated microcode where there is no file of it."""
    if path is None:
        rows = microcode("train", 2000, seed=7)
        return [row["prompt"] + row["completion"] for row in rows]
    return [row["text"] + "\n" + row["code"] for row in map(json.loads, path.read_text("utf-8").splitlines())]


def blocks(texts: Sequence[str], count: int) -> list[list[int]]:
    """The first `count` blocks of LENGTH tokens of all texts one behind the other."""
    ids = _encoded(texts)
    stream = [token for row in ids for token in row]
    stream *= -(-count * LENGTH // len(stream))
    return [stream[i * LENGTH : (i + 1) * LENGTH] for i in range(count)]


def mixed(texts: Sequence[str], count: int) -> list[list[int]]:
    """`count` texts, evenly spread over all, each cut to LENGTH tokens at most."""
    ids = _encoded(texts)
    return [ids[i * len(ids) // count][:LENGTH] for i in range(count)]


def _encoded(texts: Sequence[str]) -> list[list[int]]:
    tokenizer = hrmctl_models.train_tokenizer(texts, HRM[1])
    return [[*row, tokenizer.eos_token_id] for row in tokenizer(list(texts))["input_ids"]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = os.environ.get("HRMCTL_TEST_DATA")
    parser.add_argument("--mbpp", type=Path, default=Path(known) / "mbpp.jsonl" if known else None)
    parser.add_argument("--part", nargs="+", choices=("models", "more", "loops"), default=None)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=0, help="0 for 3, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and without the part `more`")
    parser.add_argument("--sequential", action="store_true", help="one side at a time, for 5 GB of memory")
    parser.add_argument("--out", type=Path, help="write what was measured as JSON")
    return parser.parse_args()


def main() -> None:
    """Race the models at one length of all rows, and the loops on rows as they come."""
    asked = _arguments()
    parts = asked.part or (("models", "loops") if asked.quick else ("models", "more", "loops"))
    asked.rounds = asked.rounds or (2 if asked.quick else 3)
    begun, read = time.time(), texts(asked.mbpp)
    rows = blocks(read, 64)
    what = f"batch {BATCH} x {LENGTH} tokens"
    measured = []
    if "models" in parts:
        measured.append(race(f"Models, {what}", MODELS, rows, 1, asked))
    if "more" in parts:
        measured.append(race(f"Other settings, {what}", MORE, rows, 1, asked))
    if "loops" in parts:
        uneven = mixed(read, 64)
        lengths = sorted(map(len, uneven))
        what = f"{len(uneven)} rows of {lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}"
        measured.append(race(f"Loops, hrm-27m, {what}", LOOPS, uneven, 0, asked))
    print(f"\n{time.time() - begun:.0f} s")
    if asked.out:
        versions = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": sys.version.split()[0],
        }
        setting = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }
        asked.out.write_text(json.dumps({"setting": setting | versions, "measured": measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
