"""The stage `finetune`: prepare, train, save, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from hrmctl_models.loading import build, load, load_tokenizer, put_folder, resolve_device, save
from hrmctl_models.tokenizers import train_tokenizer
from hrmctl_training.causal import CausalObjective
from hrmctl_training.examples import Example, Row, encode_rows, read_rows
from hrmctl_training.fit import check_positions, fit, measured_value, observations
from hrmctl_training.memory import PeakMemory
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hrmctl import Artifact, Context, InputError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl_finetune.params import FinetuneParams


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
    torch.set_num_threads(ctx.threads)
    device = resolve_device(ctx.device)
    with PeakMemory() as memory:
        rows = read_rows(inputs["data"].path)
        model, tokenizer = _start(params, parent, rows, ctx)
        check_positions(model, params.max_length)
        examples, too_long = _encoded(rows, tokenizer, params, ctx, "training")
        validation: list[Example] = []
        if "validation" in inputs:
            validation, _ = _encoded(read_rows(inputs["validation"].path), tokenizer, params, ctx, "validation")
        objective = CausalObjective(model, pad=1 if tokenizer.pad_token_id == 0 else 0)
        training = fit(model.to(device), objective, examples, validation, params, memory, ctx)
        folder = ctx.scratch / "model"
        save(model.cpu().eval(), tokenizer, folder)
    output = Output(folder, params.init or parent.label)  # type: ignore[union-attr]
    about = {"model": output, "dataset": inputs["data"]}
    left_out = measured_value(len(too_long), "rows", len(rows), {"max_length": params.max_length})
    evidence = [*observations(training, about), Observation("rows_too_long", "measurement/v1", left_out, about)]
    return StageResult({"model": output}, evidence)


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
