"""The stage `distill`: teacher and student, data, an objective, training, evidence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from hrmctl_models.loading import LoadedModel, build, count_parameters, load, resolve_device, save
from hrmctl_training.causal import CausalObjective
from hrmctl_training.distillation import DistillObjective, mean_losses
from hrmctl_training.fit import check_positions, fit, measured_value, observations, steps_of
from hrmctl_training.memory import PeakMemory
from hrmctl_training.objective import Objective
from hrmctl_training.order import Order
from hrmctl_training.packing import check_packing
from hrmctl_training.prepare import Prepared, prepare
from hrmctl_training.probes import probes_of
from hrmctl_training.ranks import in_processes
from hrmctl_training.sources import training_texts
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hrmctl import Artifact, Context, InputError, Observation, Output, StageInputs, StageResult
from hrmctl.store import content_digest, content_size
from hrmctl_distill.params import DistillParams
from hrmctl_distill.progressive import Curriculum, LayerwiseObjective, shortened
from hrmctl_distill.text import Generated, generated, payload

_ENCODED_AT_ONCE = 1000


@in_processes
def run(params: DistillParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Train a student on a data set with the help of a teacher.

    Continues a killed attempt to the very weights that an undisturbed one ends with (on the CPU, with the
    same number of threads). Raises InputError where not exactly one start is given, or where logits cannot
    be compared because the tokenizers differ; StageError for unusable rows, completions or losses.
    """
    _check(params, inputs)
    torch.set_num_threads(ctx.threads)
    device = resolve_device(ctx.device)
    data = _many(inputs["data"])
    with PeakMemory() as memory:
        teacher = load(inputs["teacher"].path, device=str(device), dtype=params.teacher_dtype)
        student, tokenizer = _student(params, inputs, teacher, ctx)
        _check_causal(teacher.model, student)
        check_positions(student, params.max_length)
        if params.packing == "pack":
            check_packing(student)
            check_packing(teacher.model)
        made = generated(teacher, data, params, ctx) if params.method == "text" else None
        if made is None:
            _check_same(teacher, student, tokenizer, data, params)
        prepared = _prepared(made, data, inputs, tokenizer, params, ctx)
        if prepared.preference:
            raise InputError("distill learns from completions, and the data are preferences; give other data")
        student.to(device)  # type: ignore[arg-type]
        objective, order = _objective(params, teacher, student, tokenizer, prepared, ctx)
        watchers = probes_of(student, tokenizer, data, inputs.get("validation"), params, ctx)
        training = fit(
            student, objective, prepared.examples, prepared.validation, params, memory, ctx, watchers, order=order
        )
        if isinstance(objective, LayerwiseObjective):
            objective.detach()
        folder = ctx.scratch / "model"
        save(student.cpu().train(False), tokenizer, folder)
    output = Output(folder, params.labelled(_label(params, inputs)))
    outputs = {"model": output}
    if made:
        outputs["generated"] = Output(made.path, prepared.sources[0].artifact.label)
    about = {**prepared.about(output), "teacher": inputs["teacher"], **(_prompts(data) if made else {})}
    evidence = [
        *observations(training, about),
        *prepared.observations(output, _walked(order), training.progress.position),
        *_of_teacher(params, teacher, made, about),
    ]
    return StageResult(outputs, [_of_output(found, outputs, prepared) for found in evidence])


def _many(given: Artifact | Sequence[Artifact]) -> list[Artifact]:
    return [given] if isinstance(given, Artifact) else list(given)


