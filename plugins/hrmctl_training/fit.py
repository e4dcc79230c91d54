"""From a model, an objective and examples to a finished training run and its evidence."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Sequence
from typing import Any

import torch
from hrmctl_models.loading import count_parameters
from transformers import PreTrainedModel

from hrmctl import Context, InputError, Observation, StageError
from hrmctl_training.budget import BUDGET, steps_within
from hrmctl_training.checkpoint import sweep
from hrmctl_training.examples import Order
from hrmctl_training.hrm_layers import lean_layers
from hrmctl_training.interventions import InterventionWatcher
from hrmctl_training.libraries import loaded_libraries, of_cuda
from hrmctl_training.loop import BEST, CHECKPOINT, NONFINITE, Training
from hrmctl_training.memory import PeakMemory
from hrmctl_training.objective import Objective
from hrmctl_training.optimizers import make_optimizers
from hrmctl_training.params import TrainingParams
from hrmctl_training.plan import needs_validation
from hrmctl_training.plateau import PlateauWatcher
from hrmctl_training.ranks import group_of
from hrmctl_training.watch import Watcher

# Above it the FLOPs of passes are not what their fit takes them for.
_RESIDUAL = 0.01


def fit(
    model: PreTrainedModel,
    objective: Objective,
    examples: Sequence[Any],
    validation: Sequence[Any],
    params: TrainingParams,
    memory: PeakMemory,
    ctx: Context,
    watchers: Sequence[Watcher] = (),
    order: Order | None = None,
) -> Training:
    """Train `model`, which is on its device, and return the finished run; its weights are those to be saved.

    Continues from a checkpoint in the scratch folder of `ctx` to the very weights that an undisturbed run
    ends with (on the CPU, with the same number of threads). Raises what `Training.run` raises.
    """
    _check_validated(params, validation)
    order = order or Order(examples, params.batch, ctx.seed)
    device = next(model.parameters()).device
    with group_of(params, device, ctx) as group:
        for name in (CHECKPOINT, NONFINITE, BEST, BUDGET) if group.leads else ():
            sweep(ctx.scratch, name)
        training = Training(
            model=model,
            objective=objective,
            optimizers=make_optimizers(model, params),
            order=order,
            validation=validation,
            params=params,
            steps=steps_of(params, order),
            device=device,
            folder=ctx.scratch,
            memory=memory,
            watchers=(*watchers, *_of_recipe(params)),
            group=group,
        )
        with lean_layers(model):
            if params.flops is not None:
                training.steps = steps_within(params.flops, training, ctx)
            training.run(ctx)
        group.leave()
    check_weights(model)
    if training.meter.residual > _RESIDUAL:
        ctx.log.warning("train_flops is a fit that is up to %.1f%% off", 100 * training.meter.residual)
    return training


def _check_validated(params: TrainingParams, validation: Sequence[Any]) -> None:
    """Raise InputError where something waits for a validation that there are no rows for."""
    wanted = [what for _, what in needs_validation(params)]
    if wanted and not validation:
        raise InputError(f"{wanted[0]} needs validation rows; give the input validation, or set validation_split")


def _of_recipe(params: TrainingParams) -> list[Watcher]:
    """The watchers that parameters ask for, in an order in which points of intervention see what the others found."""
    watchers: list[Watcher] = [PlateauWatcher(params.plateau)] if params.plateau else []
    return [*watchers, *([InterventionWatcher(params.interventions)] if params.interventions else [])]


def steps_of(params: TrainingParams, order: Order) -> int:
    """The optimizer steps of a run, where they are not derived from its FLOPs."""
    return params.steps or max(1, math.ceil(params.epochs * order.batches_per_epoch / params.accumulation))


def check_positions(model: PreTrainedModel, max_length: int) -> None:
    """Raise InputError where rows of `max_length` tokens have more positions than the model."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and max_length > limit:
        raise InputError(f"max_length {max_length} is over the model's {limit} positions; set max_length to {limit}")


def check_weights(model: PreTrainedModel) -> None:
    """Raise StageError naming the first weight that is not finite."""
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise StageError(f"the last step left values that are not finite in {broken[0]}; lower lr")


