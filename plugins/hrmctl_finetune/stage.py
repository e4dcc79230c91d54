"""The stage `finetune`: prepare, train, save, report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hrmctl_models.loading import (
    answers_in_place,
    load,
    resolve_device,
    save,
)
from hrmctl_training.fit import check_positions, fit, observations
from hrmctl_training.memory import PeakMemory
from hrmctl_training.packing import check_packing
from hrmctl_training.prepare import prepare
from hrmctl_training.probes import probes_of
from hrmctl_training.ranks import in_processes
from hrmctl_training.switches import checkpoint_activations, return_freed_memory, set_dropout
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hrmctl import Artifact, Context, InputError, Observation, Output, StageInputs, StageResult
from hrmctl_finetune.adapters import Adapted, adapt, first_rows, hand_over, with_setting
from hrmctl_finetune.objectives import feed
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.reference import witness
from hrmctl_finetune.start import fresh, label_of


@in_processes
def run(params: FinetuneParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Train a model on a data set, from an architecture (`init`) or from a model.

    Continues from the checkpoint of a killed attempt to the very weights that an undisturbed one
    ends with (on the CPU, with the same number of threads). Raises InputError where not exactly one
    start is given, StageError for unusable rows and where loss or gradient stop being finite
    (with `on_nonfinite: skip`, only where they stay so).
    """
    parent: Artifact | None = inputs.get("model")
    if (params.init is None) == (parent is None):
        given = "both were" if parent else "neither was"
        raise InputError(f"finetune starts from an architecture (init) or from a model, and {given} given; give one")
    if params.config and parent:
        raise InputError("config changes the architecture of fresh weights (init); a model keeps its own")
    torch.set_num_threads(ctx.threads)
    device = resolve_device(ctx.device)
    with PeakMemory() as memory:
        data: tuple[Artifact, ...] = inputs["data"]
        if params.low_memory:
            return_freed_memory(ctx.log)
        adapted = None if params.method == "full" else adapt(params, parent, device, ctx)  # type: ignore[arg-type]
        model, tokenizer = (adapted.model, adapted.tokenizer) if adapted else _start(params, parent, data, ctx)
        if params.dropout is not None and not adapted:
            set_dropout(model, params.dropout)
        if params.gradient_checkpointing:
            checkpoint_activations(model)
        if not answers_in_place(model.config):
            check_positions(model, params.max_length)
        if params.packing == "pack":
            check_packing(model)
        prepared = prepare(data, inputs.get("validation"), tokenizer, params, ctx)
        model = model.to(device)
        fed = feed(params, model, tokenizer, prepared, ctx)
        seen = witness(fed, model, adapted, params, lambda: _start(params, parent, data, ctx)[0])
        watchers = probes_of(model, tokenizer, data, inputs.get("validation"), params, ctx)
        training = fit(model, fed.objective, fed.examples, fed.validation, params, memory, ctx, watchers)
    unchanged = seen.measured(model) if seen else {}
    label = params.labelled(parent.label if parent else label_of(params))
    outputs, measured = _handed_over(model, tokenizer, adapted, label, prepared.examples, params, ctx)
    output = outputs["model"]
    evidence = [*with_setting(observations(training, prepared.about(output)), params), *measured]
    evidence += [
        Observation(name, "measurement/v1", found, prepared.about(output)) for name, found in unchanged.items()
    ]
    evidence += prepared.observations(output, training.order, training.progress.position)
    return StageResult(outputs, evidence)


def _handed_over(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    adapted: Adapted | None,
    label: str,
    examples: Sequence[Any],
    params: FinetuneParams,
    ctx: Context,
) -> tuple[dict[str, Output], list[Observation]]:
    if adapted:
        return hand_over(adapted, params, label, first_rows(examples), ctx)
    folder = ctx.scratch / "model"
    save(model.cpu().eval(), tokenizer, folder)
    return {"model": Output(folder, label)}, []


def _start(
    params: FinetuneParams, parent: Artifact | None, data: Sequence[Artifact], ctx: Context
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if parent is not None:
        loaded = load(parent.path, device="cpu", dtype="float32")
        return loaded.model, loaded.tokenizer
    return fresh(params, data, ctx)
