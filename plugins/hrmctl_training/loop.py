"""The training loop: steps, losses, checkpoints, and what happens at a value that is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hrmctl import Cancelled, Context, StageError
from hrmctl_training.average import WeightAverage
from hrmctl_training.checkpoint import (
    Checkpoints,
    Progress,
    load_trained_state,
    trained_state,
    write_tensors,
)
from hrmctl_training.examples import Batch, Order, derived_seed, in_order
from hrmctl_training.flops import Meter, Shape, counter, shape_of
from hrmctl_training.group import Group, step_of_all
from hrmctl_training.memory import PeakMemory
from hrmctl_training.nonfinite import keep, shown, stopped
from hrmctl_training.objective import Loss, Objective, summed
from hrmctl_training.once import autocast
from hrmctl_training.optimizers import clip, rate_at, set_rate
from hrmctl_training.params import TrainingParams
from hrmctl_training.saved import beginning, gathered, own, resume, save
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


@dataclass(frozen=True)
class Pass:
    """A forward pass of a step: what it is made of, and whether its FLOPs are counted (by `phase` of the objective)."""

    units: int
    tokens: int
    examples: int
    shape: Shape
    phase: int
    counted: bool = False


@dataclass
class Training:
    """One training run: what is trained, on what, how, and where it stands.

    `final` is the validation of the weights that a finished run leaves in the model. With several processes in `group`
    each has a run of its own; they make the same steps, and the first one does all else.
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
    group: Group = field(default_factory=Group)
    progress: Progress = field(default_factory=Progress)
    final: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.folder / CHECKPOINT, self.params.checkpoint_limit)
        leads = self.group.leads
        self.average = WeightAverage(self.model, self.params.ema) if self.params.ema and leads else None
        self.scaler = torch.amp.GradScaler(self.device.type) if self.params.precision == "fp16" else None
        self.meter = Meter(self.optimizers)
        # Of other processes: what they held, and how much of this one's processor time the first has been told.
        self.memory_of_others = 0
        self.told = 0.0

    def run(self, ctx: Context) -> Progress:
        """Train to the last step, reporting each one, and leave in the model the weights to be saved.

        Continues from the newest readable checkpoint. Raises StageError at a loss or gradient that is not
        finite; with `on_nonfinite: skip` only after ten such steps in a row, or where no step of the run was
        finite.
        """
        resume(self, ctx)
        self.model.train()
        begun = self._goes_on
        if begun or not self.group.leads:
            self.group.start(beginning(self), ctx)
        if not self.group.leads:
            return self._follow(ctx)
        try:
            while self._goes_on:
                self.group.tell("step", self.progress.rate_scale)
                metrics = self._step(ctx)
                self._watch(metrics, ctx)
                # Told before it is saved: a run killed in between repeats the step instead of losing its row.
                ctx.progress(self.progress.step, self.steps, **metrics)
                if self._is_due():
                    self.save()
        except Cancelled:
            self.save()
            raise
        if begun:
            gathered(self, "end")
        self._choose_weights(ctx)
        return self.progress

    @property
    def _goes_on(self) -> bool:
        return self.progress.step < self.steps and not self.progress.stopped

    def _follow(self, ctx: Context) -> Progress:
        """Make the steps that the first process asks for, until there are no more."""
        while (told := self.group.told())["do"] != "end":
            if told["do"] == "step":
                self.progress.rate_scale = told["rate_scale"]
                self._step(ctx)
            else:
                self.group.collected(own(self))
        self.group.collected(own(self))
        return self.progress

    def _step(self, ctx: Context) -> dict[str, float]:
        started = Started()
        share = self.group.share(self.params.accumulation)
        collated = [self.objective.collate(self.order.at(self.progress.position + number)) for number in share]
        # On the host: reading a number from the device would wait for it.
        shapes = [shape_of(batch) for batch in collated]
        batches = {number: batch.to(self.device) for number, batch in zip(share, collated, strict=True)}
        passes = self._planned(batches, shapes)
        rate = rate_at(self.progress.step, self.steps, self.params) * self.progress.rate_scale
        loss, norm, metrics = self._gradients(batches, passes, ctx)
        if math.isfinite(loss) and not math.isfinite(norm) and self._overflowed():
            return self._count(passes, started)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._nonfinite(list(batches.values()), loss, norm, rate, ctx)
            return self._count(passes, started)
        self.progress.nonfinite_in_a_row = 0
        self._update(rate)
        return self._count(passes, started, loss=loss, lr=rate, grad_norm=norm, **metrics)

    def _planned(self, batches: Mapping[int, Batch], shapes: Sequence[Shape]) -> list[Pass]:
        """All passes of the step, also those that other processes make."""
        own = []
        for (number, batch), shape in zip(batches.items(), shapes, strict=True):
            self._begin(number)
            phase = getattr(self.objective, "phase", 0)
            own.append((self.objective.units(batch), batch.tokens, len(batch.lines), shape, phase))
        every = [Pass(*told) for part in self.group.everyones(own) for told in part]
        return [replace(one, counted=self.meter.planned(tuple(one.shape), one.phase)) for one in every]  # type: ignore[arg-type]

    def _begin(self, number: int) -> None:
        if hasattr(self.objective, "at"):
            self.objective.at(self.progress.position + number)

    def _gradients(
        self, batches: Mapping[int, Batch], passes: Sequence[Pass], ctx: Context
    ) -> tuple[float, float, dict[str, float]]:
        """Loss, gradient norm and further metrics of a step, fetched from the device together."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        units = sum(one.units for one in passes)
        scale = self.scaler.scale if self.scaler else _unscaled
        losses, flops = [], []
        for number, batch in batches.items():
            # By pass: what is drawn depends on it alone, not on who draws.
            torch.manual_seed(derived_seed(ctx.seed, "step", self.progress.step, *([number] if number else [])))
            self._begin(number)
            with counter() if passes[number].counted else nullcontext() as counted:
                with self.autocast():
                    loss = self.objective.loss(batch)
                scale(loss.total / units).backward()
            losses.append(Loss(loss.total.detach() / units, loss.sums))
            flops += [int(counted.get_total_flops())] if counted else []
        if self.group.size > 1:
            weights = [p for p in self.model.parameters() if p.requires_grad]
            losses, flops = step_of_all(self.group, weights, losses, flops, self.device)
        for one, found in zip((one for one in passes if one.counted), flops, strict=True):
            self.meter.count(one.phase, found)
        if self.scaler:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
        norm = clip((p for p in self.model.parameters() if p.grad is not None), self.params.grad_clip)
        names, numbers, counts = summed(losses)
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
        done = self.progress
        if self.group.size > 1:
            every = range(done.position, done.position + self.params.accumulation)
            batches = [self.objective.collate(self.order.at(position)) for position in every]
        kept = self.folder / NONFINITE
        if self.group.leads and not done.nonfinite:
            keep(kept, self.model, batches, done.step + 1, rate)
        if self.params.on_nonfinite == "stop":
            raise stopped(batches, loss, norm, f"step {done.step + 1} of {self.steps}", kept)
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
            shown(batches),
        )
        if done.nonfinite_in_a_row >= _MOST_SKIPPED or done.nonfinite == self.steps:
            raise StageError(
                f"{done.nonfinite_in_a_row} steps in a row had a loss or gradient that is not finite, the last of "
                f"them step {done.step + 1} of {self.steps}: training stopped. The first such batch and the "
                f"weights that it met are in {kept}; lower lr, raise warmup, or mend the data"
            )

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the forward pass."""
        return autocast(self.params.precision, self.device)

    def _count(self, passes: Sequence[Pass], started: Started, **metrics: float) -> dict[str, float]:
        """Close a step; one without metrics was skipped and adds no point to the curves."""
        done = self.progress
        seconds = time.perf_counter() - started.wall
        done.cpu_seconds += time.process_time() - started.cpu
        tokens = sum(one.tokens for one in passes)
        done.step += 1
        done.position += len(passes)
        done.tokens += tokens
        done.examples += sum(one.examples for one in passes)
        done.seconds += seconds
        if metrics:
            metrics["tokens_per_second"] = tokens / max(seconds, 1e-9)
            metrics["epoch"] = done.position / self.order.batches_per_epoch
            done.record(self.steps, **metrics)
        else:
            metrics["nonfinite"] = done.nonfinite
        interval = self.params.eval_interval
        if (
            self.group.leads
            and self.validation
            and (done.step == self.steps or (interval and done.step % interval == 0))
        ):
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
            self.group.check()
            batch = self.objective.collate(examples).to(self.device)
            with self.autocast():
                losses.append(self.objective.evaluate(batch))
            units += self.objective.units(batch)
        self.model.train()
        total = float(sum(loss.total.item() for loss in losses))
        if not math.isfinite(total):
            raise StageError(f"the validation loss is {total} after step {self.progress.step}; lower lr")
        names, numbers, counts = summed(losses)
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
        save(self)

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


def _unscaled(loss: torch.Tensor) -> torch.Tensor:
    return loss
