"""One side of benchmarks/train.py, in a process of its own.

The first line of its standard input says what is trained. After each round it says on its standard output what that
took, and a further line starts the next one. The first round warms up: its time is none.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, TextIO

import hrmctl_models
import torch
from hrmctl_training.causal import CausalObjective
from hrmctl_training.examples import Example
from hrmctl_training.fit import fit
from hrmctl_training.memory import PeakMemory
from hrmctl_training.packing import PackedExamples
from hrmctl_training.params import TrainingParams
from hrmctl_training.watch import Advice, Watcher
from torch.nn.utils import clip_grad_norm_
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator
from transformers import logging as transformers_logging

from hrmctl.testing import make_context

IDS = {"bos": 1, "eos": 2, "pad": 0}
RATE = 1e-4
MANY = 10**6


@dataclass(frozen=True)
class Side:
    """What is trained and by what: `code` is trainer (transformers), loop (hrmctl) or naive (torch alone).

    A round is `steps` optimizer steps on `batch` of the `rows` (token ids); 0: as many as see every row once.
    """

    model: str
    vocabulary: int
    code: str
    precision: str
    optimizer: str
    packing: bool
    batch: int
    length: int
    steps: int
    threads: int
    rows: list[list[int]]


class Over(Exception):
    """Nobody asks for a further round."""


class Pace:
    """Waits before each round, and reports it when its steps are done."""

    def __init__(self, side: Side, model: torch.nn.Module, steps: int, memory: PeakMemory, answers: TextIO) -> None:
        self.steps = steps
        self.memory = memory
        self.answers = answers
        self.parameters = hrmctl_models.count_parameters(model)
        self.tokens = side.steps * side.batch * side.length or sum(map(len, side.rows))
        self.left = steps
        self.wall = self.cpu = 0.0

    def tick(self) -> None:
        """A step is done."""
        self.left -= 1
        if self.left:
            return
        wall, cpu = time.perf_counter(), time.process_time()
        told = {"wall": wall - self.wall, "cpu": cpu - self.cpu, "peak": self.memory.peak}
        told |= {"parameters": self.parameters, "tokens": self.tokens}
        print(json.dumps(told), file=self.answers, flush=True)
        if not sys.stdin.readline():
            raise Over
        self.left = self.steps
        self.wall, self.cpu = time.perf_counter(), time.process_time()


class _Callback(TrainerCallback):
    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.pace.tick()


class _Watcher(Watcher):
    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def after_step(self, *_: Any) -> Advice:
        self.pace.tick()
        return Advice()

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Any) -> None:
        """Nothing is carried."""


def by_trainer(side: Side, model: Any, pace: Pace, memory: PeakMemory, folder: Path) -> None:
    """Transformers' Trainer as it is, on rows of one length."""
    data = [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in side.rows]
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=side.batch,
        max_steps=MANY,
        learning_rate=RATE,
        bf16=side.precision == "bf16",
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model, arguments, train_dataset=data, data_collator=default_data_collator, callbacks=[_Callback(pace)]
    )
    trainer.train()


def by_loop(side: Side, model: Any, pace: Pace, memory: PeakMemory, folder: Path) -> None:
    """The loop of the stage `finetune`."""
    params = TrainingParams(
        steps=MANY,
        batch=side.batch,
        lr=RATE,
        precision=side.precision,  # type: ignore[arg-type]
        optimizer=side.optimizer,  # type: ignore[arg-type]
        max_length=side.length,
        checkpoint_interval=MANY,
    )
    objective = CausalObjective(model, pad=1)
    fit(model, objective, examples(side), [], params, memory, make_context(folder), [_Watcher(pace)])


def examples(side: Side) -> Sequence[Any]:
    """The rows as `finetune` sees them."""
    made = [Example(line, row, 1) for line, row in enumerate(side.rows, start=1)]
    return PackedExamples(made, side.length, 0) if side.packing else made


def naive(side: Side, model: Any, pace: Pace, memory: PeakMemory, folder: Path) -> None:
    """A loop as one writes it down: shuffled rows padded to the longest of the batch, the model's own loss, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, foreach=False, fused=False)
    model.train()
    for batch in padded(side):
        with torch.autocast("cpu", torch.bfloat16) if side.precision == "bf16" else nullcontext():
            loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        optimizer.step()
        loss.item()
        pace.tick()


def padded(side: Side) -> Iterator[dict[str, torch.Tensor]]:
    """Batches in an order that is shuffled once, padded on the right."""
    order = torch.randperm(len(side.rows), generator=torch.Generator().manual_seed(0)).tolist()
    for start in cycle(range(0, len(order), side.batch)):
        rows = [side.rows[i] for i in order[start : start + side.batch]]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        yield {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


CODE = {"trainer": by_trainer, "loop": by_loop, "naive": naive}


def main() -> None:
    """Train until nobody asks for more."""
    side = Side(**json.loads(sys.stdin.readline()))
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    torch.set_num_threads(side.threads)
    with tempfile.TemporaryDirectory() as folder, PeakMemory() as memory:
        model = hrmctl_models.build(side.model, side.vocabulary, IDS, seed=0)
        rows = len(examples(side)) if side.code == "loop" else len(side.rows)
        pace = Pace(side, model, side.steps or -(-rows // side.batch), memory, answers)
        with suppress(Over):
            CODE[side.code](side, model, pace, memory, Path(folder))


if __name__ == "__main__":
    main()
