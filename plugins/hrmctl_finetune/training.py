"""The training loop: steps, losses, checkpoints, and what happens at a value that is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
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

NONFINITE = "nonfinite.pt"
# A stray batch passes; so many steps on end without a finite one mean that the weights have diverged.
_MOST_SKIPPED = 10


@dataclass(frozen=True)
class Started:
    """When a step began, by the clock and by this process's processor time, seconds."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)


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
        """Train to the last step, reporting each one.

        Raises StageError at a loss or gradient that is not finite; with `on_nonfinite: skip` only after
        ten such steps in a row, or where no step of the run was finite.
        """
        self.model.train()
        try:
            while self.progress.step < self.steps:
                metrics = self._step(ctx)
                # Told before it is saved: a run killed in between repeats the step instead of losing its row.
                ctx.progress(self.progress.step, self.steps, **metrics)
                if self._is_due():
                    self._save()
        except Cancelled:
            self._save()
            raise
        return self.progress

    def _step(self, ctx: Context) -> dict[str, float]:
        started = Started()
        step, first = self.progress.step, self.progress.position
        batches = [collate(self.order.at(first + i), self.pad).to(self.device) for i in range(self.params.accumulation)]
        torch.manual_seed(derived_seed(ctx.seed, "step", step))
        rate = rate_at(step, self.steps, self.params)
        loss, norm = self._gradients(batches)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._keep(batches, rate)
            if self.params.on_nonfinite == "stop":
                raise self._stopped(batches, loss, norm)
            self._skip(batches, loss, norm, ctx)
            return self._count(batches, started)
        self.progress.nonfinite_in_a_row = 0
        set_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            optimizer.step()
        return self._count(batches, started, loss=loss, lr=rate, grad_norm=norm)

    def _skip(self, batches: Sequence[Batch], loss: float, norm: float, ctx: Context) -> None:
        done = self.progress
        done.nonfinite += 1
        done.nonfinite_in_a_row += 1
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        ctx.log.warning(
            "loss %s and gradient norm %s at step %d (data lines %s): its update is left out",
            loss,
            norm,
            done.step + 1,
            _shown(batches),
        )
        if done.nonfinite_in_a_row >= _MOST_SKIPPED or done.nonfinite == self.steps:
            raise StageError(
                f"{done.nonfinite_in_a_row} steps in a row had a loss or gradient that is not finite, the last of "
                f"them step {done.step + 1} of {self.steps}: training stopped. The first such batch and the "
                f"weights that it met are in {self._kept}; lower lr, raise warmup, or mend the data"
            )

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

    def _count(self, batches: Sequence[Batch], started: Started, **metrics: float) -> dict[str, float]:
        """Close a step; one without metrics was skipped and adds no point to the curves."""
        done = self.progress
        seconds = time.perf_counter() - started.wall
        done.cpu_seconds += time.process_time() - started.cpu
        tokens = sum(batch.tokens for batch in batches)
        done.step += 1
        done.position += len(batches)
        done.tokens += tokens
        done.examples += sum(len(batch.lines) for batch in batches)
        if metrics:
            metrics["tokens_per_second"] = tokens / max(seconds, 1e-9)
            done.record(self.steps, **metrics)
        else:
            metrics["nonfinite"] = done.nonfinite
        interval = self.params.eval_interval
        if self.validation and (done.step == self.steps or (interval and done.step % interval == 0)):
            metrics["val_loss"] = self.validation_loss()
            done.point("val_loss", metrics["val_loss"])
        done.seconds += seconds
        return metrics

    def _is_due(self) -> bool:
        step = self.progress.step
        return step == self.steps or step % self.params.checkpoint_interval == 0

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

    @property
    def _kept(self) -> Path:
        return self.checkpoint.with_name(NONFINITE)

    def _keep(self, batches: Sequence[Batch], rate: float) -> None:
        """Save the first batch of the run that was not finite, with the weights that it met."""
        if self.progress.nonfinite:
            return
        write_tensors(
            self._kept,
            {
                "step": self.progress.step,
                "lr": rate,
                "lines": [line for batch in batches for line in batch.lines],
                "input_ids": [batch.input_ids.cpu() for batch in batches],
                "labels": [batch.labels.cpu() for batch in batches],
                "model": self.model.state_dict(),
            },
        )

    def _stopped(self, batches: Sequence[Batch], loss: float, norm: float) -> StageError:
        return StageError(
            f"loss {loss} and gradient norm {norm} at step {self.progress.step + 1} of {self.steps}: "
            f"training stopped before the weights were touched. The batch (data lines {_shown(batches)}) "
            f"and the weights that it met are in {self._kept}; lower lr, raise warmup, or mend those lines"
        )


def _shown(batches: Sequence[Batch]) -> str:
    lines = sorted(line for batch in batches for line in batch.lines)
    return ", ".join(str(line) for line in lines[:8]) + (", …" if len(lines) > 8 else "")


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
