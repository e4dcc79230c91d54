"""The training loop: steps, losses, checkpoints, and the stop at the first value that is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import Optimizer
from transformers import PreTrainedModel

from hrmctl import Cancelled, Context, StageError
from hrmctl_finetune.checkpoint import Progress, write_checkpoint, write_tensors
from hrmctl_finetune.examples import IGNORED, Batch, Example, Order, collate, derived_seed, in_order
from hrmctl_finetune.memory import PeakMemory
from hrmctl_finetune.optimizers import clip, rate_at, set_rate
from hrmctl_finetune.params import FinetuneParams


@dataclass
class Training:
    """One training run: what is trained, on what, how, and where it stands."""

    model: PreTrainedModel
    optimizers: list[Optimizer]
    order: Order
    validation: Sequence[Example]
    params: FinetuneParams
    steps: int
    pad: int
    device: torch.device
    checkpoint: Path
    progress: Progress
    memory: PeakMemory

    def run(self, ctx: Context) -> Progress:
        """Train to the last step, reporting each one. Raises StageError at a loss or gradient that is not finite."""
        self.model.train()
        try:
            while self.progress.step < self.steps:
                metrics = self._step(ctx.seed)
                ctx.progress(self.progress.step, self.steps, **metrics)
        except Cancelled:
            self._save()
            raise
        return self.progress

    def _step(self, seed: int) -> dict[str, float]:
        started = time.perf_counter()
        step, first = self.progress.step, self.progress.position
        batches = [
            collate(self.order.at(first + i), self.pad).to(self.device) for i in range(self.params.accumulation)
        ]
        torch.manual_seed(derived_seed(seed, "step", step))
        rate = rate_at(step, self.steps, self.params)
        loss, norm = self._gradients(batches)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._stop(batches, loss, norm, rate)
        set_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            optimizer.step()
        tokens = sum(batch.tokens for batch in batches)
        seconds = time.perf_counter() - started
        return self._count(batches, tokens, seconds, loss=loss, lr=rate, grad_norm=norm)

    def _gradients(self, batches: Sequence[Batch]) -> tuple[float, float]:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        learned = sum(int((batch.labels != IGNORED).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            loss = self._loss_sum(batch) / learned
            loss.backward()
            total += loss.item()
        return total, clip((p for p in self.model.parameters() if p.grad is not None), self.params.grad_clip)

    def _loss_sum(self, batch: Batch) -> torch.Tensor:
        targets = batch.labels[:, 1:]
        wanted = targets != IGNORED
        with self._autocast(), only_positions(self.model, wanted) as selected:
            logits = self.model(input_ids=batch.input_ids[:, :-1], use_cache=False).logits
        if not selected:
            logits = logits[wanted]
        return functional.cross_entropy(logits.float(), targets[wanted], reduction="sum")

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.params.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _count(self, batches: Sequence[Batch], tokens: int, seconds: float, **metrics: float) -> dict[str, float]:
        done = self.progress
        done.step += 1
        done.position += len(batches)
        done.tokens += tokens
        done.examples += sum(len(batch.lines) for batch in batches)
        metrics["tokens_per_second"] = tokens / max(seconds, 1e-9)
        done.record(self.steps, **metrics)
        interval = self.params.eval_interval
        if self.validation and (done.step == self.steps or (interval and done.step % interval == 0)):
            metrics["val_loss"] = self.validation_loss()
            done.point("val_loss", metrics["val_loss"])
        done.seconds += seconds
        if done.step == self.steps or done.step % self.params.checkpoint_interval == 0:
            self._save()
        return metrics

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss over all learned tokens of the validation rows. Raises StageError if it is not finite."""
        self.model.eval()
        total, learned = 0.0, 0
        for examples in in_order(self.validation, self.params.batch):
            batch = collate(examples, self.pad).to(self.device)
            total += self._loss_sum(batch).item()
            learned += int((batch.labels != IGNORED).sum())
        self.model.train()
        if not math.isfinite(total):
            raise StageError(f"the validation loss is {total} after step {self.progress.step}; lower lr")
        return total / learned

    def _save(self) -> None:
        done = self.progress
        done.peak_memory, done.memory_samples = self.memory.peak, self.memory.samples
        write_checkpoint(self.checkpoint, self.model, self.optimizers, done)

    def _stop(self, batches: Sequence[Batch], loss: float, norm: float, rate: float) -> None:
        lines = [line for batch in batches for line in batch.lines]
        path = self.checkpoint.with_name("nonfinite.pt")
        write_tensors(path, {
            "step": self.progress.step,
            "lr": rate,
            "lines": lines,
            "input_ids": [batch.input_ids.cpu() for batch in batches],
            "labels": [batch.labels.cpu() for batch in batches],
            "model": self.model.state_dict(),
        })
        shown = ", ".join(str(line) for line in sorted(lines)[:8])
        raise StageError(
            f"loss {loss} and gradient norm {norm} at step {self.progress.step + 1} of {self.steps}: "
            f"training stopped before the weights were touched. The batch (data lines {shown}"
            f"{', …' if len(lines) > 8 else ''}) and the weights that it met are in {path}; "
            "lower lr, raise warmup, or mend those lines"
        )


@contextmanager
def only_positions(model: nn.Module, wanted: torch.Tensor) -> Iterator[list[bool]]:
    """Within this, the model computes logits only where `wanted` (rows, length) is true, as (chosen, vocabulary).

    The output layer is wide and most positions are prompt or padding. The list that is yielded is
    empty where the model has no output layer of its own to do this with.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    selected: list[bool] = []

    def choose(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if inputs[0].shape[:2] != wanted.shape:
            return inputs
        selected.append(True)
        return (inputs[0][wanted], *inputs[1:])

    handle = head.register_forward_pre_hook(choose) if head is not None else None
    try:
        yield selected
    finally:
        if handle is not None:
            handle.remove()
