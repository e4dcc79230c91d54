"""The stage `finetune`: prepare, train, save, report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hrmctl_models.loading import build, count_parameters, load, load_tokenizer, put_folder, resolve_device, save
from hrmctl_models.tokenizers import train_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hrmctl import Artifact, Context, InputError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl_finetune.checkpoint import Progress, read_checkpoint, sweep
from hrmctl_finetune.examples import Example, Order, Row, encode_rows, read_rows
from hrmctl_finetune.memory import PeakMemory
from hrmctl_finetune.optimizers import make_optimizers
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.training import NONFINITE, Training

_CHECKPOINT = "checkpoint.pt"


def run(params: FinetuneParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Train every weight of a model on a data set, from an architecture (`init`) or from a model.

    Continues from the checkpoint of a killed attempt to the very weights that an undisturbed one
    ends with (on the CPU, with the same number of threads). Raises InputError where not exactly one
    start is given, StageError for unusable rows and where loss or gradient stop being finite
    (with `on_nonfinite: skip`, only where they stay so).
    """
    parent: Artifact | None = inputs.get("model")
    if (params.init is None) == (parent is None):
        given = "both were" if parent else "neither was"
        raise InputError(f"finetune starts from an architecture (init) or from a model, and {given} given; give one")
    torch.set_num_threads(ctx.threads)
    device = resolve_device(ctx.device)
    with PeakMemory() as memory:
        rows = read_rows(inputs["data"].path)
        model, tokenizer = _start(params, parent, rows, ctx)
        _check_positions(model, params.max_length)
        examples, too_long = _encoded(rows, tokenizer, params, ctx, "training")
        validation: list[Example] = []
        if "validation" in inputs:
            validation, _ = _encoded(read_rows(inputs["validation"].path), tokenizer, params, ctx, "validation")
        training = _training(params, model.to(device), tokenizer, examples, validation, device, memory, ctx)
        done = training.run(ctx)
        folder = ctx.scratch / "model"
        _check_weights(model)
        save(model.cpu().eval(), tokenizer, folder)
    output = Output(folder, params.init or parent.label)  # type: ignore[union-attr]
    about = {"model": output, "dataset": inputs["data"]}
    return StageResult({"model": output}, _evidence(training, done, memory, about, len(rows), len(too_long)))


def _start(
    params: FinetuneParams, parent: Artifact | None, rows: Sequence[Row], ctx: Context
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if parent is not None:
        loaded = load(parent.path, device="cpu", dtype="float32")
        return loaded.model, loaded.tokenizer
    tokenizer = _trained_tokenizer(params, rows, ctx.scratch / "tokenizer")
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    return build(str(params.init), len(tokenizer), ids, ctx.seed), tokenizer


def _trained_tokenizer(params: FinetuneParams, rows: Sequence[Row], folder: Path) -> PreTrainedTokenizerBase:
    """Trained once an attempt's scratch folder: a resumed run reads the tokens that its checkpoint was made with."""
    if not folder.is_dir():
        draft = folder.with_name(".tokenizer.draft")
        # Apart, as they are encoded: generation sees the prompt alone.
        texts = (text for row in rows for text in (row.prompt, row.completion))
        train_tokenizer(texts, params.vocab_size).save_pretrained(draft)
        put_folder(draft, folder)
    return load_tokenizer(folder)


def _check_positions(model: PreTrainedModel, max_length: int) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and max_length > limit:
        raise InputError(f"max_length {max_length} is over the model's {limit} positions; set max_length to {limit}")


def _encoded(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, params: FinetuneParams, ctx: Context, what: str
) -> tuple[list[Example], list[int]]:
    examples, too_long = encode_rows(rows, tokenizer, params.max_length, params.loss_on)
    if not examples:
        raise StageError(f"every {what} row is longer than {params.max_length} tokens; raise max_length")
    if too_long:
        ctx.log.warning(
            "%d of %d %s rows are longer than %d tokens and left out (first at line %d)",
            len(too_long),
            len(rows),
            what,
            params.max_length,
            too_long[0],
        )
    return examples, too_long


def _training(
    params: FinetuneParams,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    validation: Sequence[Example],
    device: torch.device,
    memory: PeakMemory,
    ctx: Context,
) -> Training:
    order = Order(examples, params.batch, ctx.seed)
    passes = params.epochs * order.batches_per_epoch / params.accumulation
    optimizers = make_optimizers(model, params)
    for name in (_CHECKPOINT, NONFINITE):
        sweep(ctx.scratch, name)
    checkpoint = ctx.scratch / _CHECKPOINT
    progress = read_checkpoint(checkpoint, model, optimizers, ctx.log)
    memory.include(progress.peak_memory, progress.memory_samples)
    return Training(
        model=model,
        optimizers=optimizers,
        order=order,
        validation=validation,
        params=params,
        steps=params.steps or max(1, math.ceil(passes)),
        # No token looks to its right, so what fills the end of a row is of no account; the real pad
        # token would only bring a warning about a mask that is not needed.
        pad=1 if tokenizer.pad_token_id == 0 else 0,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        memory=memory,
    )


def _check_weights(model: PreTrainedModel) -> None:
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise StageError(f"the last step left values that are not finite in {broken[0]}; lower lr")


def _evidence(
    training: Training, done: Progress, memory: PeakMemory, about: dict[str, Any], rows: int, too_long: int
) -> list[Observation]:
    model, params = training.model, training.params
    setting = {"device": training.device.type, "threads": torch.get_num_threads(), "precision": params.precision}
    vocabulary = model.get_input_embeddings().weight.shape[0]
    parameters = count_parameters(model)
    measured = {
        "vocabulary": _measured(vocabulary, "tokens"),
        "parameters": _measured(parameters, "parameters"),
        "nonfinite": _measured(done.nonfinite, "steps", done.step, {"on_nonfinite": params.on_nonfinite}),
        "peak_rss": _measured(memory.peak, "bytes", memory.samples, setting),
        "train_seconds": _measured(done.seconds, "seconds", done.step, setting),
        "train_cpu_seconds": _measured(done.cpu_seconds, "seconds", done.step, setting),
        "tokens_seen": _measured(done.tokens, "tokens", done.step),
        "examples_seen": _measured(done.examples, "examples", done.step),
        "rows_too_long": _measured(too_long, "rows", rows, {"max_length": params.max_length}),
    }
    series = Observation("training", "series/v1", {"series": done.series}, about)
    return [series, *(Observation(name, "measurement/v1", payload, about) for name, payload in measured.items())]


def _measured(value: float, unit: str, n: int = 1, context: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"value": value, "unit": unit, "n": n} | ({"context": context} if context else {})
