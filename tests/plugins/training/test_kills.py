"""kill -9 in preference training and distillation: the next attempt ends with the very bytes of an undisturbed run."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest

WORKER = Path(__file__).with_name("attempts.py")
TIMED = {
    "train_seconds",
    "train_tokens_per_second",
    "train_cpu_seconds",
    "peak_rss",
    "peak_memory",
    "merge_peak_rss",
    "merge_seconds",
}
SIGNS = {"add": "+", "subtract": "-", "multiply by": "*"}
ROWS = [
    {
        "prompt": f"# {verb} {k}\ndef f(n):\n",
        "completion": f"    return n {sign} {k}\n",
        "rejected": f"    n {sign} {k}\n",
    }
    for k in range(2, 8)
    for verb, sign in SIGNS.items()
]
# What is made durable first: token ids, generated rows, references, difficulties; then the first checkpoint.
EARLY = range(1, 16)


class Attempts:
    """A process that starts attempts, and what they leave in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._write()
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _write(self) -> None:
        for name, rows in (("", ROWS), ("-validation", ROWS[::4])):
            plain = [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]
            pairs = [{"prompt": r["prompt"], "chosen": r["completion"], "rejected": r["rejected"]} for r in rows]
            for kind, lines in (("completions", plain), ("preferences", pairs)):
                text = "".join(json.dumps(line) + "\n" for line in lines)
                (self.folder / f"{kind}{name}.jsonl").write_text(text)
        tokenizer = hrmctl_models.train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 290)
        model = hrmctl_models.build("llama-tiny", len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=5)
        # Its completions come to an end now and then, although it has learned nothing.
        model.get_output_embeddings().weight.data[tokenizer.eos_token_id] *= 8
        hrmctl_models.save(model, tokenizer, self.folder / "model")

    def attempt(self, case: str, place: str, moment: str = "0") -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{case} {place} {moment}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def left(self, place: str) -> tuple[bytes, dict[str, Any]]:
        """Weights and evidence of a finished attempt, without what is measured in time."""
        (weights,) = (self.folder / place / "scratch").rglob("model/model.safetensors")
        found = json.loads((self.folder / place / "evidence.json").read_text())
        found["training"]["series"].pop("tokens_per_second")
        return weights.read_bytes(), {name: payload for name, payload in found.items() if name not in TIMED}


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    made = Attempts(tmp_path_factory.mktemp("attempts"))
    yield made
    made.process.kill()
    made.process.wait()


_SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in ("dpo-lora", "orpo", "logits", "difficulty")]


@pytest.mark.parametrize("case", ["dpo", "layers", "text", *_SLOW])
def test_kills_change_nothing(attempts: Attempts, case: str) -> None:
    rng = random.Random(time.time_ns())
    steps = sorted(rng.sample(range(1, 11), 2))
    moments = [f"fsync {rng.choice(EARLY)}", *(str(step) for step in steps)]
    assert attempts.attempt(case, f"{case}-whole") == 0
    weights, evidence = attempts.left(f"{case}-whole")
    for moment in moments:
        assert attempts.attempt(case, f"{case}-cut", moment) in (signal.SIGKILL, 0), moments
    assert attempts.attempt(case, f"{case}-cut") == 0, moments
    found, seen = attempts.left(f"{case}-cut")
    assert found == weights, moments
    assert seen == evidence, moments
