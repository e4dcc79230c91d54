"""Peak memory of the same training steps with LoRA and with QLoRA, each stage in a process of its own.

    python benchmarks/qlora_memory.py [--width 1280 --layers 14] [--rows 4] [--length 64] [--steps 2]

The base is a Llama of random weights (its size decides, not what it knows), the rows are this repository's
documentation. Both methods adapt every linear layer at rank 16 with AdamW and `low_memory`. `peak` is the
stage's own `peak_rss`: anonymous memory while it loads and trains; mapped files do not count. `floor` is what
the process held before it loaded the base (Python, torch, transformers, peft, bitsandbytes), and `net` is
peak less floor. `file` is fp32, which is also what the weights are read from.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

DTYPES = ("bfloat16", "float32")
DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description="peak memory of QLoRA against LoRA")
    for name, default in (("width", 1280), ("layers", 14), ("rows", 4), ("length", 64), ("steps", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES, help="dtypes of the base")
    parser.add_argument("--one", nargs=4, metavar=("FOLDER", "METHOD", "DTYPE", "CHECKPOINTING"), help="one process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options, *options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report(options, folder)


def report(options: argparse.Namespace, folder: str) -> None:
    """Build the base, measure every setting, print the table."""
    parameters = int(started(options, folder, "make", "float32", "no")["parameters"])
    print(f"{parameters:,} parameters, {options.steps} steps of {options.rows} rows of {options.length} tokens")
    print(f"{'base':9} {'activations':11} {'method':6} {'peak MB':>8} {'floor MB':>8} {'net MB':>8} {'CPU s/step':>10}")
    for dtype, checkpointing in product(options.dtypes, ("yes", "no")):
        measured = {m: started(options, folder, m, dtype, checkpointing) for m in ("lora", "qlora")}
        word = "recomputed" if checkpointing == "yes" else "kept"
        for method, row in measured.items():
            sizes = (row["peak"], row["floor"], row["peak"] - row["floor"])
            figures = " ".join(f"{size / 1e6:8.0f}" for size in sizes)
            print(f"{dtype:9} {word:11} {method:6} {figures} {row['cpu'] / options.steps:10.1f}", flush=True)
        lora, qlora = measured["lora"], measured["qlora"]
        net = (qlora["peak"] - qlora["floor"]) / (lora["peak"] - lora["floor"])
        print(f"{'':28} QLoRA / LoRA: peak {qlora['peak'] / lora['peak']:.2f}, net {net:.2f}", flush=True)


def started(options: argparse.Namespace, folder: str, *setting: str) -> dict[str, Any]:
    """What the process of one setting printed."""
    sizes = [f"--{name}={getattr(options, name)}" for name in ("width", "layers", "rows", "length", "steps")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, *sizes, "--one", folder, *setting]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def one(options: argparse.Namespace, folder: str, method: str, dtype: str, checkpointing: str) -> dict[str, Any]:
    """In a process of its own: make the base, or run the stage once."""
    root = Path(folder)
    if method == "make":
        return {"parameters": make(options, root)}
    from hrmctl_finetune.params import FinetuneParams
    from hrmctl_finetune.stage import run
    from hrmctl_models.adapters import library
    from hrmctl_training.memory import anonymous_bytes

    from hrmctl.testing import make_artifact, make_context

    params = FinetuneParams(
        method=method,  # type: ignore[arg-type]
        base_dtype=dtype,  # type: ignore[arg-type]
        gradient_checkpointing=checkpointing == "yes",
        low_memory=True,
        merge=False,
        steps=options.steps,
        batch=options.rows,
        max_length=options.length,
        too_long="truncate",
        loss_on="all",
    )
    for name in ("peft", "bitsandbytes"):
        library(name)
    inputs = {"data": (make_artifact(root / "rows.jsonl", "dataset", "docs"),)}
    model = make_artifact(root / "base", "model", "llama")
    floor = anonymous_bytes()
    work = root / f"{method}-{dtype}-{checkpointing}"
    result = run(params, {**inputs, "model": model}, make_context(work))
    measured = {o.name: o.payload for o in result.evidence}
    cpu = measured["train_cpu_seconds"]["value"]
    return {"peak": measured["peak_rss"]["value"], "floor": floor, "cpu": cpu}


def make(options: argparse.Namespace, root: Path) -> int:
    """Write base and rows; the number of parameters."""
    import hrmctl_models
    from transformers import LlamaConfig, LlamaForCausalLM

    texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
    # Long enough that every row is cut to the asked-for number of tokens.
    size = 8 * options.length
    chunks = [text[i : i + size] for text in texts for i in range(0, len(text) - size, size)]
    rows = "".join(json.dumps({"text": chunk}) + "\n" for chunk in chunks)
    (root / "rows.jsonl").write_text(rows, encoding="utf-8")
    tokenizer = hrmctl_models.train_tokenizer(texts, 2048)
    heads = max(1, options.width // 64)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.width,
        intermediate_size=options.width * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    hrmctl_models.save(model, tokenizer, root / "base")
    return hrmctl_models.count_parameters(model)


if __name__ == "__main__":
    main()
