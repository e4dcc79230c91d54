"""Runs attempts at one training stage, each in a process of its own forked from this one, so that torch loads once.

    python attempts.py FOLDER

A line on stdin starts an attempt; its process id is printed, then its wait status. The line `fsync N`
starts one that kills itself before the N-th file is made durable.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import hrmctl_models.loading  # noqa: F401
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.stage import run

from hrmctl.testing import RecordingContext, make_artifact, make_context

PARAMS = FinetuneParams(
    init="hrm-tiny", steps=40, batch=8, lr=4e-3, vocab_size=290, checkpoint_interval=3, eval_interval=7
)


class Telling(RecordingContext):
    """Says on disk which step is done."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        (self.scratch.parent / "step").write_text(str(done))


def attempt(folder: Path) -> None:
    """One attempt; leaves the evidence in `evidence.json`."""
    context = make_context(folder)
    data = make_artifact(folder / "data.jsonl", "dataset", "tiny@train")
    validation = make_artifact(folder / "validation.jsonl", "dataset", "tiny@validation")
    result = run(PARAMS, {"data": (data,), "validation": validation}, Telling(context.scratch))
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
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            if line.startswith("fsync"):
                die_at_fsync(int(line.split()[1]))
            attempt(folder)
            os._exit(0)
        print(process, flush=True)
        print(os.waitpid(process, 0)[1], flush=True)


if __name__ == "__main__":
    main()
