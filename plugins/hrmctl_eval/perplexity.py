"""The stage `eval-perplexity`: how well a model predicts text, by hrmctl's code and by transformers' own."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hrmctl_models.loading import ADAPTER_MARK, QUANTIZED_MARK, LoadedModel, load
from hrmctl_models.perplexity import Perplexity, completion_perplexity, perplexity

from hrmctl import Artifact, Context, InputError, Observation, StageError, StageInputs, StageResult
from hrmctl_eval.perplexity_params import PerplexityParams
from hrmctl_eval.reference import Reference, fingerprints, of_transformers
from hrmctl_eval.texts import Pairs, Texts, read_texts

Payloads = dict[str, dict[str, Any]]


def run(params: PerplexityParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Score the data under the model, and where transformers can load the folder by itself, do so again with it.

    Raises StageError for rows that are not usable, for a model that answers in place, and where nothing can be scored
    or the perplexity is not finite.
    """
    model: Artifact = inputs["model"]
    data: Artifact = inputs["data"]
    torch.set_num_threads(ctx.threads)
    what = read_texts(data.path, data.label, params.limit)
    if isinstance(what, Pairs) and (params.window or params.stride):
        raise InputError(f"{data.label} holds prompts with completions, which are scored whole; leave window out")
    foreign = _foreign(model)
    ctx.progress(0, 2)
    loaded = load(model.path, device=ctx.device, dtype=params.dtype)
    if loaded.model.config.model_type == "hrm_act" and not loaded.model.config.causal:
        raise StageError(f"{model.label} answers in place and has no next token to predict; see eval-puzzles")
    own = _own(loaded, what, params, ctx.check)
    context = {"scored": what.kind, "limit": params.limit} | _extent(loaded, what, params)
    payloads = {"perplexity": _payload(own, context)}
    ctx.progress(1, 2)
    if params.reference and not foreign:
        ours, device = fingerprints(loaded.model), str(loaded.device)
        # Two copies of a large model would not fit side by side.
        del loaded
        gc.collect()
        found = of_transformers(model.path, what, device, params.dtype, params.window, params.stride, ctx.check)
        payloads |= _compared(found, ours, context)
    elif params.reference:
        ctx.log.warning("%s is %s, so only hrmctl's own perplexity is measured", model.label, foreign)
    ctx.progress(2, 2)
    about = {"model": model, "dataset": data}
    return StageResult(evidence=[Observation(name, "measurement/v1", seen, about) for name, seen in payloads.items()])


def _foreign(model: Artifact) -> str:
    """Why transformers by itself cannot compute what hrmctl does; empty where it can."""
    for mark, kind in ((QUANTIZED_MARK, "quantized by hrmctl"), (ADAPTER_MARK, "an adapter with its base")):
        if (model.path / mark).is_file():
            return kind
    known = _settings(model.path).get("model_type") != "hrm_act"
    return "" if known else "of an architecture that transformers does not have"


def _settings(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # what is wrong with the folder is for the loader to say
    return found if isinstance(found, dict) else {}


def _own(loaded: LoadedModel, what: Pairs | Texts, params: PerplexityParams, check: Callable[[], None]) -> Perplexity:
    size = params.batch_size
    if isinstance(what, Pairs):
        return completion_perplexity(loaded, what.prompts, what.completions, batch_size=size, each_batch=check)
    window, stride = params.window, params.stride
    return perplexity(loaded, what.texts, window=window, stride=stride, batch_size=size, each_batch=check)


def _extent(loaded: LoadedModel, what: Pairs | Texts, params: PerplexityParams) -> dict[str, Any]:
    given = {"window": params.window, "stride": params.stride} if isinstance(what, Texts) else {}
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    return {name: value for name, value in given.items() if value} | {"dtype": dtype, "device": loaded.device.type}


def _payload(found: Perplexity | Reference, context: Mapping[str, Any]) -> dict[str, Any]:
    """n counts the scored tokens."""
    extra = {"texts": found.texts, "skipped": found.skipped}
    return {"value": found.value, "unit": "perplexity", "n": found.tokens, "context": {**context, **extra}}


def _compared(found: Reference, ours: Mapping[str, str], context: Mapping[str, Any]) -> Payloads:
    """Transformers' perplexity, and how many of all tensors of either model are the same in both, bit for bit."""
    names = ours.keys() | found.tensors.keys()
    equal = sum(ours.get(name) == found.tensors.get(name) for name in names)
    tensors = {"value": equal, "unit": "tensors", "n": len(names)}
    return {"transformers_perplexity": _payload(found, context), "tensors_equal": tensors}