def observations(training: Training, about: dict[str, Any]) -> list[Observation]:
    """What the run measured: its curves as `training` (series/v1) and one measurement/v1 each of the rest.

    `final_val_*` are of the weights as they are handed over, which early stopping and a stop between two
    validations make others than those of the last point of the curve.
    """
    model, params, done, memory = training.model, training.params, training.progress, training.memory
    setting = {"device": training.device.type, "threads": torch.get_num_threads(), "precision": params.precision}
    several = training.group.size > 1
    if several:
        setting |= {"processes": training.group.size}
    flops, parts = _flops(training)
    measured = {
        "vocabulary": measured_value(model.get_input_embeddings().weight.shape[0], "tokens"),
        "parameters": measured_value(count_parameters(model), "parameters"),
        **{f"steps_on_{name}": measured_value(done.step, "steps", done.step) for name in _places(training.device)},
        "nonfinite": measured_value(done.nonfinite, "steps", done.step, {"on_nonfinite": params.on_nonfinite}),
        "updates": measured_value(done.step - done.nonfinite - done.overflows, "steps", done.step),
        "overflows": measured_value(done.overflows, "steps", done.step),
        "peak_rss": measured_value(memory.peak, "bytes", memory.samples, setting),
        "peak_memory": _peak_memory(training, setting),
        "train_seconds": measured_value(done.seconds, "seconds", done.step, setting),
        "train_cpu_seconds": measured_value(done.cpu_seconds, "seconds", done.step, setting),
        "train_flops": measured_value(flops, "FLOPs", done.step, parts),
        "train_tokens_per_second": measured_value(
            done.tokens / max(done.seconds, 1e-9), "tokens/s", done.step, setting
        ),
        "tokens_per_step": measured_value(done.tokens / done.step, "tokens", done.step),
        "tokens_seen": measured_value(done.tokens, "tokens", done.step),
        "epochs": measured_value(done.position / training.order.batches_per_epoch, "epochs", done.step),
        "examples_seen": measured_value(done.examples, "examples", done.step),
    }
    libraries = loaded_libraries()
    if libraries:
        cuda = of_cuda(libraries)
        measured["cuda_libraries"] = measured_value(len(cuda), "libraries", len(libraries), {"cuda": cuda})
    if done.peak_device_memory:
        measured["peak_device_memory"] = measured_value(done.peak_device_memory, "bytes", done.step, setting)
    if several:
        largest, of_all = max(done.peak_memory, memory.peak), memory.peak + training.memory_of_others
        measured["peak_rss_of_a_process"] = measured_value(largest, "bytes", memory.samples, setting)
        measured["peak_rss"] = measured_value(max(done.memory_of_all, of_all), "bytes", memory.samples, setting)
        if not done.peak_device_memory:
            measured["peak_memory"] = measured["peak_rss"]
    if several and done.device_memory_of_all:
        total = measured_value(done.device_memory_of_all, "bytes", done.step, setting)
        measured["peak_device_memory_of_all"] = total
    saved = {"step": done.best_step or done.step, "stopped": done.stopped or ""}
    for name, value in training.final.items():
        measured[f"final_{name}"] = measured_value(value, "nats" if name == "val_loss" else "1", 1, saved)
    for watcher in training.watchers:
        measured |= watcher.measured()
    series = Observation("training", "series/v1", {"series": done.series}, about)
    return [series, *(Observation(name, "measurement/v1", payload, about) for name, payload in measured.items())]


def _peak_memory(training: Training, setting: dict[str, Any]) -> dict[str, Any]:
    """The peak where the model is trained: of the device's own memory, or of the process's where it has none."""
    done, memory = training.progress, training.memory
    if done.peak_device_memory:
        return measured_value(done.peak_device_memory, "bytes", done.step, setting)
    return measured_value(memory.peak, "bytes", memory.samples, setting)


def _places(device: torch.device) -> list[str]:
    """The kind of device; an Apple CPU, for which there are claims, has a name of its own besides."""
    apple = device.type == "cpu" and sys.platform == "darwin" and platform.machine() == "arm64"
    return [device.type, *(["apple_cpu"] if apple else [])]


def _flops(training: Training) -> tuple[int, dict[str, Any]]:
    """FLOPs of a finished run, and what they are made of; an update that was left out took none."""
    meter, done = training.meter, training.progress
    passes, updates = meter.passes, done.step - done.nonfinite - done.overflows
    optimizer = meter.per_update * updates
    parts = {"passes": passes, "optimizer": optimizer, "counted": meter.counted, "residual": meter.residual}
    budget = {} if training.params.flops is None else {"budget": training.params.flops}
    return passes + optimizer, parts | budget


def measured_value(value: float, unit: str, n: int = 1, context: dict[str, Any] | None = None) -> dict[str, Any]:
    """The payload of a measurement/v1."""
    return {"value": value, "unit": unit, "n": n} | ({"context": context} if context else {})
