"""What preparing training data costs: `python benchmarks/training_data.py [--rows 200000]`.

Two ways over the same generated rows, each in a process of its own: the store on disk that training stages use, and all
rows and their token ids in memory. Both encode, then walk an epoch in batches of 32. Printed are rows per second of
processor time, the peak of anonymous memory above that of the imports, and, where HRMCTL_TEST_DATA names a folder with
MBPP and WikiText-2, the share of padding in batches of like length, in shuffled ones, and packed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = ["return", "value", "list", "number", "string", "first", "second", "sum", "items", "order", "print", "count"]
MBPP_TRAIN = range(601, 975)
BATCH, SHUFFLED = 32, 20


def generate(path: Path, rows: int) -> None:
    """Rows of 10 to 120 words from a vocabulary of a hundred thousand identifiers, so that none is like another."""
    rng = random.Random(1)
    with path.open("w") as stream:
        for i in range(rows):
            words = [rng.choice(WORDS) if rng.random() < 0.7 else f"v{rng.randrange(100_000)}" for _ in range(110)]
            cut = rng.randrange(5, 60)
            row = {"prompt": f"# {i} {' '.join(words[:cut])}\n", "completion": " ".join(words[cut : cut * 2])}
            stream.write(json.dumps(row) + "\n")


def measure(way: str, path: Path, scratch: Path) -> dict[str, float]:
    """Encode and walk one epoch, in this process."""
    import torch
    from hrmctl_models.tokenizers import encode_pairs, train_tokenizer
    from hrmctl_training.examples import Example, Order, collate
    from hrmctl_training.formats import Chat
    from hrmctl_training.memory import PeakMemory, anonymous_bytes
    from hrmctl_training.params import TrainingParams
    from hrmctl_training.prepare import prepare
    from hrmctl_training.rows import Reader

    from hrmctl.testing import make_artifact, make_context

    torch.set_num_threads(1)
    tokenizer = train_tokenizer([" ".join(WORDS)] * 3, 400)
    start, began = anonymous_bytes(), time.process_time()
    with PeakMemory() as memory:
        examples: Any
        if way == "store":
            data = make_artifact(path, "dataset", "generated")
            examples = prepare(
                (data,), None, tokenizer, TrainingParams(max_length=2048), make_context(scratch)
            ).examples
        else:
            rows = list(Reader(path, "auto", Chat()))
            heads, tails = encode_pairs(tokenizer, [r.pairs[0][0] for r in rows], [r.pairs[0][1] for r in rows])
            examples = [Example(r.line, [*h, *t, 2], len(h)) for r, h, t in zip(rows, heads, tails, strict=True)]
        encoded = time.process_time() - began
        order = Order(examples, BATCH, 0)
        for position in range(order.batches_per_epoch):
            collate(order.at(position), 0)
    walked = time.process_time() - began - encoded
    n = len(examples)
    return {"rows/s encoded": n / encoded, "rows/s read": n / walked, "peak MB": (memory.peak - start) / 1e6}


def padding(folder: Path, scratch: Path) -> dict[str, dict[str, float]]:
    """Shares of padding on real text."""
    import torch
    from hrmctl_models.tokenizers import train_tokenizer
    from hrmctl_training.order import lengths_of, padding_share
    from hrmctl_training.params import TrainingParams
    from hrmctl_training.prepare import prepare
    from hrmctl_training.sources import training_texts

    from hrmctl.testing import make_artifact, make_context

    train = scratch / "mbpp-train.jsonl"
    lines = (folder / "mbpp.jsonl").read_text().splitlines()
    train.write_text("\n".join(line for line in lines if json.loads(line)["task_id"] in MBPP_TRAIN) + "\n")
    found = {}
    for name, path in (("MBPP train", train), ("WikiText-2 test", folder / "wikitext2-test.txt")):
        data = make_artifact(path, "dataset", name)
        tokenizer = train_tokenizer(training_texts([data], TrainingParams()), 1024)
        shares = {}
        for packing in ("none", "pack"):
            params = TrainingParams(max_length=512, too_long="truncate", packing=packing)  # type: ignore[arg-type]
            examples = prepare((data,), None, tokenizer, params, make_context(scratch)).examples
            shares[packing] = padding_share(examples, BATCH, 0)
            if packing == "none":
                lengths = torch.as_tensor(lengths_of(examples))
                rows = torch.cat([torch.randperm(len(lengths)) for _ in range(SHUFFLED)]).split(BATCH)
                widths = sum(int(lengths[part].max()) * len(part) for part in rows)
                shares["shuffled"] = 1 - SHUFFLED * int(lengths.sum()) / widths
        found[name] = shares
    return found


def main() -> None:
    """Measure each way in a process of its own and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--way", choices=["store", "memory"])
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.way:
            print(json.dumps(measure(given.way, given.file, folder)))
            return
        generate(folder / "rows.jsonl", given.rows)
        print(f"{given.rows} rows, {(folder / 'rows.jsonl').stat().st_size / 1e6:.0f} MB")
        for way in ("store", "memory"):
            command = [sys.executable, __file__, "--way", way, "--file", str(folder / "rows.jsonl")]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            figures = json.loads(ended.stdout.splitlines()[-1])
            print(f"{way:8}", "  ".join(f"{key} {value:,.0f}" for key, value in figures.items()))
        if "HRMCTL_TEST_DATA" in os.environ:
            for name, shares in padding(Path(os.environ["HRMCTL_TEST_DATA"]), folder).items():
                print(f"padding of {name}:", "  ".join(f"{key} {share:.1%}" for key, share in shares.items()))


if __name__ == "__main__":
    main()