def _check(params: DistillParams, inputs: StageInputs) -> None:
    starts = {"init": params.init, "layers": params.layers, "model": inputs.get("model")}
    given = [name for name, start in starts.items() if start is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "none of them"
        raise InputError(f"the student starts from init, from layers of the teacher or from a model; {found} given")
    if not _many(inputs["data"]):
        raise InputError("distill has no data; give at least one data set")


def _check_causal(*models: Any) -> None:
    kinds = [model.config.model_type for model in models]
    if "hrm_act" in kinds:
        raise InputError("hrm_act halts row by row and has no distribution to distil; train it with finetune")


def _label(params: DistillParams, inputs: StageInputs) -> str:
    if params.init:
        return params.init
    if params.layers:
        return f"{inputs['teacher'].label}-{params.layers}-layers"
    return str(inputs["model"].label)


def _student(
    params: DistillParams, inputs: StageInputs, teacher: LoadedModel, ctx: Context
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The student on the CPU in float32, and its tokenizer: its own, or with fresh weights the teacher's."""
    if "model" in inputs:
        loaded = load(inputs["model"].path, device="cpu", dtype="float32")
        return loaded.model, loaded.tokenizer
    if params.layers:
        whole = load(inputs["teacher"].path, device="cpu", dtype="float32")
        return shortened(whole.model, params.layers), teacher.tokenizer
    tokens = teacher.tokenizer
    ids = {"bos": tokens.bos_token_id, "eos": tokens.eos_token_id, "pad": tokens.pad_token_id}
    return build(str(params.init), _rows_of(teacher.model), ids, ctx.seed), tokens


def _rows_of(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _check_same(
    teacher: LoadedModel,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Sequence[Artifact],
    params: DistillParams,
) -> None:
    """Raise InputError where token i is not the same in both models, or a text of the data is encoded differently."""
    remedy = "logits can be compared with one tokenizer only: set method to text, or take another student"
    own, taught = tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if own != taught:
        apart = sorted(token for token in own.keys() | taught.keys() if own.get(token) != taught.get(token))
        raise InputError(
            f"the vocabularies of student and teacher differ in {len(apart)} tokens ({apart[0]!r}); {remedy}"
        )
    if tokenizer.eos_token_id != teacher.tokenizer.eos_token_id:
        raise InputError(f"student and teacher have different end tokens; {remedy}")
    if min(_rows_of(student), _rows_of(teacher.model)) < len(tokenizer):
        raise InputError(f"a model has fewer embeddings than its tokenizer has tokens ({len(tokenizer)}); {remedy}")
    if _written(tokenizer) == _written(teacher.tokenizer):
        return
    texts = training_texts(data, params)
    while some := list(islice(texts, _ENCODED_AT_ONCE)):
        for text, a, b in zip(some, _ids(tokenizer, some), _ids(teacher.tokenizer, some), strict=True):
            if a != b:
                raise InputError(f"student and teacher encode {text[:40]!r} differently; {remedy}")


def _written(tokenizer: PreTrainedTokenizerBase) -> str | None:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return None if backend is None else f"{backend.to_str()}{tokenizer.chat_template}"


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Any:
    return tokenizer(texts, return_attention_mask=False)["input_ids"]


def _prepared(
    made: Generated | None,
    data: Sequence[Artifact],
    inputs: StageInputs,
    tokenizer: PreTrainedTokenizerBase,
    params: DistillParams,
    ctx: Context,
) -> Prepared:
    """The data, or what the teacher made of it; rows of the data that were held out then stay as they are."""
    if made is None:
        return prepare(data, inputs.get("validation"), tokenizer, params, ctx)
    rows = _artifact(made.path, f"{inputs['teacher'].label}@generated")
    if made.held is None:
        return prepare([rows], inputs.get("validation"), tokenizer, params, ctx)
    held = _artifact(made.held, f"{data[0].label}@held")
    return prepare([rows], held, tokenizer, replace(params, validation_split=0.0), ctx)


def _artifact(path: Path, label: str) -> Artifact:
    return Artifact(content_digest(path), "dataset", label, path, content_size(path))


def _prompts(data: Sequence[Artifact]) -> dict[str, Artifact]:
    """The data sets whose prompts the teacher answered, as subjects of the evidence."""
    if len(data) == 1:
        return {"prompts": data[0]}
    return {f"prompts-{i}": artifact for i, artifact in enumerate(data, start=1)}


def _objective(
    params: DistillParams,
    teacher: LoadedModel,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
    ctx: Context,
) -> tuple[Objective, Order]:
    pad = 1 if tokenizer.pad_token_id == 0 else 0
    order = Order(prepared.examples, params.batch, ctx.seed)
    if params.method == "text":
        return CausalObjective(student, pad), order
    check_positions(teacher.model, params.max_length)
    vocabulary = min(_rows_of(student), _rows_of(teacher.model))
    distill = DistillObjective(student, teacher.model, pad, vocabulary, params.temperature, params.alpha)
    if params.method == "logits":
        return distill, order
    passes = steps_of(params, order) * params.accumulation
    if passes < params.phases:
        raise InputError(f"{params.phases} phases need as many forward passes, and there are {passes}; raise steps")
    if params.progression == "layers":
        return LayerwiseObjective(distill, params.phases, passes, ctx.seed), order
    losses = mean_losses(teacher.model, prepared.examples, pad, params.batch, "difficulty.jsonl", ctx)
    return distill, Curriculum(prepared.examples, losses, params.batch, ctx.seed, params.phases, passes)


@dataclass(frozen=True)
class _Walked:
    """An order without whole epochs, so that what it drew is counted pass by pass."""

    indices: Callable[[int], list[int]]
    batches_per_epoch: int = sys.maxsize


def _walked(order: Order) -> Any:
    return _Walked(order.indices) if isinstance(order, Curriculum) else order


def _of_output(found: Observation, outputs: dict[str, Output], prepared: Prepared) -> Observation:
    """What is about the generated rows is about them as an output."""
    made = outputs.get("generated")
    if made is None:
        return found
    rows = prepared.sources[0].artifact
    return replace(found, about={role: made if what == rows else what for role, what in found.about.items()})


def _of_teacher(
    params: DistillParams, teacher: LoadedModel, made: Generated | None, about: dict[str, Any]
) -> Iterator[Observation]:
    setting: dict[str, Any] = {"method": params.method}
    if params.method != "text":
        setting |= {"alpha": params.alpha, "temperature": params.temperature}
    if params.method == "progressive":
        setting |= {"progression": params.progression, "phases": params.phases}
    parameters = measured_value(count_parameters(teacher.model), "parameters", 1, setting)
    yield Observation("teacher_parameters", "measurement/v1", parameters, about)
    if made:
        yield Observation("teacher_completions", "measurement/v1", payload(made.counts), about)
