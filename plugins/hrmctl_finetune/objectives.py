"""The objective that parameters and data ask for, and the examples as it needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hrmctl_training.act import ActObjective
from hrmctl_training.causal import CausalObjective
from hrmctl_training.in_place import InPlaceExamples
from hrmctl_training.objective import Objective
from hrmctl_training.order import Mixed
from hrmctl_training.preference import DpoObjective, OrpoObjective, referenced
from hrmctl_training.prepare import Prepared
from transformers import PreTrainedTokenizerBase

from hrmctl import Context, InputError
from hrmctl_finetune.params import FinetuneParams

# Parameters that only one objective has.
_OWN = {"beta": "dpo", "label_smoothing": "dpo", "orpo_lambda": "orpo"}


@dataclass(frozen=True)
class Feed:
    """An objective with what it is trained and validated on."""

    objective: Objective
    examples: Sequence[Any]
    validation: Sequence[Any]


def feed(
    params: FinetuneParams, model: Any, tokenizer: PreTrainedTokenizerBase, prepared: Prepared, ctx: Context
) -> Feed:
    """The objective of `params` over the model as it starts, on its device.

    For dpo the log-probabilities under the reference, which the model now is, are computed first and kept in the
    scratch folder. Raises InputError where objective, its parameters and the data do not go together.
    """
    kind = _kind(params, prepared.preference)
    pad = 1 if tokenizer.pad_token_id == 0 else 0
    plain = prepared.examples, prepared.validation
    if model.config.model_type == "hrm_act":
        return _adaptive(params, kind, model, tokenizer, prepared)
    if kind == "sft":
        return Feed(CausalObjective(model, pad), *plain)
    if kind == "orpo":
        return Feed(OrpoObjective(model, pad, params.orpo_lambda, params.loss_on), *plain)
    known = [
        referenced(model, pairs, pad, params.batch, params.precision, f"reference-{name}.jsonl", ctx)
        for name, pairs in zip(("training", "validation"), plain, strict=True)
    ]
    return Feed(DpoObjective(model, pad, params.beta, params.label_smoothing), *known)


def _adaptive(
    params: FinetuneParams, kind: str, model: Any, tokenizer: PreTrainedTokenizerBase, prepared: Prepared
) -> Feed:
    """Deep supervision with halting; the rows of a model that answers in place are turned into such."""
    if kind != "sft" or params.packing == "pack" or params.method != "full":
        raise InputError("hrm_act is trained in full on rows of its own: objective sft, method full, packing none")
    examples, validation = prepared.examples, prepared.validation
    pad = tokenizer.pad_token_id or 0
    if not model.config.causal:
        if params.loss_on == "all":
            raise InputError("a model that answers in place learns its answers; leave loss_on out")
        files = [str(source.artifact.path) for source in prepared.sources]
        part_of = examples.part_of if isinstance(examples, Mixed) else lambda _: 0
        examples = InPlaceExamples(examples, tokenizer, lambda number: files[part_of(number)])
        validation = InPlaceExamples(validation, tokenizer, lambda _: "validation rows") if validation else []
    objective = ActObjective.for_examples(model, pad, examples, params.batch, params.accumulation)
    return Feed(objective, examples, validation)


def _kind(params: FinetuneParams, preference: bool) -> str:
    kind = params.objective if params.objective != "auto" else "dpo" if preference else "sft"
    if preference != (kind != "sft"):
        needed = "completions" if preference else "preferences: prompt, chosen and rejected"
        raise InputError(f"objective {kind} learns from {needed}; give other data, or set objective to auto")
    defaults = FinetuneParams()
    foreign = [n for n, own in _OWN.items() if own != kind and getattr(params, n) != getattr(defaults, n)]
    if foreign:
        raise InputError(f"{', '.join(foreign)}: only {_OWN[foreign[0]]} has that, and the objective is {kind}")
    if kind == "dpo" and params.loss_on == "all":
        raise InputError("dpo compares completions, never prompts; leave loss_on out")
    return kind
