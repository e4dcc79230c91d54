"""From a model, an objective and examples to a finished training run and its evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from hrmctl_models.loading import count_parameters
from transformers import PreTrainedModel

from hrmctl import Context, InputError, Observation, StageError
from hrmctl_training.checkpoint import sweep
from hrmctl_training.examples import Order
from hrmctl_training.loop import BEST, CHECKPOINT, NONFINITE, Training
from hrmctl_training.memory import PeakMemory
from hrmctl_training.objective import Objective
from hrmctl_training.optimizers import make_optimizers
from hrmctl_training.params import TrainingParams
from hrmctl_training.watch import Watcher


def fit(
    model: PreTrainedModel,
    objective: Objective,
    examples: Sequence[Any],
    validation: Sequence[Any],
    params: TrainingParams,
    memory: PeakMemory,
    ctx: Context,
    watchers: Sequence[Watcher] = (),
) -> Training:
    """Train `model`, which is on its device, and return the finished run; its weights are those to be saved.

    Continues from a checkpoint in the scratch folder of `ctx` to the very weights that an undisturbed run
    ends with (on the CPU, with the same number of threads). Raises what `Training.run` raises.
    """
    order = Order(examples, params.batch, ctx.seed)
    passes = params.epochs * order.batches_per_epoch / params.accumulation
    for name in (CHECKPOINT, NONFINITE, BEST):
        sweep(ctx.scratch, name)
    training = Training(
        model=model,
        objective=objective,
        optimizers=make_optimizers(model, params),
        order=order,
        validation=validation,
        params=params,
        steps=params.steps or max(1, math.ceil(passes)),
        device=next(model.parameters()).device,
        folder=ctx.scratch,
        memory=memory,
        watchers=watchers,
    )
    training.run(ctx)
    check_weights(model)
    return training


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
    """What the run measured: its curves as `training` (series/v1) and one measurement/v1 each of the rest."""
    model, params, done, memory = training.model, training.params, training.progress, training.memory
    setting = {"device": training.device.type, "threads": torch.get_num_threads(), "precision": params.precision}
    measured = {
        "vocabulary": measured_value(model.get_input_embeddings().weight.shape[0], "tokens"),
        "parameters": measured_value(count_parameters(model), "parameters"),
        "nonfinite": measured_value(done.nonfinite, "steps", done.step, {"on_nonfinite": params.on_nonfinite}),
        "peak_rss": measured_value(memory.peak, "bytes", memory.samples, setting),
        "train_seconds": measured_value(done.seconds, "seconds", done.step, setting),
        "train_cpu_seconds": measured_value(done.cpu_seconds, "seconds", done.step, setting),
        "tokens_seen": measured_value(done.tokens, "tokens", done.step),
        "examples_seen": measured_value(done.examples, "examples", done.step),
    }
    series = Observation("training", "series/v1", {"series": done.series}, about)
    return [series, *(Observation(name, "measurement/v1", payload, about) for name, payload in measured.items())]


def measured_value(value: float, unit: str, n: int = 1, context: dict[str, Any] | None = None) -> dict[str, Any]:
    """The payload of a measurement/v1."""
    return {"value": value, "unit": unit, "n": n} | ({"context": context} if context else {})
