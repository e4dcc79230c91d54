"""Runs attempts at training stages, each in a process of its own forked from this one, so that torch loads once.

    python attempts.py FOLDER

A line `CASE PLACE MOMENT` on stdin starts an attempt at the case in the folder PLACE; it kills itself when it has
reported MOMENT times, or `fsync N` before the N-th file is made durable; 0 lets it finish. Its wait status is printed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import hrmctl_models.loading  # noqa: F401
from hrmctl_distill.params import DistillParams
from hrmctl_distill.stage import run as distill
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.stage import run as finetune

from hrmctl.testing import RecordingContext, make_artifact, make_context

COMMON: dict[str, Any] = {
    **{"steps": 12, "batch": 4, "lr": 4e-3, "max_length": 64, "checkpoint_interval": 4, "eval_interval": 5}
}
TAUGHT: dict[str, Any] = {**COMMON, "init": "llama-tiny"}
CASES: dict[str, FinetuneParams | DistillParams] = {
    "dpo": FinetuneParams(**COMMON),
    "dpo-lora": FinetuneParams(**COMMON, method="lora", rank=4, lora_dropout=0.1),
    "orpo": FinetuneParams(**COMMON, objective="orpo"),
    "logits": DistillParams(**TAUGHT),
    "layers": DistillParams(**{**TAUGHT, "init": "gpt2-tiny"}, method="progressive", progression="layers", phases=3),
    "difficulty": DistillParams(**TAUGHT, method="progressive", phases=3),
    "text": DistillParams(**TAUGHT, method="text", max_new_tokens=24, sampling_temperature=1.2),
}


class Mortal(RecordingContext):
    """Ends its process at a report."""

    moment = 0

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if len(self.rows) == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(shared: Path, case: str, folder: Path, moment: int) -> None:
    """One attempt; leaves the evidence in `evidence.json`."""
    context = Mortal(make_context(folder).scratch)
    context.moment = moment
    params = CASES[case]
    kind = "completions" if isinstance(params, DistillParams) else "preferences"
    model = make_artifact(shared / "model", "model", "parent")
    inputs = {
        "data": (make_artifact(shared / f"{kind}.jsonl", "dataset", "tiny@train"),),
        "validation": make_artifact(shared / f"{kind}-validation.jsonl", "dataset", "tiny@validation"),
    }
    if isinstance(params, DistillParams):
        result = distill(params, {"teacher": model, **inputs}, context)
    else:
        result = finetune(params, {"model": model, **inputs}, context)
    payloads = {o.name: o.payload for o in result.evidence}
    (folder / "evidence.json").write_text(json.dumps(payloads))


def die_at_fsync(number: int) -> None:
    """Let the n-th fsync of this process be its end."""
    real, seen = os.fsync, [0]

    def fsync(handle: int) -> None:
        seen[0] += 1
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = fsync


def main() -> None:
    shared = Path(sys.argv[1])
    for line in sys.stdin:
        case, place, *moment = line.split()
        process = os.fork()
        if process == 0:
            if moment[0] == "fsync":
                die_at_fsync(int(moment[1]))
            attempt(shared, case, shared / place, 0 if moment[0] == "fsync" else int(moment[0]))
            os._exit(0)
        print(os.waitpid(process, 0)[1], flush=True)


if __name__ == "__main__":
    main()
