"""The training loop: steps, losses, checkpoints, and what happens at a value that is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.optim import Optimizer

from hrmctl import Cancelled, Context, StageError
from hrmctl_training.average import WeightAverage
from hrmctl_training.checkpoint import Checkpoints, Progress, load_trained_state, trained_state, write_tensors
from hrmctl_training.examples import Batch, Order, derived_seed, in_order
from hrmctl_training.flops import Meter, Shape, shape_of
from hrmctl_training.memory import PeakMemory
from hrmctl_training.objective import Loss, Objective
from hrmctl_training.once import autocast
from hrmctl_training.optimizers import clip, rate_at, set_rate
from hrmctl_training.params import TrainingParams
from hrmctl_training.watch import Watcher

CHECKPOINT = "checkpoint.pt"
NONFINITE = "nonfinite.pt"
BEST = "best.pt"
# A stray batch passes; so many steps on end without a finite one mean that the weights have diverged.
_MOST_SKIPPED = 10


@dataclass(frozen=True)
class Started:
    """When a step began, by the clock and by this process's processor time, seconds."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)


@dataclass
class Training:
    """One training run: what is trained, on what, how, and where it stands.

    `final` is the validation of the weights that a finished run leaves in the model.
    """

    model: nn.Module
    objective: Objective
    optimizers: list[Optimizer]
    order: Order
    validation: Sequence[Any]
    params: TrainingParams
    steps: int
    device: torch.device
    folder: Path
    memory: PeakMemory
    watchers: Sequence[Watcher] = ()
    progress: Progress = field(default_factory=Progress)
    final: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.folder / CHECKPOINT, self.params.checkpoint_limit)
        self.average = WeightAverage(self.model, self.params.ema) if self.params.ema else None
        self.scaler = torch.amp.GradScaler(self.device.type) if self.params.precision == "fp16" else None
        self.meter = Meter(self.optimizers)

    def run(self, ctx: Context) -> Progress:
        """Train to the last step, reporting each one, and leave in the model the weights to be saved.

        Continues from the newest readable checkpoint. Raises StageError at a loss or gradient that is not
        finite; with `on_nonfinite: skip` only after ten such steps in a row, or where no step of the run was
        finite.
        """
        self._resume(ctx)
        self.model.train()
        try:
            while self.progress.step < self.steps and not self.progress.stopped:
                metrics = self._step(ctx)
                self._watch(metrics, ctx)
                # Told before it is saved: a run killed in between repeats the step instead of losing its row.
                ctx.progress(self.progress.step, self.steps, **metrics)
                if self._is_due():
                    self.save()
        except Cancelled:
            self.save()
            raise
        self._choose_weights(ctx)
        return self.progress

    def _step(self, ctx: Context) -> dict[str, float]:
        started = Started()
        step, first = self.progress.step, self.progress.position
        collated = [self.objective.collate(self.order.at(first + i)) for i in range(self.params.accumulation)]
        # On the host: reading a number from the device would wait for it.
        shapes = [shape_of(batch) for batch in collated]
        batches = [batch.to(self.device) for batch in collated]
        torch.manual_seed(derived_seed(ctx.seed, "step", step))
        rate = rate_at(step, self.steps, self.params) * self.progress.rate_scale
        loss, norm, metrics = self._gradients(batches, shapes)
        if math.isfinite(loss) and not math.isfinite(norm) and self._overflowed():
            return self._count(batches, started)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._nonfinite(batches, loss, norm, rate, ctx)
            return self._count(batches, started)
        self.progress.nonfinite_in_a_row = 0
        self._update(rate)
        return self._count(batches, started, loss=loss, lr=rate, grad_norm=norm, **metrics)

    def _gradients(self, batches: Sequence[Batch], shapes: Sequence[Shape]) -> tuple[float, float, dict[str, float]]:
        """Loss, gradient norm and further metrics of a step, fetched from the device together."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        units = sum(self.objective.units(batch) for batch in batches)
        scale = self.scaler.scale if self.scaler else _unscaled
        losses = []
        for batch, shape in zip(batches, shapes, strict=True):
            with self.meter.passing(shape, getattr(self.objective, "phase", 0)):
                with self.autocast():
                    loss = self.objective.loss(batch)
                scale(loss.total / units).backward()
            losses.append(Loss(loss.total.detach() / units, loss.sums))
        if self.scaler:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
        norm = clip((p for p in self.model.parameters() if p.grad is not None), self.params.grad_clip)
        names, numbers, counts = _summed(losses)
        total, norm_value, *sums = torch.stack([sum(x.total for x in losses), norm, *numbers]).tolist()  # type: ignore[arg-type]
        return total, norm_value, {name: s / n for name, s, n in zip(names, sums, counts, strict=True) if n}

    def _update(self, rate: float) -> None:
        set_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            if self.scaler:
                self.scaler.step(optimizer)
            else:
                optimizer.step()
        if self.scaler:
            self.scaler.update()
        if self.average:
            self.average.update(self.progress.step + 1)

    def _overflowed(self) -> bool:
        """Whether it was the fp16 scale that made the gradient infinite; it is then lowered."""
        if self.scaler is None or self.scaler.get_scale() <= 1:
            return False
        self.scaler.update()
        self.progress.overflows += 1
        return True

    def _nonfinite(self, batches: Sequence[Batch], loss: float, norm: float, rate: float, ctx: Context) -> None:
        self._keep(batches, rate)
        if self.params.on_nonfinite == "stop":
            raise self._stopped(batches, loss, norm)
        done = self.progress
        done.nonfinite += 1
        done.nonfinite_in_a_row += 1
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if self.scaler:
            self.scaler.update()
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

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the forward pass."""
        return autocast(self.params.precision, self.device)

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
        done.seconds += seconds
        if metrics:
            metrics["tokens_per_second"] = tokens / max(seconds, 1e-9)
            metrics["epoch"] = done.position / self.order.batches_per_epoch
            done.record(self.steps, **metrics)
        else:
            metrics["nonfinite"] = done.nonfinite
        interval = self.params.eval_interval
        if self.validation and (done.step == self.steps or (interval and done.step % interval == 0)):
            self._validate(metrics)
        return metrics

    def _validate(self, metrics: dict[str, float]) -> None:
        done = self.progress
        for name, value in self.validate().items():
            metrics[name] = value
            done.point(name, value)
        if self.params.early_stopping is None:
            return
        loss = metrics["val_loss"]
        if done.best_loss is None or loss < done.best_loss - self.params.early_stopping_delta:
            done.best_loss, done.best_step, done.worse = loss, done.step, 0
            with self._averaged():
                write_tensors(self.folder / BEST, {"model": trained_state(self.model), "step": done.step})
            return
        done.worse += 1
        if done.worse >= self.params.early_stopping:
            done.stopped = f"no better validation loss than {done.best_loss:.6g} of step {done.best_step}"

    def validate(self) -> dict[str, float]:
        """`val_loss`, the mean over all units of the validation rows, and the objective's own metrics.

        Of the moving average where there is one. Raises StageError if the loss is not finite.
        """
        with self._averaged():
            return self._measure_validation()

    @torch.no_grad()
    def _measure_validation(self) -> dict[str, float]:
        self.model.eval()
        losses, units = [], 0
        for examples in in_order(self.validation, self.params.batch):
            batch = self.objective.collate(examples).to(self.device)
            with self.autocast():
                losses.append(self.objective.evaluate(batch))
            units += self.objective.units(batch)
        self.model.train()
        total = float(sum(loss.total.item() for loss in losses))
        if not math.isfinite(total):
            raise StageError(f"the validation loss is {total} after step {self.progress.step}; lower lr")
        names, numbers, counts = _summed(losses)
        means = {f"val_{name}": float(s) / n for name, s, n in zip(names, numbers, counts, strict=True) if n}
        return {"val_loss": total / units, **means}

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.applied() if self.average else nullcontext()

    def _watch(self, metrics: dict[str, float], ctx: Context) -> None:
        done = self.progress
        epoch = metrics["epoch"] = done.position / self.order.batches_per_epoch
        for watcher in self.watchers:
            with self._averaged() if watcher.reads_weights(done.step) else nullcontext():
                advice = watcher.after_step(done.step, epoch, metrics, ctx)
            for name, value in advice.metrics.items():
                metrics[name] = value
                done.point(name, value)
            done.rate_scale *= advice.rate_scale
            done.stopped = done.stopped or advice.stop
        self.model.train()

    def _is_due(self) -> bool:
        step = self.progress.step
        return step == self.steps or bool(self.progress.stopped) or step % self.params.checkpoint_interval == 0

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        done = self.progress
        done.peak_memory, done.memory_samples = self.memory.peak, self.memory.samples
        done.peak_device_memory = max(done.peak_device_memory, self._device_memory())
        state = {
            "model": trained_state(self.model),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "objective": dict(self.objective.state()),
            "watchers": [dict(watcher.state()) for watcher in self.watchers],
            "average": self.average.average if self.average else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "meter": dict(self.meter.state()),
            "progress": asdict(done),
            "made_with": _made_with(),
        }
        self.checkpoints.write(state)

    def _device_memory(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0

    def _resume(self, ctx: Context) -> None:
        state = next(self.checkpoints.read(ctx.log), None)
        if state is None:
            if self.checkpoints.path.is_file():
                ctx.log.warning("no checkpoint can be read; training starts again from the beginning")
            return
        if state["made_with"] != _made_with():
            ctx.log.warning(
                "the checkpoint was made with %s, not %s: bits may differ", state["made_with"], _made_with()
            )
        load_trained_state(self.model, state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.objective.load_state(state["objective"])
        for watcher, saved in zip(self.watchers, state["watchers"], strict=True):
            watcher.load_state(saved)
        if self.average:
            self.average.load(state["average"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.meter.load_state(state["meter"])
        self.progress = Progress(**state["progress"])
        self.memory.include(self.progress.peak_memory, self.progress.memory_samples)
        ctx.log.info("continuing after step %d", self.progress.step)

    def _choose_weights(self, ctx: Context) -> None:
        done = self.progress
        if done.stopped:
            ctx.log.warning("stopped after step %d of %d: %s", done.step, self.steps, done.stopped)
        if self.params.early_stopping is not None and done.best_loss is not None:
            best: Mapping[str, Any] = torch.load(self.folder / BEST, map_location="cpu", weights_only=True)
            if best["step"] != done.best_step:
                raise StageError(f"{BEST} is of step {best['step']}, not {done.best_step}; remove {self.folder}")
            load_trained_state(self.model, best["model"])
        elif self.average:
            self.average.apply()
        self.final = self._final_validation()

    def _final_validation(self) -> dict[str, float]:
        """The validation of the weights as they are handed over, of which the last point of the curve may not be."""
        if not self.validation:
            return {}
        curves = {name: curve for name, curve in self.progress.series.items() if name.startswith("val_")}
        last = curves.get("val_loss", {"steps": [0]})["steps"][-1]
        if self.params.early_stopping is None and last == self.progress.step:
            return {name: curve["values"][-1] for name, curve in curves.items() if curve["steps"][-1] == last}
        return self._measure_validation()

    @property
    def _kept(self) -> Path:
        return self.folder / NONFINITE

    def _keep(self, batches: Sequence[Batch], rate: float) -> None:
        """Save the first batch of the run that was not finite, with the weights that it met."""
        if self.progress.nonfinite:
            return
        write_tensors(
            self._kept,
            {
                "step": self.progress.step + 1,
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


def _made_with() -> dict[str, Any]:
    """What the bits of a step depend on besides the stage's own key."""
    return {
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
    }


def _unscaled(loss: torch.Tensor) -> torch.Tensor:
    return loss


def _summed(losses: Sequence[Loss]) -> tuple[list[str], list[torch.Tensor], list[float]]:
    """Names, sums and counts of the metrics of several batches."""
    names = list(dict.fromkeys(name for loss in losses for name in loss.sums))
    empty = (0.0, 0.0)
    pairs = {name: [loss.sums.get(name, empty) for loss in losses] for name in names}
    where = losses[0].total.device if losses else None
    numbers = [sum(torch.as_tensor(s, dtype=torch.float32, device=where) for s, _ in pairs[name]) for name in names]
    return names, numbers, [sum(n for _, n in pairs[name]) for name in names]  # type: ignore[return-value]


def _shown(batches: Sequence[Batch]) -> str:
    lines = sorted(line for batch in batches for line in batch.lines)
    return ", ".join(str(line) for line in lines[:8]) + (", …" if len(lines) > 8 else "")
